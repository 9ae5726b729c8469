#include "index/store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    DISK_FULL_BYTES = 1 << 20 /* with less than this left a short write is one for want of room */
};

/* LMDB calls a short write an I/O error; on a full disk that is what a write is. */
static bool disk_is_full(const environment *e)
{
    uint64_t size;
    return environment_disk_free(e, &size) < DISK_FULL_BYTES;
}

sem_status environment_fail(const environment *e, const char *what, int rc, sem_error *err)
{
    if (rc == EIO && disk_is_full(e))
        rc = ENOSPC;
    switch (rc) {
    case MDB_MAP_FULL:
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "cannot %s: environment %s has reached its map size of %llu bytes; delete something or raise "
                        "storage.map_size",
                        what, e->name, (unsigned long long)e->map_size);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot %s: no room on disk for environment %s: %s", what, e->name,
                        mdb_strerror(rc));
    case ENOMEM:
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot %s: out of memory in environment %s", what, e->name);
    case MDB_TXN_FULL:
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "cannot %s: too many changes for one transaction in environment %s; send less at once", what,
                        e->name);
    case MDB_READERS_FULL:
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot %s: all %d readers of environment %s are taken", what,
                        STORE_READERS_MAX, e->name);
    case MDB_INVALID:
    case MDB_VERSION_MISMATCH:
        return sem_fail(err, SEM_FAILED_PRECONDITION, "cannot %s: %s/data.mdb is no LMDB 0.9 environment: %s", what,
                        e->name, mdb_strerror(rc));
    default: return sem_fail(err, SEM_INTERNAL, "cannot %s: environment %s: %s", what, e->name, mdb_strerror(rc));
    }
}

sem_status environment_damaged(const environment *e, const char *what, sem_error *err)
{
    return sem_fail(err, SEM_INTERNAL, "environment %s is damaged: %s; restore a backup", e->name, what);
}

/* Before anything is written: a newer semd may have changed what lies here. */
static sem_status check_format(environment *e, sem_error *err)
{
    MDB_txn *txn;
    MDB_stat stat;
    MDB_val key = as_value("format", 6), value;
    int rc = mdb_txn_begin(e->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0)
        return environment_fail(e, "read the format", rc, err);
    MDB_dbi all, meta;
    sem_status status = SEM_OK;
    if ((rc = mdb_dbi_open(txn, NULL, 0, &all)) == 0)
        rc = mdb_stat(txn, all, &stat);
    if (rc == 0 && stat.ms_entries > 0) {
        rc = mdb_dbi_open(txn, "meta", 0, &meta);
        if (rc == 0)
            rc = mdb_get(txn, meta, &key, &value);
        if (rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE || (rc == 0 && value.mv_size != 8))
            status = sem_fail(err, SEM_FAILED_PRECONDITION, "%s/data.mdb was not written by semd", e->name);
        else if (rc == 0 && get_u64(value.mv_data) > STORE_FORMAT)
            status = sem_fail(err, SEM_FAILED_PRECONDITION,
                              "%s/data.mdb has format %llu, this semd reads up to %d; use a newer semd", e->name,
                              (unsigned long long)get_u64(value.mv_data), STORE_FORMAT);
        else if (rc != 0)
            status = environment_fail(e, "read the format", rc, err);
    } else if (rc != 0) {
        status = environment_fail(e, "read the format", rc, err);
    }
    mdb_txn_abort(txn);
    return status;
}

/* LMDB ends the process where a page is not what it has to be. Whoever restarts it is told what it was. */
static void on_damaged_page(MDB_env *env, const char *what)
{
    const store *s = mdb_env_get_userctx(env);
    const char *path = "";
    char quoted_path[FILES_PATH_MAX], quoted[256];
    mdb_env_get_path(env, &path);
    log_event(s->log, LOG_LEVEL_ERROR, "store_damaged", "path=%s message=%s advice=\"restore a backup\"",
              log_value(quoted_path, sizeof quoted_path, path), log_value(quoted, sizeof quoted, what));
}

sem_status environment_open(environment *e, store *s, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    snprintf(e->name, sizeof e->name, "%s", name);
    e->map_size = s->map_size / page * page;
    e->disk = s->path;
    sem_status status = files_join(path, err, "%s/%s", s->path, name);
    if (status == SEM_OK)
        status = files_make_folder(path, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_env_create(&e->env);
    if (rc != 0)
        return environment_fail(e, "create the environment", rc, err);
    (void)mdb_env_set_userctx(e->env, s); /* of an environment that there is neither can fail */
    (void)mdb_env_set_assert(e->env, on_damaged_page);
    if ((rc = mdb_env_set_maxdbs(e->env, ENVIRONMENT_TABLES_MAX)) == 0 &&
        (rc = mdb_env_set_maxreaders(e->env, STORE_READERS_MAX)) == 0 &&
        (rc = mdb_env_set_mapsize(e->env, e->map_size)) == 0 &&
        (rc = mdb_env_open(e->env, path, MDB_NOTLS, 0600)) == 0) {
        int dead;
        rc = mdb_reader_check(e->env, &dead);
    }
    status = rc == 0 ? check_format(e, err) : environment_fail(e, "open", rc, err);
    if (status == SEM_OK)
        environment_hold_tail(e, e == &s->main);
    /* LMDB syncs its file, not the entry that names it. */
    if (status == SEM_OK)
        status = files_sync_folder(path, err);
    if (status == SEM_OK)
        status = files_sync_folder(s->path, err);
    if (status != SEM_OK)
        environment_close(e);
    return status;
}

sem_status environment_is_new(const environment *e, bool *is_new, sem_error *err)
{
    MDB_stat stat;
    int rc = mdb_env_stat(e->env, &stat);
    if (rc != 0)
        return environment_fail(e, "count its tables", rc, err);
    *is_new = stat.ms_entries == 0;
    return SEM_OK;
}

void environment_close(environment *e)
{
    if (e->env != NULL)
        mdb_env_close(e->env);
    e->env = NULL;
}

sem_status environment_databases(environment *e, const named_database *list, size_t count, sem_error *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(e->env, NULL, 0, &txn);
    if (rc == 0) {
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &e->meta);
        for (size_t i = 0; i < count && rc == 0; i++)
            rc = mdb_dbi_open(txn, list[i].name, MDB_CREATE, list[i].dbi);
        if (rc == 0) {
            unsigned char number[8];
            put_u64(number, STORE_FORMAT);
            MDB_val key = as_value("format", 6), value = as_value(number, sizeof number);
            /* An older format is a part of this one: what is written from now on may not be. */
            rc = mdb_put(txn, e->meta, &key, &value, 0);
        }
        if (rc == 0)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
    }
    e->tables[0] = (environment_table){"meta", e->meta};
    e->table_count = 1;
    for (size_t i = 0; i < count && e->table_count < ENVIRONMENT_TABLES_MAX; i++)
        e->tables[e->table_count++] = (environment_table){list[i].name, *list[i].dbi};
    return rc == 0 ? SEM_OK : environment_fail(e, "open databases", rc, err);
}

/* --- tables */

sem_status table_get(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_size, MDB_val *value,
                     bool *found, sem_error *err)
{
    MDB_val k = as_value(key, key_size);
    int rc = mdb_get(txn, dbi, &k, value);
    *found = rc == 0;
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(e, "read", rc, err);
}

sem_status table_put(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_size,
                     const void *value, size_t value_size, sem_error *err)
{
    MDB_val k = as_value(key, key_size), v = as_value(value, value_size);
    int rc = mdb_put(txn, dbi, &k, &v, 0);
    return rc == 0 ? SEM_OK : environment_fail(e, "write", rc, err);
}

sem_status table_delete(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *key, size_t key_size,
                        sem_error *err)
{
    MDB_val k = as_value(key, key_size);
    int rc = mdb_del(txn, dbi, &k, NULL);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(e, "delete", rc, err);
}

sem_status table_after(const environment *e, MDB_txn *txn, MDB_dbi dbi, uint64_t after, const char *what,
                       MDB_cursor **cursor, MDB_val *key, MDB_val *value, sem_error *err)
{
    unsigned char first[8];
    *cursor = NULL;
    if (after == UINT64_MAX)
        return SEM_OK;
    int rc = mdb_cursor_open(txn, dbi, cursor);
    if (rc != 0)
        return environment_fail(e, what, rc, err);
    put_u64(first, after + 1);
    *key = as_value(first, sizeof first);
    rc = mdb_cursor_get(*cursor, key, value, MDB_SET_RANGE);
    if (rc == 0)
        return SEM_OK;
    mdb_cursor_close(*cursor);
    *cursor = NULL;
    return rc == MDB_NOTFOUND ? SEM_OK : environment_fail(e, what, rc, err);
}

sem_status table_delete_range(const environment *e, MDB_txn *txn, MDB_dbi dbi, const void *first, const void *last,
                              size_t key_size, uint64_t limit, uint64_t *deleted, sem_error *err)
{
    MDB_cursor *cursor;
    uint64_t done = 0;
    int rc = mdb_cursor_open(txn, dbi, &cursor);
    if (rc != 0)
        return environment_fail(e, "delete a range", rc, err);
    while (limit == 0 || done < limit) {
        /* Sought anew each time: a delete may merge pages under a cursor. */
        MDB_val key = as_value(first, key_size), value;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        if (rc != 0 || memcmp(key.mv_data, last, key.mv_size < key_size ? key.mv_size : key_size) > 0)
            break;
        if ((rc = mdb_cursor_del(cursor, 0)) != 0)
            break;
        done++;
    }
    mdb_cursor_close(cursor);
    if (deleted != NULL)
        *deleted = done;
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(e, "delete a range", rc, err);
}

/* --- numbers in meta */

sem_status meta_get(const environment *e, MDB_txn *txn, const char *name, uint64_t *value, sem_error *err)
{
    MDB_val v;
    bool found;
    *value = 0;
    sem_status status = table_get(e, txn, e->meta, name, strlen(name), &v, &found, err);
    if (status != SEM_OK || !found)
        return status;
    if (v.mv_size != 8)
        return environment_damaged(e, name, err);
    *value = get_u64(v.mv_data);
    return SEM_OK;
}

sem_status meta_put(const environment *e, MDB_txn *txn, const char *name, uint64_t value, sem_error *err)
{
    unsigned char bytes[8];
    put_u64(bytes, value);
    return table_put(e, txn, e->meta, name, strlen(name), bytes, sizeof bytes, err);
}

sem_status meta_next(const environment *e, MDB_txn *txn, const char *name, uint64_t max, uint64_t *value,
                     sem_error *err)
{
    sem_status status = meta_get(e, txn, name, value, err);
    if (status != SEM_OK)
        return status;
    if (*value >= max)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "all %llu numbers of \"%s\" are used up", (unsigned long long)max,
                        name);
    return meta_put(e, txn, name, ++*value, err);
}
