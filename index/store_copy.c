/* A copy of one environment, record by record. LMDB's own copies hold whole pages,
 * and with them the unused rest of a page, which once held something else. */
#include "index/store_internal.h"

#include <stdio.h>

enum { BATCH_BYTES = 16 << 20 /* of records in one transaction: what LMDB keeps in memory until it is written */ };

typedef struct copying {
    environment to; /* env and name only */
    MDB_txn *txn;   /* NULL between two batches */
    copy_filter *filter;
    copy_step *step;
    void *context;
    uint64_t batch; /* bytes in txn */
} copying;

static sem_status open_copy(copying *c, const environment *from, const char *folder, sem_error *err)
{
    snprintf(c->to.name, sizeof c->to.name, "%s", from->name);
    c->to.map_size = from->map_size;
    int rc = mdb_env_create(&c->to.env);
    if (rc != 0)
        return environment_fail(&c->to, "create a copy", rc, err);
    /* Nobody else has it open, and it is synced once, at the end. */
    if ((rc = mdb_env_set_maxdbs(c->to.env, ENVIRONMENT_TABLES_MAX)) == 0 &&
        (rc = mdb_env_set_mapsize(c->to.env, from->map_size)) == 0)
        rc = mdb_env_open(c->to.env, folder, MDB_NOLOCK | MDB_NOSYNC | MDB_NOTLS, 0600);
    return rc == 0 ? SEM_OK : environment_fail(&c->to, "create a copy", rc, err);
}

static sem_status end_batch(copying *c, sem_error *err)
{
    if (c->txn == NULL)
        return SEM_OK;
    int rc = mdb_txn_commit(c->txn);
    c->txn = NULL;
    if (rc != 0)
        return environment_fail(&c->to, "write a copy", rc, err);
    uint64_t bytes = c->batch;
    c->batch = 0;
    return c->step(c->context, bytes, err);
}

static sem_status begin_batch(copying *c, sem_error *err)
{
    if (c->txn != NULL)
        return SEM_OK;
    int rc = mdb_txn_begin(c->to.env, NULL, 0, &c->txn);
    if (rc != 0)
        c->txn = NULL;
    return rc == 0 ? SEM_OK : environment_fail(&c->to, "write a copy", rc, err);
}

static sem_status copy_record(copying *c, const char *table, MDB_dbi dbi, MDB_val key, MDB_val value, sem_error *err)
{
    bool in_order = true;
    if (c->filter != NULL && !c->filter(c->context, table, &key, &value, &in_order))
        return SEM_OK;
    sem_status status = begin_batch(c, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_put(c->txn, dbi, &key, &value, in_order ? MDB_APPEND : 0);
    if (rc == MDB_KEYEXIST)
        return environment_damaged(&c->to, "its keys are not in order", err);
    if (rc != 0)
        return environment_fail(&c->to, "write a copy", rc, err);
    c->batch += key.mv_size + value.mv_size;
    return c->batch < BATCH_BYTES ? SEM_OK : end_batch(c, err);
}

static sem_status copy_table(copying *c, const environment *from, MDB_txn *txn, const environment_table *table,
                             sem_error *err)
{
    MDB_dbi to;
    MDB_cursor *cursor;
    MDB_val key, value;
    sem_status status = begin_batch(c, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_dbi_open(c->txn, table->name, MDB_CREATE, &to);
    if (rc != 0)
        return environment_fail(&c->to, "create a table", rc, err);
    if ((rc = mdb_cursor_open(txn, table->dbi, &cursor)) != 0)
        return environment_fail(from, "copy a table", rc, err);
    while (status == SEM_OK && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
        status = copy_record(c, table->name, to, key, value, err);
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != MDB_NOTFOUND)
        status = environment_fail(from, "copy a table", rc, err);
    return status;
}

sem_status environment_copy(const environment *e, MDB_txn *txn, const char *folder, copy_filter *filter,
                            copy_step *step, void *context, sem_error *err)
{
    copying c = {.filter = filter, .step = step, .context = context};
    sem_status status = open_copy(&c, e, folder, err);
    for (size_t i = 0; i < e->table_count && status == SEM_OK; i++)
        status = copy_table(&c, e, txn, &e->tables[i], err);
    if (status == SEM_OK)
        status = end_batch(&c, err);
    if (c.txn != NULL)
        mdb_txn_abort(c.txn);
    if (status == SEM_OK) {
        int rc = mdb_env_sync(c.to.env, 1);
        if (rc != 0)
            status = environment_fail(&c.to, "sync a copy", rc, err);
    }
    environment_close(&c.to);
    return status != SEM_OK ? status : files_sync_folder(folder, err);
}
