#include "index/row_vectors.h"

#include "base/checked.h"
#include "index/dot.h"

#include <stdlib.h>
#include <string.h>

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
    atomic_init(&v->references, 1);
    *out = v;
    return SEM_OK;
}

row_vectors *row_vectors_share(row_vectors *v)
{
    atomic_fetch_add_explicit(&v->references, 1, memory_order_relaxed);
    return v;
}

static void free_blocks(const block_table *t)
{
    for (size_t i = 0; i < BLOCK_LEAVES; i++) {
        _Atomic uintptr_t *leaf = atomic_load_explicit(&t->leaves[i], memory_order_relaxed);
        for (size_t b = 0; leaf != NULL && b < BLOCK_LEAF; b++)
            free((void *)atomic_load_explicit(&leaf[b], memory_order_relaxed));
    }
}

void row_vectors_release(row_vectors *v)
{
    if (v == NULL || atomic_fetch_sub_explicit(&v->references, 1, memory_order_acq_rel) > 1)
        return;
    free_blocks(&v->fresh);
    block_table_free(&v->fresh);
    free(v);
}

static float *ensure_block(row_vectors *v, uint32_t block)
{
    uintptr_t found = block_table_get(&v->fresh, block);
    if (found != 0)
        return (float *)found;
    /* Not cleared: pages that no row has reached yet take no memory. */
    float *rows = checked_alloc_aligned(BLOCK_ROWS * v->width, sizeof *rows);
    if (rows == NULL)
        return NULL;
    if (!block_table_set(&v->fresh, block, (uintptr_t)rows)) {
        free(rows);
        return NULL;
    }
    atomic_fetch_add_explicit(&v->fresh_blocks, 1, memory_order_relaxed);
    return rows;
}

sem_status row_vectors_put(row_vectors *v, uint32_t slot, const float *vector, sem_error *err)
{
    float *rows = ensure_block(v, slot / BLOCK_ROWS);
    if (rows == NULL)
        return sem_fail_memory(err, "the vectors of an index");
    float *to = rows + slot % BLOCK_ROWS * v->width;
    memcpy(to, vector, v->dim * sizeof *to);
    memset(to + v->dim, 0, (v->width - v->dim) * sizeof *to);
    return SEM_OK;
}

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
