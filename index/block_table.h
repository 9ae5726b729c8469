/* Where blocks of vectors lie: block number to an address. One thread sets, any
 * thread reads meanwhile without a lock. A block holds the vectors of BLOCK_ROWS
 * slots in a row: slot s is in block s / BLOCK_ROWS. */
#ifndef SEM_INDEX_BLOCK_TABLE_H
#define SEM_INDEX_BLOCK_TABLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BLOCK_ROWS = 256,
    BLOCK_LEAF = 16384, /* blocks in one piece of the table: 128 KiB, of which untouched pages take no memory */
    BLOCK_LEAVES = 1024 /* with slots of 32 bits that is every block */
};

/* A zeroed struct is an empty table. */
typedef struct block_table {
    _Atomic uintptr_t *_Atomic leaves[BLOCK_LEAVES];
} block_table;

/* 0 where nothing was set. */
static inline uintptr_t block_table_get(const block_table *t, uint32_t block)
{
    _Atomic uintptr_t *leaf = atomic_load_explicit(&t->leaves[block / BLOCK_LEAF], memory_order_acquire);
    return leaf == NULL ? 0 : atomic_load_explicit(&leaf[block % BLOCK_LEAF], memory_order_acquire);
}

/* False when memory is out; clearing an entry (address 0) never needs any. One
 * thread at a time. */
bool block_table_set(block_table *t, uint32_t block, uintptr_t address);

/* Frees the table, not what it points to. No other thread may be reading. */
void block_table_free(block_table *t);

#endif
