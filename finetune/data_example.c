#include "finetune/data_example.h"

#include "base/checked.h"
#include "base/hash.h"

#include <string.h>

enum { FIRST_CAPACITY = 256 };

bool data_text_equal(data_text a, data_text b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.bytes, b.bytes, a.length) == 0);
}

static data_text put_text(char **at, data_text text)
{
    data_text copy = {.bytes = *at, .length = text.length};
    if (text.length > 0)
        memcpy(*at, text.bytes, text.length);
    *at += text.length;
    return copy;
}

/* Bytes of the block: the example, its table of negatives, all texts. */
static bool count_bytes(const example *from, size_t *bytes)
{
    const data_text texts[] = {from->anchor, from->positive, from->label, from->domain};
    size_t sum = sizeof *from, table;
    if (!checked_mul(from->negative_count, sizeof *from->negatives, &table) || !checked_add(sum, table, &sum))
        return false;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!checked_add(sum, texts[i].length, &sum))
            return false;
    for (size_t i = 0; i < from->negative_count; i++)
        if (!checked_add(sum, from->negatives[i].length, &sum))
            return false;
    *bytes = sum;
    return true;
}

example *example_copy(const example *from)
{
    size_t bytes;
    example *copy = count_bytes(from, &bytes) ? malloc(bytes) : NULL;
    if (copy == NULL)
        return NULL;
    data_text *table = (data_text *)(copy + 1);
    char *at = (char *)(table + from->negative_count);
    *copy = *from;
    copy->anchor = put_text(&at, from->anchor);
    copy->positive = put_text(&at, from->positive);
    copy->label = put_text(&at, from->label);
    copy->domain = put_text(&at, from->domain);
    for (size_t i = 0; i < from->negative_count; i++)
        table[i] = put_text(&at, from->negatives[i]);
    copy->negatives = table;
    copy->bytes = bytes;
    if (copy->anchor_key == 0)
        copy->anchor_key = hash_text(copy->anchor.bytes, copy->anchor.length);
    copy->positive_key = hash_text(copy->positive.bytes, copy->positive.length);
    if (copy->label_key == 0 && copy->label.length > 0)
        copy->label_key = hash_text(copy->label.bytes, copy->label.length) | 1; /* 0: no label */
    return copy;
}

sem_status example_list_add(example_list *l, const example *e, sem_error *err)
{
    if (l->count == l->capacity) {
        const size_t wanted = l->capacity > 0 ? 2 * l->capacity : FIRST_CAPACITY;
        example **grown = checked_realloc(l->items, wanted, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "training examples");
        l->items = grown;
        l->capacity = wanted;
    }
    example *copy = example_copy(e);
    if (copy == NULL)
        return sem_fail_memory(err, "training examples");
    l->items[l->count++] = copy;
    return SEM_OK;
}

void example_list_clear(example_list *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    l->count = 0;
}

void example_list_free(example_list *l)
{
    example_list_clear(l);
    free(l->items);
    *l = (example_list){0};
}
