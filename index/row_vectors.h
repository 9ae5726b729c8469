/* The vectors of an index's rows, by slot.
 *
 * An index without a store keeps them all in memory. With a store they lie
 * packed in the map of their space (store_vectors), where they are read in
 * place; only those that are not packed yet are in memory as well.
 *
 * The writer puts. The index thread lets go of what has been packed
 * (row_vectors_settle). Readers hold a rows_view, which keeps both the memory and the
 * pages of the map that they look at. */
#ifndef SEM_INDEX_ROW_VECTORS_H
#define SEM_INDEX_ROW_VECTORS_H

#include "base/status.h"
#include "index/block_table.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Open to the inline functions of rows.h; nobody else looks inside. */
typedef struct row_vectors {
    size_t dim, width;        /* floats; width: dim and zeros up to whole lanes */
    block_table fresh;        /* in memory: the address of a block's first row, [BLOCK_ROWS, width] */
    atomic_size_t readers[2]; /* views begun in an even and in an odd turn */
    atomic_uint turn;         /* counted up when what was let go of before may be freed soon */
    atomic_size_t references;
    atomic_size_t fresh_blocks; /* in memory */
} row_vectors;

sem_status row_vectors_create(row_vectors **out, size_t dim, sem_error *err);
row_vectors *row_vectors_share(row_vectors *v);
void row_vectors_release(row_vectors *v); /* frees with the last owner; accepts NULL */

/* Copies dim floats (aligned or not). Writer only. */
sem_status row_vectors_put(row_vectors *v, uint32_t slot, const float *vector, sem_error *err);

/* Begins to read; the number to end with. Any thread, any number at a time. */
unsigned row_vectors_enter(row_vectors *v);
void row_vectors_leave(row_vectors *v, unsigned turn);

#endif
