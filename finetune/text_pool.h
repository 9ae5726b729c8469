/* Texts of which each is kept once: many queries name one document. Also the table by
 * which they, and other items of an array, are found. */
#ifndef SEM_FINETUNE_TEXT_POOL_H
#define SEM_FINETUNE_TEXT_POOL_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Open addressing over the items of an array; 0 is free, else item + 1. */
typedef struct item_table {
    uint32_t *cells;
    size_t size; /* a power of two, or 0 */
} item_table;

typedef uint64_t item_hash(const void *context, size_t item);

/* Keeps the table, of `count` items, at most half full with one more; false when memory is out. */
bool item_table_reserve(item_table *t, const void *context, size_t count, item_hash *hash_of);
void item_table_put(item_table *t, uint64_t hash, size_t item);
/* Walks the items that may have the hash: *cell is the hash at first, and is moved on. False at the end. */
bool item_table_next(const item_table *t, size_t *cell, uint32_t *item);
void item_table_free(item_table *t);

/* items with room for one more element of `size` bytes, moved if need be; NULL when memory
 * is out or there would be more than 2^31 (items is then still valid). */
void *items_with_room(void *items, size_t count, size_t *capacity, size_t size);

typedef struct pooled_text {
    uint64_t hash;
    size_t offset; /* in strings */
    size_t length;
} pooled_text;

/* Zeroed: empty. */
typedef struct text_pool {
    buffer strings;
    pooled_text *texts; /* [count] */
    size_t count, capacity;
    item_table table;
} text_pool;

/* *out = the number of an equal text, kept now if there was none; false when memory is out. */
bool text_pool_keep(text_pool *p, const char *text, size_t length, uint32_t *out);
void text_pool_free(text_pool *p);

#endif
