/* The vectors of an index's rows, by slot.
 *
 * An index without a store keeps them all in memory. With a store they lie
 * packed in the map of their space (store_vectors), where they are read in
 * place; only those that are not packed yet are in memory as well.
 *
 * The writer puts; the index thread lets go of what has been packed since. A
 * reader is counted while it looks, so that no memory goes that it may look at. */
#ifndef SEM_INDEX_ROW_VECTORS_H
#define SEM_INDEX_ROW_VECTORS_H

#include "base/status.h"
#include "index/block_table.h"
#include "index/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A block in memory; tables point to its rows. */
typedef struct fresh_block fresh_block;

/* Open to the inline functions of rows.h; nobody else looks inside. */
typedef struct row_vectors {
    size_t dim, width;        /* floats; width: dim and zeros up to whole lanes */
    const block_table *first; /* where to look first: packed blocks with a store, else fresh */
    store_vectors *stored;    /* owned; NULL: no store */
    block_table fresh;        /* in memory: the address of a block's first row, [BLOCK_ROWS, width] */
    float *zeros;             /* [width] what takes the place of a vector that is gone */
    atomic_size_t references;
    atomic_size_t readers[2]; /* those that entered in an even and in an odd turn */
    atomic_uint turn;
    atomic_size_t fresh_count;       /* blocks in memory */
    fresh_block *gone, *gone_before; /* taken out of the table in this turn and in the one before; index thread */
} row_vectors;

sem_status row_vectors_create(row_vectors **out, size_t dim, sem_error *err);
/* With the vectors of a collection in a space of a store, which stays open longer. */
sem_status row_vectors_create_stored(row_vectors **out, store *s, uint32_t space, uint32_t collection, size_t dim,
                                     sem_error *err);
row_vectors *row_vectors_share(row_vectors *v);
void row_vectors_release(row_vectors *v); /* frees with the last owner; accepts NULL */

/* Copies dim floats (aligned or not) unless the slot is packed. NULL: it is. Writer only. */
sem_status row_vectors_put(row_vectors *v, uint32_t slot, const float *vector, sem_error *err);

/* Lets go of memory for blocks that have been packed, when no reader is left that
 * might look at it. With the writer kept out; no two threads at a time. */
void row_vectors_settle(row_vectors *v);

/* Begins to look; the number to leave with. Any thread, any number at a time. */
unsigned row_vectors_enter(row_vectors *v);
void row_vectors_leave(row_vectors *v, unsigned turn);

/* The vector of a slot whose block has no whole entry in `first`; NULL: it is not
 * there, or not for this read (which may be NULL). Any thread that has entered. */
const float *row_vectors_find(row_vectors *v, store_read *read, uint32_t slot);

#endif
