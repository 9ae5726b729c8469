/* Blocks: the vectors of BLOCK_ROWS slots in one value, so that they are read in
 * place and take the room of their floats. A block is written once; what becomes
 * of its slots stands in `dead`, until little is left and it is written anew. */
#include "index/store_blocks.h"

#include "base/checked.h"
#include "index/dot.h"
#include "index/store_internal.h"

#include <stdlib.h>

/* A block of which less than this share is named is written anew. */
enum { REWRITE_BELOW_PERCENT = 50 };

static void block_key(unsigned char key[BLOCK_KEY], uint32_t collection, uint32_t block)
{
    put_u32(key, collection);
    put_u32(key + 4, block);
}

/* Its bits and its width agree with its size. */
static bool is_whole(const MDB_val *value, size_t *width)
{
    if (value->mv_size < BLOCK_HEADER)
        return false;
    block_bits has = block_bits_read(value->mv_data);
    *width = get_u32((const unsigned char *)value->mv_data + BLOCK_WIDTH_AT);
    return *width > 0 && *width % DOT_LANES == 0 && *width <= STORE_DIM_MAX &&
           value->mv_size == BLOCK_HEADER + block_bits_count(&has) * *width * sizeof(float);
}

/* *found false: there is none. dead may be NULL. */
static sem_status load(space *sp, MDB_txn *txn, uint32_t collection, uint32_t block, MDB_val *value, size_t *width,
                       block_bits *dead, bool *found, sem_error *err)
{
    unsigned char key[BLOCK_KEY];
    MDB_val bits;
    bool any;
    block_key(key, collection, block);
    sem_status status = table_get(&sp->in, txn, sp->blocks, key, sizeof key, value, found, err);
    if (status != SEM_OK || !*found)
        return status;
    if (!is_whole(value, width))
        return environment_damaged(&sp->in, "a block of vectors", err);
    if (dead == NULL)
        return SEM_OK;
    *dead = (block_bits){0};
    status = table_get(&sp->in, txn, sp->dead, key, sizeof key, &bits, &any, err);
    if (status != SEM_OK || !any)
        return status;
    if (bits.mv_size != sizeof *dead)
        return environment_damaged(&sp->in, "the freed slots of a block", err);
    *dead = block_bits_read(bits.mv_data);
    return SEM_OK;
}

sem_status block_find(space *sp, MDB_txn *txn, uint32_t collection, uint32_t slot, const void **row, size_t *width,
                      bool *found, sem_error *err)
{
    MDB_val value;
    sem_status status = load(sp, txn, collection, slot / BLOCK_ROWS, &value, width, NULL, found, err);
    if (status != SEM_OK || !*found)
        return status;
    *row = block_row(value.mv_data, slot % BLOCK_ROWS, *width);
    *found = *row != NULL;
    return SEM_OK;
}

static sem_status changes_add(block_changes *c, const space *sp, uint32_t collection, uint32_t block, sem_error *err)
{
    if (c->count == c->capacity) {
        size_t capacity = c->capacity == 0 ? 16 : c->capacity * 2;
        block_change *grown = checked_realloc(c->items, capacity, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "the list of changed blocks");
        c->items = grown;
        c->capacity = capacity;
    }
    c->items[c->count++] = (block_change){.space = sp->number, .collection = collection, .block = block};
    return SEM_OK;
}

/* --- putting one together */

sem_status block_build_start(block_build *b, size_t width, sem_error *err)
{
    b->has = (block_bits){{0}};
    if (b->rows != NULL && b->width == width)
        return SEM_OK;
    free(b->rows);
    b->width = width;
    b->rows = checked_alloc_aligned(BLOCK_ROWS * width, sizeof *b->rows);
    return b->rows != NULL ? SEM_OK : sem_fail_memory(err, "a block of vectors");
}

void block_build_free(block_build *b)
{
    free(b->rows);
    b->rows = NULL;
}

void block_build_add(block_build *b, uint32_t slot, const void *vector, size_t dim)
{
    uint32_t i = slot % BLOCK_ROWS;
    float *row = b->rows + i * b->width;
    memcpy(row, vector, dim * sizeof *row);
    memset(row + dim, 0, (b->width - dim) * sizeof *row);
    block_bits_set(&b->has, i);
}

static sem_status load_singles(block_build *b, space *sp, MDB_txn *txn, uint32_t collection, uint32_t block,
                               sem_error *err)
{
    unsigned char first[BLOCK_KEY];
    MDB_cursor *cursor;
    MDB_val key, value;
    block_key(first, collection, block * BLOCK_ROWS);
    int rc = mdb_cursor_open(txn, sp->vectors, &cursor);
    if (rc != 0)
        return environment_fail(&sp->in, "pack vectors", rc, err);
    key = as_value(first, sizeof first);
    bool damaged = false;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0 && key.mv_size == BLOCK_KEY && memcmp(key.mv_data, first, 4) == 0) {
        uint32_t slot = get_u32((const unsigned char *)key.mv_data + 4);
        if (slot / BLOCK_ROWS != block)
            break;
        damaged = value.mv_size % sizeof(float) != 0 || dot_width(value.mv_size / sizeof(float)) != b->width;
        if (damaged)
            break;
        block_build_add(b, slot, value.mv_data, value.mv_size / sizeof(float));
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (damaged)
        return environment_damaged(&sp->in, "a vector's size", err);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&sp->in, "pack vectors", rc, err);
}

sem_status block_build_load(block_build *b, space *sp, MDB_txn *txn, uint32_t collection, uint32_t block,
                            sem_error *err)
{
    MDB_val value;
    block_bits dead;
    size_t width;
    bool found;
    sem_status status = load(sp, txn, collection, block, &value, &width, &dead, &found, err);
    if (status == SEM_OK && found && width != b->width)
        return environment_damaged(&sp->in, "a block's width", err);
    for (uint32_t i = 0; status == SEM_OK && found && i < BLOCK_ROWS; i++) {
        const void *row = block_bits_has(&dead, i) ? NULL : block_row(value.mv_data, i, width);
        if (row != NULL)
            block_build_add(b, i, row, width);
    }
    return status == SEM_OK ? load_singles(b, sp, txn, collection, block, err) : status;
}

/* Deletes a block with what stands in `dead` about it. */
static sem_status delete_block(space *sp, MDB_txn *txn, uint32_t collection, uint32_t block, block_changes *changed,
                               sem_error *err)
{
    unsigned char key[BLOCK_KEY];
    block_key(key, collection, block);
    sem_status status = changes_add(changed, sp, collection, block, err);
    if (status == SEM_OK)
        status = table_delete(&sp->in, txn, sp->blocks, key, sizeof key, err);
    return status == SEM_OK ? table_delete(&sp->in, txn, sp->dead, key, sizeof key, err) : status;
}

static void fill_value(const block_build *b, unsigned char *value)
{
    memset(value, 0, BLOCK_HEADER);
    memcpy(value, &b->has, sizeof b->has);
    put_u32(value + BLOCK_WIDTH_AT, (uint32_t)b->width);
    unsigned char *to = value + BLOCK_HEADER;
    size_t bytes = b->width * sizeof *b->rows;
    for (uint32_t i = 0; i < BLOCK_ROWS; i++)
        if (block_bits_has(&b->has, i)) {
            memcpy(to, b->rows + i * b->width, bytes);
            to += bytes;
        }
}

sem_status block_build_put(const block_build *b, space *sp, MDB_txn *txn, uint32_t collection, uint32_t block,
                           block_changes *changed, sem_error *err)
{
    unsigned char key[BLOCK_KEY], from[BLOCK_KEY], to[BLOCK_KEY];
    block_key(from, collection, block * BLOCK_ROWS);
    block_key(to, collection, block * BLOCK_ROWS + BLOCK_ROWS - 1);
    sem_status status = delete_block(sp, txn, collection, block, changed, err);
    if (status == SEM_OK)
        status = table_delete_range(&sp->in, txn, sp->vectors, from, to, sizeof from, 0, NULL, err);
    if (status != SEM_OK || block_bits_count(&b->has) == 0)
        return status;
    block_key(key, collection, block);
    MDB_val k = as_value(key, sizeof key);
    MDB_val v = {.mv_size = BLOCK_HEADER + block_bits_count(&b->has) * b->width * sizeof(float)};
    int rc = mdb_put(txn, sp->blocks, &k, &v, MDB_RESERVE);
    if (rc != 0)
        return environment_fail(&sp->in, "write a block of vectors", rc, err);
    fill_value(b, v.mv_data);
    return SEM_OK;
}

/* --- slots that are named no more */

static sem_status write_anew(store_write *w, space *sp, MDB_txn *txn, uint32_t collection, uint32_t block, size_t width,
                             uint32_t rows, sem_error *err)
{
    /* A full store is emptied by deletes: they must not need much room themselves. */
    uint64_t bytes = rows * width * sizeof(float) + BLOCK_HEADER;
    sem_status status = operation_room(w, &sp->in, bytes + bytes / 8, bytes, err);
    if (status != SEM_OK)
        return status == SEM_RESOURCE_EXHAUSTED ? SEM_OK : status;
    status = block_build_start(&w->build, width, err);
    if (status == SEM_OK)
        status = block_build_load(&w->build, sp, txn, collection, block, err);
    return status == SEM_OK ? block_build_put(&w->build, sp, txn, collection, block, &w->changed, err) : status;
}

sem_status block_forget(store_write *w, space *sp, MDB_txn *txn, uint32_t collection, uint32_t slot, bool *found,
                        sem_error *err)
{
    unsigned char key[BLOCK_KEY];
    uint32_t block = slot / BLOCK_ROWS, i = slot % BLOCK_ROWS;
    MDB_val value;
    block_bits dead;
    size_t width;
    sem_status status = load(sp, txn, collection, block, &value, &width, &dead, found, err);
    if (status != SEM_OK || !*found)
        return status;
    block_bits has = block_bits_read(value.mv_data);
    *found = block_bits_has(&has, i);
    if (!*found || block_bits_has(&dead, i))
        return SEM_OK;
    block_bits_set(&dead, i);
    uint32_t left = block_bits_count(&has) - block_bits_count(&dead);
    if (left == 0)
        return delete_block(sp, txn, collection, block, &w->changed, err);
    block_key(key, collection, block);
    status = table_put(&sp->in, txn, sp->dead, key, sizeof key, &dead, sizeof dead, err);
    if (status == SEM_OK && left * 100 < block_bits_count(&has) * REWRITE_BELOW_PERCENT)
        status = write_anew(w, sp, txn, collection, block, width, left, err);
    return status;
}

sem_status blocks_delete(space *sp, MDB_txn *txn, uint32_t collection, uint64_t limit, uint64_t *deleted,
                         block_changes *changed, sem_error *err)
{
    for (*deleted = 0; *deleted < limit;) {
        unsigned char first[BLOCK_KEY];
        MDB_cursor *cursor;
        block_key(first, collection, 0);
        MDB_val key = as_value(first, sizeof first), value;
        int rc = mdb_cursor_open(txn, sp->blocks, &cursor);
        if (rc != 0)
            return environment_fail(&sp->in, "delete blocks of vectors", rc, err);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        bool one = rc == 0 && key.mv_size == BLOCK_KEY && memcmp(key.mv_data, first, 4) == 0;
        uint32_t block = one ? get_u32((const unsigned char *)key.mv_data + 4) : 0;
        mdb_cursor_close(cursor);
        if (rc != 0 && rc != MDB_NOTFOUND)
            return environment_fail(&sp->in, "delete blocks of vectors", rc, err);
        if (!one)
            return SEM_OK;
        sem_status status = delete_block(sp, txn, collection, block, changed, err);
        if (status != SEM_OK)
            return status;
        ++*deleted;
    }
    return SEM_OK;
}

/* --- after a commit that main never followed */

/* Slots of a collection from this on were never given out. */
static uint64_t slots_given(const space *sp, const store *s, MDB_txn *main_txn, uint32_t collection)
{
    unsigned char key[8];
    MDB_val value;
    put_u32(key, sp->number);
    put_u32(key + 4, collection);
    MDB_val k = as_value(key, sizeof key);
    if (mdb_get(main_txn, s->slots, &k, &value) != 0 || value.mv_size != 8)
        return 0;
    return get_u64(value.mv_data);
}

/* Takes out of a block what lies at or above `given`. */
static sem_status cut_block(space *sp, MDB_txn *txn, uint32_t collection, uint32_t block, uint64_t given,
                            block_changes *changed, uint64_t *count, sem_error *err)
{
    MDB_val value;
    block_bits dead;
    block_build build = {0};
    size_t width;
    bool found;
    sem_status status = load(sp, txn, collection, block, &value, &width, &dead, &found, err);
    if (status != SEM_OK || !found)
        return status;
    block_bits has = block_bits_read(value.mv_data);
    uint64_t first = (uint64_t)block * BLOCK_ROWS;
    uint32_t keep = given <= first ? 0 : (uint32_t)(given - first), gone = 0;
    for (uint32_t i = keep; i < BLOCK_ROWS; i++)
        gone += block_bits_has(&has, i);
    if (gone == 0)
        return SEM_OK;
    *count += gone;
    if (keep == 0)
        return delete_block(sp, txn, collection, block, changed, err);
    status = block_build_start(&build, width, err);
    if (status == SEM_OK)
        status = block_build_load(&build, sp, txn, collection, block, err);
    for (uint32_t i = keep; i < BLOCK_ROWS; i++)
        build.has.word[i / 64] &= ~(UINT64_C(1) << i % 64);
    if (status == SEM_OK)
        status = block_build_put(&build, sp, txn, collection, block, changed, err);
    block_build_free(&build);
    return status;
}

/* The last block of the first collection from `collection` on. */
static sem_status last_block(space *sp, MDB_txn *txn, uint64_t *collection, uint32_t *block, bool *found,
                             sem_error *err)
{
    unsigned char bytes[BLOCK_KEY];
    MDB_cursor *cursor;
    MDB_val value;
    *found = false;
    int rc = mdb_cursor_open(txn, sp->blocks, &cursor);
    if (rc != 0)
        return environment_fail(&sp->in, "look for unnamed blocks", rc, err);
    block_key(bytes, (uint32_t)*collection, 0);
    MDB_val key = as_value(bytes, sizeof bytes);
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0) {
        uint32_t of = get_u32(key.mv_data);
        block_key(bytes, of, UINT32_MAX);
        key = as_value(bytes, sizeof bytes);
        rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
        rc = mdb_cursor_get(cursor, &key, &value, rc == 0 ? MDB_PREV : MDB_LAST);
        *found = rc == 0 && key.mv_size == BLOCK_KEY;
        *collection = of;
        *block = *found ? get_u32((const unsigned char *)key.mv_data + 4) : 0;
    }
    mdb_cursor_close(cursor);
    return rc == 0 || rc == MDB_NOTFOUND ? SEM_OK : environment_fail(&sp->in, "look for unnamed blocks", rc, err);
}

sem_status blocks_clean(space *sp, const store *s, MDB_txn *main_txn, MDB_txn *txn, block_changes *changed,
                        uint64_t *count, sem_error *err)
{
    for (uint64_t collection = 0; collection <= UINT32_MAX;) {
        uint32_t block;
        bool found;
        sem_status status = last_block(sp, txn, &collection, &block, &found, err);
        if (status != SEM_OK || !found)
            return status;
        uint64_t given = slots_given(sp, s, main_txn, (uint32_t)collection);
        if (given >= ((uint64_t)block + 1) * BLOCK_ROWS) {
            collection++;
            continue;
        }
        uint64_t before = *count;
        status = cut_block(sp, txn, (uint32_t)collection, block, given, changed, count, err);
        if (status != SEM_OK)
            return status;
        if (*count == before || given > (uint64_t)block * BLOCK_ROWS)
            collection++;
    }
    return SEM_OK;
}
