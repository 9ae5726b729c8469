/* Opening a store to look at it: without its writer, and without what an open store
 * would tidy up. */
#include "index/store_verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RECORD_LEAST = 8 /* bytes of a page that a record takes, at least: LMDB's own */ };

static void report(verify *v, const char *format, va_list args)
{
    char text[VERIFY_TEXT];
    vsnprintf(text, sizeof text, format, args);
    v->options->found(v->options->context, text);
}

void verify_report(verify *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(v, format, args);
    va_end(args);
    v->result.violations++;
}

void verify_report_cache(verify *v, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    report(v, format, args);
    va_end(args);
    v->result.caches++;
}

/* --- names for people */

const store_collection *verify_collection(const verify *v, uint32_t number)
{
    for (size_t i = 0; i < v->collection_count; i++)
        if (v->collections[i].number == number)
            return &v->collections[i];
    return NULL;
}

const char *verify_collection_name(const verify *v, uint32_t number, char out[VERIFY_NAME])
{
    const store_collection *c = verify_collection(v, number);
    if (c != NULL)
        snprintf(out, VERIFY_NAME, "%s", c->name);
    else
        snprintf(out, VERIFY_NAME, "collection number %u (which there is not)", number);
    return out;
}

const char *verify_document(const verify *v, uint32_t collection, const void *key, size_t length, char out[VERIFY_NAME])
{
    docid id;
    char name[VERIFY_NAME];
    verify_collection_name(v, collection, name);
    if (!docid_from_key(key, length, &id))
        snprintf(out, VERIFY_NAME, "%.100s/(an id of %zu bytes that is none)", name, length);
    else if (id.is_integer)
        snprintf(out, VERIFY_NAME, "%.100s/%llu", name, (unsigned long long)id.integer);
    else
        snprintf(out, VERIFY_NAME, "%.100s/\"%.*s\"", name, (int)id.length, id.string);
    return out;
}

const char *verify_numbered(verify *v, uint32_t collection, uint32_t docno, char out[VERIFY_NAME])
{
    const unsigned char *key;
    size_t length;
    bool found = false;
    char name[VERIFY_NAME];
    if (store_document_key(&v->r, collection, docno, &key, &length, &found, NULL) == SEM_OK && found)
        return verify_document(v, collection, key, length, out);
    snprintf(out, VERIFY_NAME, "number %u of %.100s", docno, verify_collection_name(v, collection, name));
    return out;
}

/* --- walking */

int verify_cursor(const environment *e, MDB_txn *txn, MDB_dbi dbi, MDB_cursor **out, size_t *left)
{
    MDB_stat stat;
    MDB_envinfo info;
    int rc = mdb_stat(txn, dbi, &stat);
    if (rc == 0)
        rc = mdb_env_info(e->env, &info);
    if (rc != 0)
        return rc;
    size_t room = (info.me_last_pgno + 1) * (stat.ms_psize / RECORD_LEAST);
    *left = stat.ms_entries < room ? stat.ms_entries : room;
    return mdb_cursor_open(txn, dbi, out);
}

int verify_next(MDB_cursor *cursor, size_t *left, MDB_val *key, MDB_val *value)
{
    int rc = mdb_cursor_get(cursor, key, value, MDB_NEXT);
    if (rc != 0)
        return rc;
    return (*left)-- > 0 ? 0 : MDB_CORRUPTED;
}

sem_status verify_walk(verify *v, environment *e, MDB_txn *txn, MDB_dbi dbi, verify_record *each, sem_error *err)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    size_t left;
    sem_status status = SEM_OK;
    if (dbi == 0) /* an older format has no such table */
        return SEM_OK;
    int rc = verify_cursor(e, txn, dbi, &cursor, &left);
    if (rc != 0)
        return environment_fail(e, "verify a table", rc, err);
    while (status == SEM_OK && (rc = verify_next(cursor, &left, &key, &value)) == 0)
        status = each(v, &key, &value, err);
    mdb_cursor_close(cursor);
    return status != SEM_OK || rc == MDB_NOTFOUND ? status : environment_fail(e, "verify a table", rc, err);
}

/* --- opening */

static sem_status lock_fail(const char *path, const char *name, sem_error *err)
{
    if (errno == EWOULDBLOCK)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s is in use by a running semd; stop it first", path);
    return sem_fail(err, SEM_INTERNAL, "cannot lock %s: %s", name, strerror(errno));
}

/* Where we may not write a shared lock keeps a daemon out as well. Without the file there is none to keep
 * out: it makes it first of all. Some file systems that are read-only know no locks. */
static sem_status lock_read_only(const char *path, const char *name, int *fd, sem_error *err)
{
    *fd = open(name, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 && errno == ENOENT)
        return SEM_OK;
    if (*fd < 0)
        return sem_fail(err, SEM_INTERNAL, "cannot open %s: %s", name, strerror(errno));
    return flock(*fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK ? SEM_OK : lock_fail(path, name, err);
}

/* What root makes in a daemon's folder is to be the daemon's, who could not open it else. */
static void give_to_owner(const char *path, int fd)
{
    struct stat folder, file;
    if (geteuid() == 0 && stat(path, &folder) == 0 && fstat(fd, &file) == 0 && file.st_uid != folder.st_uid &&
        fchown(fd, folder.st_uid, folder.st_gid) != 0)
        return; /* the start then says which file it cannot open */
}

/* read_only: where only reading is wanted; set when the folder cannot be written to. */
static sem_status lock_store(const char *path, int *fd, bool *read_only, sem_error *err)
{
    char name[FILES_PATH_MAX];
    sem_status status = files_join(name, err, "%s/main/data.mdb", path);
    if (status == SEM_OK && access(name, R_OK) != 0)
        return sem_fail(err, SEM_NOT_FOUND, "%s is no data folder of semd: cannot read %s: %s", path, name,
                        strerror(errno));
    if (status == SEM_OK)
        status = files_join(name, err, "%s/semd.lock", path);
    if (status != SEM_OK)
        return status;
    /* A folder that was just restored has none yet. */
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*fd < 0 && read_only != NULL && (errno == EACCES || errno == EROFS)) {
        *read_only = true;
        return lock_read_only(path, name, fd, err);
    }
    if (*fd < 0)
        return sem_fail(err, SEM_INTERNAL, "cannot open %s: %s", name, strerror(errno));
    give_to_owner(path, *fd);
    return flock(*fd, LOCK_EX | LOCK_NB) == 0 ? SEM_OK : lock_fail(path, name, err);
}

/* LMDB would say of an empty file that its descriptor is bad. */
static sem_status check_not_empty(const char *folder, sem_error *err)
{
    char path[FILES_PATH_MAX];
    struct stat st;
    sem_status status = files_join(path, err, "%s/data.mdb", folder);
    if (status == SEM_OK && stat(path, &st) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot read %s: %s; restore a backup", path, strerror(errno));
    else if (status == SEM_OK && st.st_size == 0)
        status = sem_fail(err, SEM_INTERNAL, "%s is empty; restore a backup", path);
    return status;
}

/* A file that ends before its last page would be a SIGBUS under the walk. */
static sem_status check_length(const environment *e, const char *folder, sem_error *err)
{
    char path[FILES_PATH_MAX];
    struct stat st;
    uint64_t used = environment_used(e, false);
    sem_status status = files_join(path, err, "%s/data.mdb", folder);
    if (status == SEM_OK && stat(path, &st) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot stat %s: %s", path, strerror(errno));
    if (status == SEM_OK && (uint64_t)st.st_size < used)
        status = sem_fail(err, SEM_INTERNAL,
                          "%s is cut short: it has %llu bytes, its pages take %llu; restore a backup", path,
                          (unsigned long long)st.st_size, (unsigned long long)used);
    return status;
}

/* Opens tables that are there; *dbi 0 for others, which is a violation unless `late`. */
static sem_status open_tables(verify *v, environment *e, MDB_txn *txn, const named_database *list, size_t count,
                              const char *late, sem_error *err)
{
    uint64_t format = 0;
    int rc = mdb_dbi_open(txn, "meta", 0, &e->meta);
    if (rc != 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s/data.mdb was not written by semd", e->name);
    sem_status status = meta_get(e, txn, "format", &format, err);
    if (status == SEM_OK && (format == 0 || format > STORE_FORMAT))
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "%s/data.mdb has format %llu, this semctl reads 1 to %d",
                          e->name, (unsigned long long)format, STORE_FORMAT);
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        *list[i].dbi = 0;
        rc = mdb_dbi_open(txn, list[i].name, 0, list[i].dbi);
        if (rc == MDB_NOTFOUND && strstr(late, list[i].name) == NULL)
            verify_report(v, "%s: there is no table %s", e->name, list[i].name);
        else if (rc != 0 && rc != MDB_NOTFOUND)
            status = environment_fail(e, "open its tables", rc, err);
    }
    return status;
}

static sem_status open_environment(verify *v, environment *e, const char *name, const named_database *list,
                                   size_t count, const char *late, MDB_txn **txn, sem_error *err)
{
    char folder[FILES_PATH_MAX];
    snprintf(e->name, sizeof e->name, "%s", name);
    sem_status status = files_join(folder, err, "%s/%s", v->s.path, name);
    if (status != SEM_OK)
        return status;
    status = check_not_empty(folder, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_env_create(&e->env);
    if (rc == 0 && (rc = mdb_env_set_maxdbs(e->env, ENVIRONMENT_TABLES_MAX)) == 0)
        rc = mdb_env_open(e->env, folder, MDB_RDONLY | MDB_NOLOCK | MDB_NOTLS, 0600);
    if (rc != 0)
        return environment_fail(e, "open", rc, err);
    status = check_length(e, folder, err);
    if (status != SEM_OK)
        return status;
    rc = mdb_txn_begin(e->env, NULL, MDB_RDONLY, txn);
    if (rc != 0)
        return environment_fail(e, "begin a read", rc, err);
    return open_tables(v, e, *txn, list, count, late, err);
}

static sem_status open_main(verify *v, sem_error *err)
{
    store *s = &v->s;
    const named_database main_tables[] = {
        {"collections", &s->collections}, {"names", &s->names}, {"docs", &s->docs},       {"docnos", &s->docnos},
        {"places", &s->places},           {"slots", &s->slots}, {"freed", &s->freed},     {"log", &s->changes},
        {"generations", &s->generations}, {"jobs", &s->jobs},   {"deletes", &s->deletes}, {"old_texts", &s->old_texts},
    };
    return open_environment(v, &s->main, "main", main_tables, sizeof main_tables / sizeof *main_tables, "old_texts",
                            &v->r.main, err);
}

/* Whether documents have places in a space. */
static bool has_places(verify *v, uint32_t number)
{
    unsigned char prefix[4];
    MDB_cursor *cursor;
    put_u32(prefix, number);
    MDB_val key = as_value(prefix, sizeof prefix), value;
    if (mdb_cursor_open(v->r.main, v->s.places, &cursor) != 0)
        return false;
    const bool found = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE) == 0 && key.mv_size == PLACE_KEY &&
                       memcmp(key.mv_data, prefix, sizeof prefix) == 0;
    mdb_cursor_close(cursor);
    return found;
}

/* Nothing was written to it. */
static bool is_empty(MDB_txn *txn)
{
    MDB_dbi all;
    MDB_stat stat;
    return txn != NULL && mdb_dbi_open(txn, NULL, 0, &all) == 0 && mdb_stat(txn, all, &stat) == 0 &&
           stat.ms_entries == 0;
}

/* Whether an environment's file is not there or holds nothing: the start would make it anew. */
static sem_status is_missing(const verify *v, const char *name, bool *missing, sem_error *err)
{
    char path[FILES_PATH_MAX];
    struct stat st;
    sem_status status = files_join(path, err, "%s/%s/data.mdb", v->s.path, name);
    *missing = status == SEM_OK && (stat(path, &st) != 0 ? errno == ENOENT || errno == ENOTDIR : st.st_size == 0);
    return status;
}

/* A store that was never opened to the end has none yet. */
static sem_status report_lost_log(verify *v, sem_error *err)
{
    bool begun;
    sem_status status = store_was_begun(&v->s, v->r.main, &begun, err);
    if (status == SEM_OK && begun)
        verify_report(v, "events: data.mdb is missing or empty: the log of searches, clicks and feedback was lost");
    return status;
}

static sem_status open_events(verify *v, sem_error *err)
{
    store *s = &v->s;
    MDB_txn *txn = NULL;
    bool missing = false;
    const char *name = events_folder(s->path);
    const named_database tables[] = {{"events", &s->event_log}, {"queries", &s->queries}, {"clicks", &s->clicks}};
    sem_status status = is_missing(v, name, &missing, err);
    if (status == SEM_OK && missing)
        return report_lost_log(v, err);
    if (status == SEM_OK)
        status = open_environment(v, &s->events, name, tables, sizeof tables / sizeof *tables, "", &txn, err);
    if (txn != NULL)
        v->r.parts[v->r.part_count++] = (read_part){.e = &s->events, .txn = txn};
    return status == SEM_FAILED_PRECONDITION && is_empty(txn) ? report_lost_log(v, err) : status;
}

/* The start makes one anew that is missing or empty, which is right as long as no document has vectors in it: a
 * generation's record is written before its space is made. */
static sem_status report_lost_space(verify *v, const char *name, uint32_t number)
{
    if (has_places(v, number))
        verify_report(v, "%s: the folder is missing, or its file is empty", name);
    return SEM_OK;
}

static sem_status open_space(verify *v, uint32_t number, uint32_t dim, sem_error *err)
{
    char name[24];
    bool missing = false;
    size_t at = 0;
    for (; at < STORE_SPACES_MAX && v->s.spaces[at] != NULL; at++)
        if (v->s.spaces[at]->number == number)
            return SEM_OK;
    space_name(name, number);
    sem_status status = is_missing(v, name, &missing, err);
    if (status == SEM_OK && missing)
        return report_lost_space(v, name, number);
    space *sp = status == SEM_OK && at < STORE_SPACES_MAX ? calloc(1, sizeof *sp) : NULL;
    if (sp == NULL)
        return status != SEM_OK ? status : sem_fail_memory(err, "a space");
    sp->number = number;
    sp->dim = dim;
    v->s.spaces[at] = sp;
    MDB_txn *txn = NULL;
    uint64_t stored = 0;
    const named_database tables[] = {{"vectors", &sp->vectors}, {"blocks", &sp->blocks}, {"dead", &sp->dead}};
    status = open_environment(v, &sp->in, name, tables, 3, "blocks dead", &txn, err);
    if (txn != NULL)
        v->r.parts[v->r.part_count++] = (read_part){.e = &sp->in, .sp = sp, .txn = txn};
    if (status == SEM_FAILED_PRECONDITION && is_empty(txn))
        return report_lost_space(v, name, number);
    if (status == SEM_OK)
        status = meta_get(&sp->in, txn, "dim", &stored, err);
    if (status == SEM_OK && stored != dim && (stored != 0 || has_places(v, number)))
        verify_report(v, "%s: its vectors have %llu floats, those of its generation %u", name,
                      (unsigned long long)stored, dim);
    return status;
}

static sem_status open_all(verify *v, sem_error *err)
{
    sem_status status = open_main(v, err);
    if (status == SEM_OK)
        status = open_events(v, err);
    if (status == SEM_OK)
        status = store_generation_list(&v->r, &v->generations, &v->generation_count, err);
    if (status == SEM_OK)
        status = open_space(v, STORE_SPACE_EXTERNAL, 0, err);
    for (size_t i = 0; i < v->generation_count && status == SEM_OK; i++)
        if (v->generations[i].state != GENERATION_RETIRED)
            status = open_space(v, v->generations[i].space, v->generations[i].dim, err);
    /* Which says of a verification that a daemon has the folder, and nothing else. */
    if (status == SEM_FAILED_PRECONDITION)
        err->code = status = SEM_INTERNAL;
    return status;
}

static void close_all(verify *v)
{
    for (size_t i = 0; i < v->r.part_count; i++)
        mdb_txn_abort(v->r.parts[i].txn);
    if (v->r.main != NULL)
        mdb_txn_abort(v->r.main);
    for (size_t i = 0; i < STORE_SPACES_MAX && v->s.spaces[i] != NULL; i++) {
        environment_close(&v->s.spaces[i]->in);
        free(v->s.spaces[i]);
    }
    environment_close(&v->s.events);
    environment_close(&v->s.main);
    store_generations_free(v->generations, v->generation_count);
    for (size_t i = 0; i < v->slot_count; i++) {
        free(v->slots[i].named);
        free(v->slots[i].freed);
    }
    free(v->slots);
    free(v->collections);
    if (v->lock_fd >= 0)
        close(v->lock_fd);
}

/* --- the whole */

static sem_status run_part(verify *v, const char *name, sem_status (*part)(verify *v, sem_error *err), sem_error *err)
{
    if (v->options->begun != NULL)
        v->options->begun(v->options->context, name);
    return part(v, err);
}

static sem_status run(const verify_options *options, verify_result *out, sem_error *err)
{
    verify *v = calloc(1, sizeof *v);
    if (v == NULL)
        return sem_fail_memory(err, "the verification");
    v->options = options;
    v->lock_fd = -1;
    v->r.s = &v->s;
    v->first_log = UINT64_MAX;
    pthread_mutex_init(&v->s.lock, NULL);
    sem_status status = files_join(v->s.path, err, "%s", options->path);
    if (status == SEM_OK)
        status = lock_store(options->path, &v->lock_fd, &v->result.read_only, err);
    if (status == SEM_OK)
        status = open_all(v, err);
    if (status == SEM_OK)
        status = run_part(v, "documents", verify_main, err);
    if (status == SEM_OK)
        status = run_part(v, "vectors", verify_vectors, err);
    if (status == SEM_OK)
        status = run_part(v, "saved lists", verify_lists, err);
    if (status == SEM_OK)
        status = run_part(v, "events", verify_events, err);
    if (status == SEM_OK && options->models)
        status = run_part(v, "models", verify_models, err);
    *out = v->result;
    close_all(v);
    pthread_mutex_destroy(&v->s.lock);
    free(v);
    return status;
}

sem_status store_verify(const verify_options *options, verify_result *out, sem_error *err)
{
    return verify_in_child(options, run, out, err);
}

sem_status store_remove_caches(const char *path, unsigned *removed, sem_error *err)
{
    static const char *const folders[] = {"cache", "lexical"};
    char folder[FILES_PATH_MAX];
    int fd = -1;
    *removed = 0;
    sem_status status = lock_store(path, &fd, NULL, err);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && status == SEM_OK; i++) {
        status = files_join(folder, err, "%s/%s", path, folders[i]);
        if (status == SEM_OK && access(folder, F_OK) == 0) {
            status = files_remove_folder(folder, err);
            *removed += status == SEM_OK;
        }
    }
    if (status == SEM_OK)
        status = files_sync_folder(path, err);
    if (fd >= 0)
        close(fd);
    return status;
}
