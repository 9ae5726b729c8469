/* The log's environment: its folder, and the file that reads pin so that another can take its
 * place while they are in it. */
#include "base/clock.h"
#include "base/crash.h"
#include "index/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char LIVE[] = "events", FRESH[] = "events.new", LEFT[] = "events.old";
/* An operator's file: a new log may take the place of one that was lost. */
static const char GIVEN_UP[] = "events-given-up";

static bool folder_exists(const char *path, const char *name)
{
    char folder[FILES_PATH_MAX];
    struct stat st;
    return files_join(folder, NULL, "%s/%s", path, name) == SEM_OK && stat(folder, &st) == 0;
}

/* The new file is whole before the old one leaves its place: without one in its place the new one is the
 * log, and if that is not there either, the old one. */
const char *events_folder(const char *path)
{
    if (folder_exists(path, LIVE))
        return LIVE;
    return folder_exists(path, FRESH) ? FRESH : folder_exists(path, LEFT) ? LEFT : LIVE;
}

bool events_left(const char *path)
{
    return folder_exists(path, FRESH) || folder_exists(path, LEFT);
}

static sem_status remove_left(const char *path, const char *name, sem_log *log, sem_error *err)
{
    char folder[FILES_PATH_MAX], quoted[FILES_PATH_MAX];
    if (!folder_exists(path, name))
        return SEM_OK;
    sem_status status = files_join(folder, err, "%s/%s", path, name);
    if (status == SEM_OK)
        status = files_remove_folder(folder, err);
    if (status == SEM_OK)
        log_event(log, LOG_LEVEL_INFO, "leftover_removed", "path=%s", log_value(quoted, sizeof quoted, folder));
    return status;
}

sem_status events_settle(const char *path, sem_log *log, sem_error *err)
{
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX];
    const char *name = events_folder(path);
    sem_status status = SEM_OK;
    if (strcmp(name, LIVE) != 0) {
        status = files_join(from, err, "%s/%s", path, name);
        if (status == SEM_OK)
            status = files_join(to, err, "%s/%s", path, LIVE);
        if (status == SEM_OK && rename(from, to) != 0)
            status = sem_fail(err, SEM_INTERNAL, "cannot rename %s to %s: %s", from, to, strerror(errno));
        crash_point("erase.settling");
        if (status == SEM_OK)
            status = files_sync_folder(path, err);
    }
    if (status == SEM_OK)
        status = remove_left(path, FRESH, log, err);
    return status == SEM_OK ? remove_left(path, LEFT, log, err) : status;
}

/* --- a log that was lost */

/* The key of users is written behind the log's tables, and no collection is made before it. Of a store that was
 * restored, which has no key yet, the collections tell. */
sem_status store_was_begun(const store *s, MDB_txn *main_txn, bool *begun, sem_error *err)
{
    MDB_val value;
    uint64_t collection = 0;
    const char *name = STORE_USER_KEY_NAME;
    sem_status status = table_get(&s->main, main_txn, s->main.meta, name, strlen(name), &value, begun, err);
    if (status == SEM_OK && !*begun)
        status = meta_get(&s->main, main_txn, "collection", &collection, err);
    *begun = *begun || collection > 0;
    return status;
}

/* A file that was lost must not pass for a log that is new: nobody would hear that the clicks are gone. */
static sem_status check_log_not_lost(store *s, sem_error *err)
{
    MDB_txn *txn;
    bool is_new, begun = false;
    sem_status status = environment_is_new(&s->events, &is_new, err);
    if (status != SEM_OK || !is_new || folder_exists(s->path, GIVEN_UP))
        return status;
    int rc = mdb_txn_begin(s->main.env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return environment_fail(&s->main, "look for its log", rc, err);
    status = store_was_begun(s, txn, &begun, err);
    mdb_txn_abort(txn);
    if (status == SEM_OK && begun)
        status = sem_fail(err, SEM_FAILED_PRECONDITION,
                          "%s/events/data.mdb, the log of searches, clicks and feedback, is empty or was lost; put the "
                          "file back or restore a backup, or give the log up: create the file %s/%s, and the next "
                          "start begins a new one",
                          s->path, s->path, GIVEN_UP);
    return status;
}

/* Its events get numbers that the old one cannot have given out: jobs, and whoever exported it, remember some. */
static sem_status number_anew(store *s, bool *anew, sem_error *err)
{
    MDB_txn *txn;
    uint64_t seq;
    int rc = mdb_txn_begin(s->events.env, NULL, 0, &txn);
    if (rc != 0)
        return environment_fail(&s->events, "begin a new log", rc, err);
    sem_status status = meta_get(&s->events, txn, "seq", &seq, err);
    *anew = status == SEM_OK && seq == 0;
    if (*anew)
        status = meta_put(&s->events, txn, "seq", (uint64_t)clock_wall_ms(), err);
    if (status != SEM_OK) {
        mdb_txn_abort(txn);
        return status;
    }
    rc = mdb_txn_commit(txn);
    return rc == 0 ? SEM_OK : environment_fail(&s->events, "begin a new log", rc, err);
}

/* With the tables there the permission has served, and must not hold for the next loss. */
static sem_status end_giving_up(store *s, sem_error *err)
{
    char path[FILES_PATH_MAX];
    bool anew = false;
    if (!folder_exists(s->path, GIVEN_UP))
        return SEM_OK;
    sem_status status = number_anew(s, &anew, err);
    if (status == SEM_OK)
        status = files_join(path, err, "%s/%s", s->path, GIVEN_UP);
    if (status == SEM_OK && unlink(path) != 0)
        status = files_fail(err, "remove", path);
    if (status == SEM_OK)
        log_event(s->log, LOG_LEVEL_WARNING, "event_log", "message=\"%s\"",
                  anew ? "given up: a new log was begun" : "events-given-up was removed: the log is there, and stays");
    return status == SEM_OK ? files_sync_folder(s->path, err) : status;
}

sem_status events_open(store *s, const char *name, environment *e, MDB_dbi tables[3], sem_error *err)
{
    const named_database list[] = {{"events", &tables[0]}, {"queries", &tables[1]}, {"clicks", &tables[2]}};
    sem_status status = environment_open(e, s, name, err);
    if (status != SEM_OK)
        return status;
    if (e == &s->events)
        status = check_log_not_lost(s, err);
    if (status == SEM_OK)
        status = environment_databases(e, list, sizeof list / sizeof list[0], err);
    if (status != SEM_OK)
        environment_close(e);
    return status;
}

sem_status events_open_first(store *s, sem_error *err)
{
    MDB_dbi tables[3];
    sem_status status = events_settle(s->path, s->log, err);
    if (status == SEM_OK)
        status = events_open(s, LIVE, &s->events, tables, err);
    if (status == SEM_OK)
        status = end_giving_up(s, err);
    if (status != SEM_OK)
        return status;
    s->event_log = tables[0];
    s->queries = tables[1];
    s->clicks = tables[2];
    s->events_file = calloc(1, sizeof *s->events_file);
    if (s->events_file == NULL)
        return sem_fail_memory(err, "the event log");
    s->events_file->env = s->events.env;
    return SEM_OK;
}

void events_close(store *s)
{
    environment_close(&s->events);
    free(s->events_file);
    s->events_file = NULL;
}

/* --- pins */

events_file *events_pin(store *s)
{
    pthread_mutex_lock(&s->lock);
    events_file *f = s->events_file;
    f->users++;
    pthread_mutex_unlock(&s->lock);
    return f;
}

static void close_file(events_file *f)
{
    mdb_env_close(f->env);
    free(f);
}

void events_unpin(store *s, events_file *f)
{
    if (f == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    bool last = --f->users == 0 && f->left;
    pthread_mutex_unlock(&s->lock);
    if (last)
        close_file(f);
}

void events_replace(store *s, events_file *f)
{
    pthread_mutex_lock(&s->lock);
    events_file *old = s->events_file;
    s->events_file = f;
    old->left = true;
    bool unused = old->users == 0;
    pthread_mutex_unlock(&s->lock);
    if (unused)
        close_file(old);
}

environment events_of(const store *s, const events_file *f)
{
    return (environment){.env = f->env,
                         .disk = s->path,
                         .name = "events",
                         .map_size = s->events.map_size,
                         .allocated = s->events.allocated};
}
