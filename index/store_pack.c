/* Packing what was left unpacked: vectors of a store that an older semd wrote,
 * and those for whose block there was no room when it was full. */
#include "index/dot.h"
#include "index/store_internal.h"

/* A full block with vectors that lie one by one. */
typedef struct loose_block {
    uint32_t collection, block;
    size_t width;
} loose_block;

/* The block that the next slot of a collection is in; *any false: no slot was ever given out. */
static sem_status open_block(const space *sp, const store *s, MDB_txn *main_txn, uint32_t collection, uint32_t *block,
                             bool *any, sem_error *err)
{
    unsigned char key[SLOT_KEY];
    MDB_val value;
    put_u32(key, sp->number);
    put_u32(key + 4, collection);
    sem_status status = table_get(&s->main, main_txn, s->slots, key, sizeof key, &value, any, err);
    if (status == SEM_OK && *any && value.mv_size != 8)
        return environment_damaged(&s->main, "a counter of slots", err);
    *block = status == SEM_OK && *any ? (uint32_t)get_u64(value.mv_data) / BLOCK_ROWS : 0;
    return status;
}

/* The first of a space; *found false: all is packed that can be. Slots rise, so
 * where a collection's first vector is in the open block all others are. */
static sem_status find_loose(space *sp, const store *s, MDB_txn *main_txn, MDB_txn *txn, loose_block *out, bool *found,
                             sem_error *err)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    sem_status status = SEM_OK;
    *found = false;
    int rc = mdb_cursor_open(txn, sp->vectors, &cursor);
    if (rc != 0)
        return environment_fail(&sp->in, "look for vectors to pack", rc, err);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == 0 && status == SEM_OK && !*found) {
        unsigned char next[SLOT_KEY];
        uint32_t open = 0;
        bool any;
        if (key.mv_size != SLOT_KEY) {
            status = environment_damaged(&sp->in, "the key of a vector", err);
            break;
        }
        *out = (loose_block){.collection = get_u32(key.mv_data),
                             .block = get_u32((const unsigned char *)key.mv_data + 4) / BLOCK_ROWS,
                             .width = dot_width(value.mv_size / sizeof(float))};
        status = open_block(sp, s, main_txn, out->collection, &open, &any, err);
        *found = status == SEM_OK && any && open != out->block;
        if (*found || out->collection == UINT32_MAX)
            break;
        put_u32(next, out->collection + 1);
        put_u32(next + 4, 0);
        key = as_value(next, sizeof next);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        return environment_fail(&sp->in, "look for vectors to pack", rc, err);
    return status;
}

static sem_status pack_block(store_write *w, space *sp, MDB_txn *txn, const loose_block *l, sem_error *err)
{
    uint64_t bytes = BLOCK_ROWS * l->width * sizeof(float) + BLOCK_HEADER;
    sem_status status = operation_room(w, &sp->in, bytes, bytes, err);
    if (status == SEM_OK)
        status = block_build_start(&w->build, l->width, err);
    if (status == SEM_OK)
        status = block_build_load(&w->build, sp, txn, l->collection, l->block, err);
    return status == SEM_OK ? block_build_put(&w->build, sp, txn, l->collection, l->block, &w->changed, err) : status;
}

static sem_status pack_space(store_write *w, uint32_t number, size_t limit, size_t *packed, sem_error *err)
{
    space *sp;
    MDB_txn *main_txn, *txn;
    loose_block l;
    bool found = true;
    sem_status status = read_txn(&w->view, &w->s->main, &main_txn, err);
    if (status == SEM_OK)
        status = read_space(&w->view, number, &sp, &txn, err);
    while (status == SEM_OK && *packed < limit) {
        status = find_loose(sp, w->s, main_txn, txn, &l, &found, err);
        if (status != SEM_OK || !found)
            return status;
        status = pack_block(w, sp, txn, &l, err);
        *packed += status == SEM_OK;
    }
    return status;
}

/* The numbers of the spaces that are open. */
static size_t open_spaces(store *s, uint32_t numbers[STORE_SPACES_MAX])
{
    size_t count = 0;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < STORE_SPACES_MAX; i++)
        if (s->spaces[i] != NULL && !s->spaces[i]->shut)
            numbers[count++] = s->spaces[i]->number;
    pthread_mutex_unlock(&s->lock);
    return count;
}

sem_status store_pack(store_write *w, size_t limit, size_t *packed, sem_error *err)
{
    uint32_t numbers[STORE_SPACES_MAX];
    size_t count = open_spaces(w->s, numbers);
    *packed = 0;
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < count && status == SEM_OK && *packed < limit; i++)
        status = pack_space(w, numbers[i], limit, packed, err);
    if (status == SEM_NOT_FOUND) /* a space was removed meanwhile */
        status = SEM_OK;
    status = operation_end(w, status, err);
    if (status != SEM_OK)
        *packed = 0;
    return status;
}

static sem_status space_due(store *s, uint32_t number, MDB_txn *main_txn, bool *due, sem_error *err)
{
    MDB_txn *txn;
    loose_block l;
    sem_status status = SEM_OK;
    space *sp = space_pin(s, number);
    if (sp == NULL)
        return SEM_OK;
    int rc = mdb_txn_begin(sp->in.env, NULL, MDB_RDONLY, &txn);
    if (rc == 0) {
        status = find_loose(sp, s, main_txn, txn, &l, due, err);
        mdb_txn_abort(txn);
    } else {
        status = environment_fail(&sp->in, "look for vectors to pack", rc, err);
    }
    space_unpin(s, sp);
    return status;
}

sem_status store_pack_due(store *s, bool *due, sem_error *err)
{
    uint32_t numbers[STORE_SPACES_MAX];
    size_t count = open_spaces(s, numbers);
    MDB_txn *main_txn;
    *due = false;
    int rc = mdb_txn_begin(s->main.env, NULL, MDB_RDONLY, &main_txn);
    if (rc != 0)
        return environment_fail(&s->main, "look for vectors to pack", rc, err);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK && !*due; i++)
        status = space_due(s, numbers[i], main_txn, due, err);
    mdb_txn_abort(main_txn);
    return status;
}
