#include "index/chunk_table.h"

#include <stdlib.h>

bool chunk_table_set(chunk_table *t, size_t number, void *chunk)
{
    chunk_leaf *_Atomic *slot = &t->leaves[number / CHUNK_TABLE_SPAN];
    chunk_leaf *leaf = atomic_load_explicit(slot, memory_order_relaxed);
    if (leaf == NULL) {
        leaf = calloc(1, sizeof *leaf);
        if (leaf == NULL)
            return false;
        atomic_store_explicit(slot, leaf, memory_order_release);
    }
    atomic_store_explicit(&leaf->chunks[number % CHUNK_TABLE_SPAN], chunk, memory_order_release);
    return true;
}

void chunk_table_clear(chunk_table *t)
{
    for (size_t i = 0; i < CHUNK_TABLE_SPAN; i++) {
        chunk_leaf *leaf = atomic_load_explicit(&t->leaves[i], memory_order_acquire);
        for (size_t j = 0; leaf != NULL && j < CHUNK_TABLE_SPAN; j++)
            free(atomic_load_explicit(&leaf->chunks[j], memory_order_acquire));
        free(leaf);
        atomic_store_explicit(&t->leaves[i], NULL, memory_order_relaxed);
    }
}
