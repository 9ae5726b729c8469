#include "finetune/text_pool.h"

#include "base/checked.h"
#include "base/hash.h"

#include <string.h>

enum { FIRST_CELLS = 1024, FIRST_ITEMS = 256 };

void *items_with_room(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    size_t wanted = *capacity == 0 ? FIRST_ITEMS : *capacity * 2;
    void *grown = wanted <= UINT32_MAX ? checked_realloc(items, wanted, size) : NULL;
    if (grown != NULL)
        *capacity = wanted;
    return grown;
}

void item_table_put(item_table *t, uint64_t hash, size_t item)
{
    size_t cell = (size_t)hash & (t->size - 1);
    while (t->cells[cell] != 0)
        cell = (cell + 1) & (t->size - 1);
    t->cells[cell] = (uint32_t)item + 1;
}

bool item_table_reserve(item_table *t, const void *context, size_t count, item_hash *hash_of)
{
    if ((count + 1) * 2 <= t->size)
        return true;
    item_table grown = {.size = t->size == 0 ? FIRST_CELLS : t->size * 2};
    grown.cells = calloc(grown.size, sizeof *grown.cells);
    if (grown.cells == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        item_table_put(&grown, hash_of(context, i), i);
    free(t->cells);
    *t = grown;
    return true;
}

bool item_table_next(const item_table *t, size_t *cell, uint32_t *item)
{
    if (t->size == 0)
        return false;
    size_t at = *cell & (t->size - 1);
    if (t->cells[at] == 0)
        return false;
    *item = t->cells[at] - 1;
    *cell = at + 1;
    return true;
}

void item_table_free(item_table *t)
{
    free(t->cells);
    *t = (item_table){0};
}

static uint64_t text_hash(const void *context, size_t item)
{
    const text_pool *p = context;
    return p->texts[item].hash;
}

bool text_pool_keep(text_pool *p, const char *text, size_t length, uint32_t *out)
{
    const uint64_t hash = hash_text(text, length);
    pooled_text *texts = items_with_room(p->texts, p->count, &p->capacity, sizeof *texts);
    if (texts == NULL)
        return false;
    p->texts = texts;
    if (!item_table_reserve(&p->table, p, p->count, text_hash))
        return false;
    for (size_t cell = (size_t)hash; item_table_next(&p->table, &cell, out);) {
        const pooled_text *k = &p->texts[*out];
        if (k->hash == hash && k->length == length &&
            (length == 0 || memcmp(p->strings.data + k->offset, text, length) == 0))
            return true;
    }
    if (length > 0 && !buffer_append(&p->strings, text, length))
        return false;
    p->texts[p->count] = (pooled_text){hash, p->strings.size - length, length};
    item_table_put(&p->table, hash, p->count);
    *out = (uint32_t)p->count++;
    return true;
}

void text_pool_free(text_pool *p)
{
    buffer_free(&p->strings);
    free(p->texts);
    item_table_free(&p->table);
    *p = (text_pool){0};
}
