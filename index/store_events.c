/* The log's environment: its folder, and the file that reads pin so that another can take its
 * place while they are in it. */
#include "base/crash.h"
#include "index/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char LIVE[] = "events", FRESH[] = "events.new", LEFT[] = "events.old";

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

sem_status events_open(store *s, const char *name, environment *e, MDB_dbi tables[3], sem_error *err)
{
    const named_database list[] = {{"events", &tables[0]}, {"queries", &tables[1]}, {"clicks", &tables[2]}};
    sem_status status = environment_open(e, s, name, err);
    if (status != SEM_OK)
        return status;
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
