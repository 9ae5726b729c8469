/* Deletes by filter that take more than one transaction: what they still mean to
 * do stands in main until the last of them is committed, so that a crash does
 * not leave half of it. What a filter is, is the daemon's affair. */
#include "index/store_internal.h"

#include <stdlib.h>

enum { PENDING_KEY = 8, PENDING_FIXED = 12 };

static sem_status write_pending(store_write *w, const store_delete *d, uint64_t *number, sem_error *err)
{
    store *s = w->s;
    unsigned char key[PENDING_KEY];
    MDB_txn *txn;
    sem_status status = read_txn(&w->view, &s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_next(&s->main, txn, "next_delete", UINT64_MAX, number, err);
    if (status != SEM_OK)
        return status;
    put_u64(key, *number);
    MDB_val k = as_value(key, sizeof key), v = {.mv_size = PENDING_FIXED + d->filter_size};
    int rc = mdb_put(txn, s->deletes, &k, &v, MDB_RESERVE);
    if (rc != 0)
        return environment_fail(&s->main, "note a delete", rc, err);
    unsigned char *p = v.mv_data;
    put_u32(p, d->collection);
    put_u64(p + 4, d->seq);
    memcpy(p + PENDING_FIXED, d->filter, d->filter_size);
    return SEM_OK;
}

sem_status store_delete_begin(store_write *w, const store_delete *d, uint64_t *number, sem_error *err)
{
    uint64_t given = 0;
    if (d->filter_size == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a delete without a filter was to be noted");
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = operation_end(w, write_pending(w, d, &given, err), err);
    if (status == SEM_OK)
        *number = given;
    return status;
}

sem_status store_delete_end(store_write *w, uint64_t number, sem_error *err)
{
    unsigned char key[PENDING_KEY];
    MDB_txn *txn;
    put_u64(key, number);
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_delete(&w->s->main, txn, w->s->deletes, key, sizeof key, err);
    return operation_end(w, status, err);
}

sem_status store_delete_next(store_read *r, uint64_t after, store_delete *out, bool *found, sem_error *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    *found = false;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_after(&r->s->main, txn, r->s->deletes, after, "read a delete", &cursor, &key, &value, err);
    if (status != SEM_OK || cursor == NULL)
        return status;
    mdb_cursor_close(cursor);
    const unsigned char *p = value.mv_data;
    if (key.mv_size != PENDING_KEY || value.mv_size <= PENDING_FIXED)
        return environment_damaged(&r->s->main, "an unfinished delete", err);
    *out = (store_delete){.number = get_u64(key.mv_data),
                          .collection = get_u32(p),
                          .seq = get_u64(p + 4),
                          .filter = p + PENDING_FIXED,
                          .filter_size = value.mv_size - PENDING_FIXED};
    *found = true;
    return SEM_OK;
}
