/* How a block of vectors lies in its value: what store_blocks.c writes and the
 * rows of an index read in place. docs/format.md has the bytes. */
#ifndef SEM_INDEX_STORE_BLOCKS_H
#define SEM_INDEX_STORE_BLOCKS_H

#include "index/block_table.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    BLOCK_WORDS = BLOCK_ROWS / 64,
    /* LMDB puts a large value 16 bytes behind the start of a page: with as many as
     * make 64 with them its rows start at a cache line. */
    BLOCK_HEADER = 48,
    BLOCK_WIDTH_AT = 32 /* u32 floats of a row */
};

/* Which of a block's slots it holds: bit i of word i / 64. */
typedef struct block_bits {
    uint64_t word[BLOCK_WORDS];
} block_bits;

static inline block_bits block_bits_read(const void *bytes)
{
    block_bits b;
    memcpy(&b, bytes, sizeof b);
    return b;
}

static inline bool block_bits_has(const block_bits *b, uint32_t i)
{
    return (b->word[i / 64] >> i % 64 & 1) != 0;
}

static inline void block_bits_set(block_bits *b, uint32_t i)
{
    b->word[i / 64] |= UINT64_C(1) << i % 64;
}

static inline uint32_t block_bits_count(const block_bits *b)
{
    uint32_t count = 0;
    for (size_t w = 0; w < BLOCK_WORDS; w++)
        count += (uint32_t)__builtin_popcountll(b->word[w]);
    return count;
}

/* How many slots before the i-th the block holds. */
static inline uint32_t block_bits_rank(const block_bits *b, uint32_t i)
{
    uint32_t rank = 0;
    for (size_t w = 0; w < i / 64; w++)
        rank += (uint32_t)__builtin_popcountll(b->word[w]);
    return rank + (uint32_t)__builtin_popcountll(b->word[i / 64] & ((UINT64_C(1) << i % 64) - 1));
}

/* The row of the block's i-th slot in its value, [width] floats; NULL: not there. */
static inline const void *block_row(const void *value, uint32_t i, size_t width)
{
    block_bits b = block_bits_read(value);
    if (!block_bits_has(&b, i))
        return NULL;
    return (const char *)value + BLOCK_HEADER + block_bits_rank(&b, i) * width * sizeof(float);
}

/* An entry of a table of packed blocks: where every slot is there, the address of
 * the first row; else that of the value and 1, which no address ends with. */
enum { BLOCK_SPARSE = 1 };

static inline const void *block_entry_row(uintptr_t entry, uint32_t slot, size_t width)
{
    if ((entry & BLOCK_SPARSE) == 0)
        return (const char *)entry + slot % BLOCK_ROWS * width * sizeof(float);
    return block_row((const void *)(entry - BLOCK_SPARSE), slot % BLOCK_ROWS, width);
}

#endif
