/* Where the blocks of vectors lie in the map, for those who read them in place.
 *
 * LMDB gives a value of a page and more pages of its own and never moves it: it
 * stays where it was written until it is deleted, and its pages are not used again
 * while a read is left that could see it. A smaller one, as a block of which little
 * is left may be, lies among others and moves with them: it gets no entry and is
 * looked up in the read's own snapshot. So the address of a large one is good for every read that was in the space before it
 * looked the address up, if the entry is taken away before the commit that
 * deletes the block. */
#include "index/dot.h"
#include "index/store_internal.h"

#include <stdlib.h>

static store_vectors *find_table(const store *s, uint32_t space_number, uint32_t collection)
{
    for (store_vectors *v = s->tables; v != NULL; v = v->next)
        if (v->space == space_number && v->collection == collection)
            return v;
    return NULL;
}

/* No entry is right as well, only slower: so memory that is out is no error. */
static void set_entry(store_vectors *v, uint32_t block, const MDB_val *value)
{
    if (value->mv_size < v->stays_from)
        return;
    uintptr_t address = (uintptr_t)value->mv_data;
    if (value->mv_size == BLOCK_HEADER + BLOCK_ROWS * v->width * sizeof(float))
        address += BLOCK_HEADER;
    else
        address |= BLOCK_SPARSE;
    block_table_set(&v->blocks, block, address);
}

/* With blocks_lock held. */
static sem_status fill_table(store_vectors *v, space *sp, sem_error *err)
{
    unsigned char first[BLOCK_KEY];
    MDB_stat pages;
    MDB_txn *txn;
    MDB_cursor *cursor;
    int rc = mdb_env_stat(sp->in.env, &pages);
    if (rc == 0) {
        v->stays_from = pages.ms_psize;
        rc = mdb_txn_begin(sp->in.env, NULL, MDB_RDONLY, &txn);
    }
    if (rc != 0)
        return environment_fail(&sp->in, "look for blocks of vectors", rc, err);
    rc = mdb_cursor_open(txn, sp->blocks, &cursor);
    if (rc == 0) {
        put_u32(first, v->collection);
        put_u32(first + 4, 0);
        MDB_val key = as_value(first, sizeof first), value;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        while (rc == 0 && key.mv_size == BLOCK_KEY && memcmp(key.mv_data, first, 4) == 0) {
            set_entry(v, get_u32((const unsigned char *)key.mv_data + 4), &value);
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&sp->in, "look for blocks of vectors", rc, err);
}

static void free_table(store_vectors *v)
{
    block_table_free(&v->blocks);
    pthread_mutex_destroy(&v->looking);
    free(v);
}

/* With blocks_lock held. The space counts as read meanwhile, so that it stays. */
static sem_status new_table(store *s, uint32_t space_number, uint32_t collection, size_t dim, store_vectors **out,
                            sem_error *err)
{
    store_vectors *v = calloc(1, sizeof *v);
    if (v == NULL)
        return sem_fail_memory(err, "a table of blocks");
    v->s = s;
    v->space = space_number;
    v->collection = collection;
    v->width = dot_width(dim);
    pthread_mutex_init(&v->looking, NULL);
    space *sp = space_pin(s, space_number);
    sem_status status = sp != NULL ? fill_table(v, sp, err)
                                   : sem_fail(err, SEM_NOT_FOUND, "space %u is not open", space_number);
    space_unpin(s, sp);
    if (status != SEM_OK) {
        free_table(v);
        return status;
    }
    v->next = s->tables;
    s->tables = v;
    *out = v;
    return SEM_OK;
}

sem_status store_vectors_acquire(store *s, uint32_t space_number, uint32_t collection, size_t dim, store_vectors **out,
                                 sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&s->blocks_lock);
    store_vectors *v = find_table(s, space_number, collection);
    if (v == NULL)
        status = new_table(s, space_number, collection, dim, &v, err);
    else if (v->width != dot_width(dim))
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "space %u has vectors of up to %zu floats for collection %u, not %zu", space_number, v->width,
                          collection, dim);
    if (status == SEM_OK) {
        v->references++;
        *out = v;
    }
    pthread_mutex_unlock(&s->blocks_lock);
    return status;
}

void store_vectors_release(store_vectors *v)
{
    if (v == NULL)
        return;
    store *s = v->s;
    pthread_mutex_lock(&s->blocks_lock);
    bool last = --v->references == 0;
    for (store_vectors **at = &s->tables; last && *at != NULL; at = &(*at)->next)
        if (*at == v) {
            *at = v->next;
            break;
        }
    pthread_mutex_unlock(&s->blocks_lock);
    if (last)
        free_table(v);
}

const block_table *store_vectors_blocks(const store_vectors *v)
{
    return &v->blocks;
}

store *store_vectors_store(const store_vectors *v)
{
    return v->s;
}

sem_status store_vectors_enter(store_read *r, const store_vectors *v, sem_error *err)
{
    return read_enter(r, v->space, err);
}

const void *store_vectors_find(store_read *r, store_vectors *v, uint32_t slot)
{
    space *sp;
    MDB_txn *txn;
    const void *row = NULL;
    size_t width;
    bool found = false;
    pthread_mutex_lock(&v->looking);
    if (read_space(r, v->space, &sp, &txn, NULL) != SEM_OK ||
        block_find(sp, txn, v->collection, slot, &row, &width, &found, NULL) != SEM_OK || !found || width != v->width)
        row = NULL;
    pthread_mutex_unlock(&v->looking);
    return row;
}

/* --- around a commit */

void blocks_begin_commit(store *s, const block_changes *changed)
{
    if (changed->count == 0)
        return;
    pthread_mutex_lock(&s->blocks_lock);
    for (size_t i = 0; i < changed->count; i++) {
        store_vectors *v = find_table(s, changed->items[i].space, changed->items[i].collection);
        if (v != NULL)
            block_table_set(&v->blocks, changed->items[i].block, 0);
    }
}

/* Looks one block up as it is now. */
static void settle(store *s, const block_change *c, const space *sp, MDB_txn *txn)
{
    unsigned char key[BLOCK_KEY];
    MDB_val value;
    bool found;
    store_vectors *v = find_table(s, c->space, c->collection);
    put_u32(key, c->collection);
    put_u32(key + 4, c->block);
    if (v != NULL && table_get(&sp->in, txn, sp->blocks, key, sizeof key, &value, &found, NULL) == SEM_OK && found)
        set_entry(v, c->block, &value);
}

/* A space that was removed meanwhile needs no entries any more. */
static void settle_space(store *s, uint32_t number, const block_change *items, size_t count)
{
    MDB_txn *txn;
    space *sp = space_pin(s, number);
    if (sp != NULL && mdb_txn_begin(sp->in.env, NULL, MDB_RDONLY, &txn) == 0) {
        for (size_t i = 0; i < count; i++)
            settle(s, &items[i], sp, txn);
        mdb_txn_abort(txn);
    }
    space_unpin(s, sp);
}

void blocks_end_commit(store *s, const block_changes *changed)
{
    if (changed->count == 0)
        return;
    for (size_t i = 0, n; i < changed->count; i += n) {
        n = 1;
        while (i + n < changed->count && changed->items[i + n].space == changed->items[i].space)
            n++;
        settle_space(s, changed->items[i].space, &changed->items[i], n);
    }
    pthread_mutex_unlock(&s->blocks_lock);
}
