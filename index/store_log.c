/* The write log: which documents each request touched, by sequence number. */
#include "index/store_internal.h"

#include <stdlib.h>

enum { LOG_FIXED = 5, OP_PUT = 1, OP_DELETE = 2 };
static const char TRIMMED[] = "trimmed"; /* in meta */

sem_status log_add(store_write *w, uint64_t seq, bool removed, uint32_t collection, const uint32_t *docnos,
                   size_t count, sem_error *err)
{
    unsigned char number[8];
    MDB_txn *txn;
    if (count == 0)
        return SEM_OK;
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    put_u64(number, seq);
    MDB_val key = as_value(number, sizeof number), value = {.mv_size = LOG_FIXED + 4 * count};
    int rc = mdb_put(txn, w->s->changes, &key, &value, MDB_RESERVE);
    if (rc != 0)
        return environment_fail(&w->s->main, "write the log", rc, err);
    unsigned char *p = value.mv_data;
    p[0] = removed ? OP_DELETE : OP_PUT;
    put_u32(p + 1, collection);
    for (size_t i = 0; i < count; i++)
        put_u32(p + LOG_FIXED + 4 * i, docnos[i]);
    return SEM_OK;
}

uint64_t store_last_seq(store_read *r)
{
    MDB_txn *txn;
    uint64_t seq = 0;
    if (read_txn(r, &r->s->main, &txn, NULL) != SEM_OK || meta_get(&r->s->main, txn, "seq", &seq, NULL) != SEM_OK)
        return 0;
    return seq;
}

static sem_status walk_entry(store_read *r, const MDB_val *key, const MDB_val *value, store_each_change *each,
                             void *context, bool *more, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    size_t size = value->mv_size;
    if (key->mv_size != 8 || size <= LOG_FIXED || (size - LOG_FIXED) % 4 != 0 || (p[0] != OP_PUT && p[0] != OP_DELETE))
        return environment_damaged(&r->s->main, "an entry of the log", err);
    uint64_t seq = get_u64(key->mv_data);
    for (size_t at = LOG_FIXED; at < size && *more; at += 4)
        *more = each(context, seq, get_u32(p + 1), get_u32(p + at), p[0] == OP_DELETE);
    return SEM_OK;
}

sem_status store_log_walk(store_read *r, uint64_t after, store_each_change *each, void *context, sem_error *err)
{
    MDB_txn *txn;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    bool more = true;
    int rc = 0;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_after(&r->s->main, txn, r->s->changes, after, "walk over the log", &cursor, &key, &value, err);
    if (status != SEM_OK || cursor == NULL)
        return status;
    while (rc == 0 && more) {
        status = walk_entry(r, &key, &value, each, context, &more, err);
        if (status != SEM_OK)
            break;
        if (more)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->main, "walk over the log", rc, err);
    return status;
}

sem_status store_log_trim(store_write *w, uint64_t seq, sem_error *err)
{
    unsigned char first[8] = {0}, last[8];
    MDB_txn *txn;
    put_u64(last, seq);
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_delete_range(&w->s->main, txn, w->s->changes, first, last, sizeof last, 0, NULL, err);
    if (status == SEM_OK)
        status = log_note_trimmed(w, seq, err);
    return operation_end(w, status, err);
}

sem_status log_note_trimmed(store_write *w, uint64_t seq, sem_error *err)
{
    MDB_txn *txn;
    uint64_t last, noted = 0;
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_get(&w->s->main, txn, "seq", &last, err);
    if (status == SEM_OK)
        status = meta_get(&w->s->main, txn, TRIMMED, &noted, err);
    if (status != SEM_OK)
        return status;
    if (seq > last)
        seq = last;
    return seq > noted ? meta_put(&w->s->main, txn, TRIMMED, seq, err) : SEM_OK;
}

uint64_t store_trimmed_seq(store_read *r)
{
    MDB_txn *txn;
    uint64_t seq = 0;
    if (read_txn(r, &r->s->main, &txn, NULL) != SEM_OK || meta_get(&r->s->main, txn, TRIMMED, &seq, NULL) != SEM_OK)
        return 0;
    return seq;
}
