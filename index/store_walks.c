/* Walks over the vectors of a collection in a space, in the order of its places. */
#include "index/store_internal.h"

/* One step of a walk over places; *more false at the end or when each() stops. */
static sem_status walk_place(store_read *r, const MDB_val *key, const MDB_val *value, store_each_vector *each,
                             void *context, bool *more, sem_error *err)
{
    const unsigned char *k = key->mv_data;
    place where;
    slot_vector vector;
    bool found;
    if (!place_decode(value, &where))
        return environment_damaged(&r->s->main, "a place", err);
    for (size_t i = 0; i < where.count && *more; i++) {
        uint32_t slot = place_slot(&where, i);
        sem_status status = slot_find(r, get_u32(k), get_u32(k + 4), slot, &vector, &found, err);
        if (status != SEM_OK)
            return status;
        if (found)
            *more = each(context, get_u32(k + 8), where.version, vector.data);
    }
    return SEM_OK;
}

sem_status store_vector_walk(store_read *r, uint32_t space_number, uint32_t collection, store_each_vector *each,
                             void *context, sem_error *err)
{
    unsigned char first[PLACE_KEY];
    MDB_cursor *cursor;
    MDB_txn *txn;
    place_key(first, space_number, collection, 0);
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->places, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->main, "walk over vectors", rc, err);
    MDB_val key = as_value(first, sizeof first), value;
    bool more = true;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && status == SEM_OK && key.mv_size == PLACE_KEY && memcmp(key.mv_data, first, 8) == 0) {
        status = walk_place(r, &key, &value, each, context, &more, err);
        if (!more)
            break;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->main, "walk over vectors", rc, err);
    return status;
}

/* --- over slots, to fill an index */

typedef struct slot_walk {
    store *s;
    space *sp;
    MDB_txn *vectors;
    MDB_cursor *singles; /* slots of new documents rise with their numbers: mostly the next is wanted */
    uint64_t packed;     /* number of a block that is packed; UINT64_MAX: none yet */
    store_each_slot *each;
    void *context;
    bool more;
} slot_walk;

/* *vector NULL: the slot is packed. *found false: nothing lies under it. */
static sem_status find_single(slot_walk *k, uint32_t collection, uint32_t slot, const void **vector, bool *found,
                              sem_error *err)
{
    unsigned char bytes[SLOT_KEY];
    MDB_val value;
    const void *row;
    size_t width;
    sem_status status = SEM_OK;
    *vector = NULL;
    *found = false;
    if (k->packed == slot / BLOCK_ROWS)
        status = block_find(k->sp, k->vectors, collection, slot, &row, &width, found, err);
    if (status != SEM_OK || *found)
        return status;
    slot_key(bytes, collection, slot);
    MDB_val key = as_value(bytes, sizeof bytes);
    int rc = mdb_cursor_get(k->singles, &key, &value, MDB_SET);
    *found = rc == 0;
    if (*found)
        *vector = value.mv_data;
    if (rc != MDB_NOTFOUND)
        return rc == 0 ? SEM_OK : environment_fail(&k->sp->in, "walk over slots", rc, err);
    status = block_find(k->sp, k->vectors, collection, slot, &row, &width, found, err);
    if (*found)
        k->packed = slot / BLOCK_ROWS;
    return status;
}

static sem_status walk_slots(slot_walk *k, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *p = key->mv_data;
    place where;
    if (!place_decode(value, &where))
        return environment_damaged(&k->s->main, "a place", err);
    for (size_t i = 0; i < where.count && k->more; i++) {
        const void *vector;
        bool found;
        uint32_t slot = place_slot(&where, i);
        sem_status status = find_single(k, get_u32(p + 4), slot, &vector, &found, err);
        if (status != SEM_OK)
            return status;
        if (found)
            k->more = k->each(k->context, get_u32(p + 8), where.version, i, slot, vector);
    }
    return SEM_OK;
}

static sem_status walk_places(slot_walk *k, MDB_cursor *cursor, const unsigned char first[PLACE_KEY], sem_error *err)
{
    MDB_val key = as_value(first, PLACE_KEY), value;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size == PLACE_KEY && memcmp(key.mv_data, first, 8) == 0) {
        sem_status status = walk_slots(k, &key, &value, err);
        if (status != SEM_OK || !k->more)
            return status;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&k->s->main, "walk over slots", rc, err);
}

sem_status store_slot_walk(store_read *r, uint32_t space_number, uint32_t collection, store_each_slot *each,
                           void *context, sem_error *err)
{
    unsigned char first[PLACE_KEY];
    slot_walk k = {.s = r->s, .packed = UINT64_MAX, .each = each, .context = context, .more = true};
    MDB_cursor *cursor;
    MDB_txn *txn;
    place_key(first, space_number, collection, 0);
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = read_space(r, space_number, &k.sp, &k.vectors, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->places, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->main, "walk over slots", rc, err);
    rc = mdb_cursor_open(k.vectors, k.sp->vectors, &k.singles);
    if (rc == 0) {
        status = walk_places(&k, cursor, first, err);
        mdb_cursor_close(k.singles);
    } else {
        status = environment_fail(&k.sp->in, "walk over slots", rc, err);
    }
    mdb_cursor_close(cursor);
    return status;
}
