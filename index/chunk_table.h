/* A growing array in chunks that never move: one thread adds chunks, any thread
 * reads meanwhile without a lock. Two levels of pointers, 4M chunks. */
#ifndef SEM_INDEX_CHUNK_TABLE_H
#define SEM_INDEX_CHUNK_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { CHUNK_TABLE_SPAN = 2048 /* pointers in each level */ };

typedef struct chunk_leaf {
    void *_Atomic chunks[CHUNK_TABLE_SPAN];
} chunk_leaf;

/* A zeroed struct is an empty table. */
typedef struct chunk_table {
    chunk_leaf *_Atomic leaves[CHUNK_TABLE_SPAN];
} chunk_table;

/* NULL where there is no chunk. number < CHUNK_TABLE_SPAN². */
static inline void *chunk_table_get(const chunk_table *t, size_t number)
{
    const chunk_leaf *leaf = atomic_load_explicit(&t->leaves[number / CHUNK_TABLE_SPAN], memory_order_acquire);
    if (leaf == NULL)
        return NULL;
    return atomic_load_explicit(&leaf->chunks[number % CHUNK_TABLE_SPAN], memory_order_acquire);
}

/* Takes ownership of chunk (to be freed with free()), filled before the call.
 * False when memory is out; then it stays the caller's. One thread only. */
bool chunk_table_set(chunk_table *t, size_t number, void *chunk);

/* Frees every chunk. No other thread may be reading. */
void chunk_table_clear(chunk_table *t);

#endif
