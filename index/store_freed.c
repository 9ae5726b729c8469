/* Slots that no place names any more: the table `freed` has them from the commit that
 * left them, and they are deleted when no read is left that might still look for them. */
#include "index/store_internal.h"

enum { FREED_PER_GROUP = 16384 /* vectors; some 20 ms */ };

/* One slot, packed or not. */
static sem_status free_slot(store_write *w, space *sp, MDB_txn *vectors, uint32_t collection, uint32_t slot,
                            uint64_t *deleted, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    bool found;
    *deleted = 1;
    sem_status status = block_forget(w, sp, vectors, collection, slot, &found, err);
    if (status != SEM_OK || found)
        return status;
    slot_key(key, collection, slot);
    return table_delete(&sp->in, vectors, sp->vectors, key, sizeof key, err);
}

/* All slots of a collection that was dropped. A block counts as what its vectors would. */
static sem_status free_all(store_write *w, space *sp, MDB_txn *vectors, uint32_t collection, uint64_t limit,
                           uint64_t *deleted, sem_error *err)
{
    unsigned char prefix[4];
    uint64_t blocks = 0;
    put_u32(prefix, collection);
    sem_status status =
        table_delete_range(&sp->in, vectors, sp->vectors, prefix, prefix, sizeof prefix, limit, deleted, err);
    if (status == SEM_OK && *deleted < limit)
        status = blocks_delete(sp, vectors, collection, (limit - *deleted + BLOCK_ROWS - 1) / BLOCK_ROWS, &blocks,
                               &w->changed, err);
    *deleted += blocks * BLOCK_ROWS;
    if (*deleted > limit)
        *deleted = limit;
    return status;
}

/* Deletes vectors of one entry, at most `limit`; an entry of which something is left stays. */
static sem_status freed_entry(store_write *w, MDB_txn *txn, const unsigned char key[FREED_KEY], uint32_t last,
                              uint64_t limit, uint64_t *deleted, sem_error *err)
{
    space *sp;
    MDB_txn *vectors;
    uint32_t collection = get_u32(key + 12), first = get_u32(key + 16);
    bool one = first == last;
    *deleted = 0;
    sem_status status = read_space(&w->view, get_u32(key + 8), &sp, &vectors, err);
    if (status == SEM_OK)
        status = one ? free_slot(w, sp, vectors, collection, first, deleted, err)
                     : free_all(w, sp, vectors, collection, limit, deleted, err);
    else if (status == SEM_NOT_FOUND) /* the whole space was removed */
        status = SEM_OK;
    if (status != SEM_OK || (!one && *deleted == limit))
        return status;
    return table_delete(&w->s->main, txn, w->s->freed, key, FREED_KEY, err);
}

static sem_status apply_entries(store_write *w, uint64_t oldest, sem_error *err)
{
    MDB_txn *txn;
    uint64_t left = FREED_PER_GROUP;
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    while (status == SEM_OK && left > 0) {
        MDB_cursor *cursor;
        MDB_val k, v;
        unsigned char key[FREED_KEY];
        uint32_t last = 0;
        int rc = mdb_cursor_open(txn, w->s->freed, &cursor);
        if (rc != 0)
            return environment_fail(&w->s->main, "free vectors", rc, err);
        rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
        bool whole = rc == 0 && k.mv_size == FREED_KEY && v.mv_size == 4;
        if (whole) {
            memcpy(key, k.mv_data, FREED_KEY);
            last = get_u32(v.mv_data);
        }
        mdb_cursor_close(cursor);
        if (rc == MDB_NOTFOUND || (whole && get_u64(key) > oldest))
            break;
        if (!whole)
            return rc != 0 ? environment_fail(&w->s->main, "free vectors", rc, err)
                           : environment_damaged(&w->s->main, "a freed slot", err);
        uint64_t deleted;
        status = freed_entry(w, txn, key, last, left, &deleted, err);
        /* Entries of which nothing was left count as well, or a group could take for ever. */
        left -= deleted == 0 ? 1 : deleted;
    }
    return status;
}

sem_status freed_apply(store_write *w, sem_error *err)
{
    uint64_t oldest = oldest_snapshot(w->s);
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = operation_end(w, apply_entries(w, oldest, err), err);
    /* A full disk may keep the group from tidying up, but not from its own work. */
    if (status == SEM_RESOURCE_EXHAUSTED && w->broken == SEM_OK) {
        log_event(w->s->log, LOG_LEVEL_WARNING, "free_vectors_failed", "environment=%s", w->s->path);
        status = SEM_OK;
    }
    return status;
}
