#include "index/row_vectors.h"

#include "base/checked.h"
#include "index/dot.h"
#include "index/store_blocks.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct fresh_block {
    _Atomic uint64_t has[BLOCK_WORDS]; /* rows that were put */
    fresh_block *next;                 /* in the list of those that are gone */
    alignas(64) float rows[];          /* [BLOCK_ROWS, width] */
};

static fresh_block *block_of(uintptr_t rows)
{
    return (fresh_block *)(rows - offsetof(fresh_block, rows));
}

sem_status row_vectors_create(row_vectors **out, size_t dim, sem_error *err)
{
    enum { DIM_MAX = 65536 };
    if (dim == 0 || dim > DIM_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "vectors must have 1 to %d dimensions, not %zu", DIM_MAX, dim);
    row_vectors *v = calloc(1, sizeof *v);
    if (v == NULL)
        return sem_fail_memory(err, "the vectors of an index");
    v->dim = dim;
    v->width = dot_width(dim);
    v->zeros = checked_alloc_aligned(v->width, sizeof *v->zeros);
    if (v->zeros == NULL) {
        free(v);
        return sem_fail_memory(err, "the vectors of an index");
    }
    memset(v->zeros, 0, v->width * sizeof *v->zeros);
    v->first = &v->fresh;
    atomic_init(&v->references, 1);
    *out = v;
    return SEM_OK;
}

sem_status row_vectors_create_stored(row_vectors **out, store *s, uint32_t space, uint32_t collection, size_t dim,
                                     sem_error *err)
{
    row_vectors *v;
    sem_status status = row_vectors_create(&v, dim, err);
    if (status != SEM_OK)
        return status;
    status = store_vectors_acquire(s, space, collection, dim, &v->stored, err);
    if (status != SEM_OK) {
        row_vectors_release(v);
        return status;
    }
    v->first = store_vectors_blocks(v->stored);
    *out = v;
    return SEM_OK;
}

row_vectors *row_vectors_share(row_vectors *v)
{
    atomic_fetch_add_explicit(&v->references, 1, memory_order_relaxed);
    return v;
}

/* Calls each() for every block in memory. */
static void each_fresh(row_vectors *v, void (*each)(row_vectors *v, uint32_t block, uintptr_t rows))
{
    for (uint32_t i = 0; i < BLOCK_LEAVES; i++) {
        _Atomic uintptr_t *leaf = atomic_load_explicit(&v->fresh.leaves[i], memory_order_relaxed);
        for (uint32_t b = 0; leaf != NULL && b < BLOCK_LEAF; b++) {
            uintptr_t rows = atomic_load_explicit(&leaf[b], memory_order_relaxed);
            if (rows != 0)
                each(v, i * BLOCK_LEAF + b, rows);
        }
    }
}

static void free_fresh(row_vectors *v, uint32_t block, uintptr_t rows)
{
    (void)v, (void)block;
    free(block_of(rows));
}

static void free_list(fresh_block *list)
{
    for (fresh_block *next; list != NULL; list = next) {
        next = list->next;
        free(list);
    }
}

void row_vectors_release(row_vectors *v)
{
    if (v == NULL || atomic_fetch_sub_explicit(&v->references, 1, memory_order_acq_rel) > 1)
        return;
    each_fresh(v, free_fresh);
    block_table_free(&v->fresh);
    free_list(v->gone);
    free_list(v->gone_before);
    store_vectors_release(v->stored);
    free(v->zeros);
    free(v);
}

static fresh_block *ensure_block(row_vectors *v, uint32_t block)
{
    uintptr_t found = block_table_get(&v->fresh, block);
    if (found != 0)
        return block_of(found);
    /* Rows are not cleared: pages that none has reached yet take no memory. */
    fresh_block *b = checked_alloc_aligned(1, sizeof *b + BLOCK_ROWS * v->width * sizeof(float));
    if (b == NULL)
        return NULL;
    for (size_t w = 0; w < BLOCK_WORDS; w++)
        atomic_init(&b->has[w], 0);
    if (!block_table_set(&v->fresh, block, (uintptr_t)b->rows)) {
        free(b);
        return NULL;
    }
    atomic_fetch_add_explicit(&v->fresh_count, 1, memory_order_relaxed);
    return b;
}

/* Where the slot's packed vector lies; NULL: elsewhere. A block that a crash cut short
 * holds the slots before the cut alone, and those behind it are given out again. */
static const float *find_packed(const row_vectors *v, uint32_t slot)
{
    uintptr_t entry = v->stored != NULL ? block_table_get(v->first, slot / BLOCK_ROWS) : 0;
    return entry != 0 ? block_entry_row(entry, slot, v->width) : NULL;
}

sem_status row_vectors_put(row_vectors *v, uint32_t slot, const float *vector, sem_error *err)
{
    uint32_t i = slot % BLOCK_ROWS;
    if (vector == NULL || find_packed(v, slot) != NULL)
        return SEM_OK;
    fresh_block *b = ensure_block(v, slot / BLOCK_ROWS);
    if (b == NULL)
        return sem_fail_memory(err, "the vectors of an index");
    float *to = b->rows + i * v->width;
    memcpy(to, vector, v->dim * sizeof *to);
    memset(to + v->dim, 0, (v->width - v->dim) * sizeof *to);
    atomic_fetch_or_explicit(&b->has[i / 64], UINT64_C(1) << i % 64, memory_order_release);
    return SEM_OK;
}

/* --- readers, and memory that they may look at */

unsigned row_vectors_enter(row_vectors *v)
{
    unsigned turn = atomic_load_explicit(&v->turn, memory_order_acquire) % 2;
    atomic_fetch_add_explicit(&v->readers[turn], 1, memory_order_acq_rel);
    return turn;
}

void row_vectors_leave(row_vectors *v, unsigned turn)
{
    atomic_fetch_sub_explicit(&v->readers[turn], 1, memory_order_release);
}

static bool all_packed(const row_vectors *v, uint32_t block, fresh_block *b)
{
    for (uint32_t i = 0; i < BLOCK_ROWS; i++) {
        bool has = (atomic_load_explicit(&b->has[i / 64], memory_order_relaxed) >> i % 64 & 1) != 0;
        if (has && find_packed(v, block * BLOCK_ROWS + i) == NULL)
            return false;
    }
    return true;
}

static void take_out(row_vectors *v, uint32_t block, uintptr_t rows)
{
    if (block_table_get(v->first, block) == 0 || !all_packed(v, block, block_of(rows)))
        return;
    block_table_set(&v->fresh, block, 0);
    atomic_fetch_sub_explicit(&v->fresh_count, 1, memory_order_relaxed);
    fresh_block *b = block_of(rows);
    b->next = v->gone;
    v->gone = b;
}

/* The other half of the readers entered before the last turn, or has come since
 * and sees nothing of what was taken out before it: once it is empty, what went
 * in the turn before last is out of everybody's sight. Adding nothing to the
 * count puts this look and a reader's entering into one order. */
void row_vectors_settle(row_vectors *v)
{
    if (v->stored == NULL)
        return;
    if (atomic_load_explicit(&v->fresh_count, memory_order_relaxed) > 0)
        each_fresh(v, take_out);
    if (v->gone == NULL && v->gone_before == NULL)
        return;
    unsigned turn = atomic_load_explicit(&v->turn, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&v->readers[(turn + 1) % 2], 0, memory_order_acq_rel) != 0)
        return;
    free_list(v->gone_before);
    v->gone_before = v->gone;
    v->gone = NULL;
    atomic_store_explicit(&v->turn, turn + 1, memory_order_release);
}

const float *row_vectors_find(row_vectors *v, store_read *read, uint32_t slot)
{
    uint32_t block = slot / BLOCK_ROWS, i = slot % BLOCK_ROWS;
    /* Again: it may just have been packed, and have left the memory. */
    for (int looks = 0; looks < 2; looks++) {
        const float *packed = find_packed(v, slot);
        if (packed != NULL)
            return packed;
        uintptr_t rows = block_table_get(&v->fresh, block);
        if (rows != 0 && (atomic_load_explicit(&block_of(rows)->has[i / 64], memory_order_acquire) >> i % 64 & 1) != 0)
            return (const float *)rows + i * v->width;
    }
    return v->stored != NULL && read != NULL ? store_vectors_find(read, v->stored, slot) : NULL;
}
