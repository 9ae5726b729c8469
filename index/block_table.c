#include "index/block_table.h"

#include <stdlib.h>

bool block_table_set(block_table *t, uint32_t block, uintptr_t address)
{
    _Atomic uintptr_t *_Atomic *slot = &t->leaves[block / BLOCK_LEAF];
    _Atomic uintptr_t *leaf = atomic_load_explicit(slot, memory_order_relaxed);
    if (leaf == NULL && address == 0)
        return true;
    if (leaf == NULL) {
        leaf = calloc(BLOCK_LEAF, sizeof *leaf);
        if (leaf == NULL)
            return false;
        atomic_store_explicit(slot, leaf, memory_order_release);
    }
    atomic_store_explicit(&leaf[block % BLOCK_LEAF], address, memory_order_release);
    return true;
}

void block_table_free(block_table *t)
{
    for (size_t i = 0; i < BLOCK_LEAVES; i++) {
        free(atomic_load_explicit(&t->leaves[i], memory_order_relaxed));
        atomic_store_explicit(&t->leaves[i], NULL, memory_order_relaxed);
    }
}
