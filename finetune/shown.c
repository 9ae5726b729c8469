#include "finetune/shown.h"

#include "finetune/text_pool.h"

#include <stdlib.h>

sem_status shown_note(shown_list *l, store_read *r, const event_judgement *j, uint32_t pair, sem_error *err)
{
    event_above shown = j->shown;
    docid id;
    if (shown.left > SHOWN_MOST)
        shown.left = SHOWN_MOST;
    while (event_above_next(&shown, &id)) {
        store_document doc;
        bool found;
        sem_status status = store_document_get(r, j->collection, &id, &doc, &found, err);
        if (status != SEM_OK)
            return status;
        if (!found)
            continue;
        shown_document *items = items_with_room(l->items, l->count, &l->capacity, sizeof *items);
        if (items == NULL)
            return sem_fail_memory(err, "what was shown");
        l->items = items;
        items[l->count++] = (shown_document){pair, doc.docno};
    }
    return SEM_OK;
}

static int compare(const void *a, const void *b)
{
    const shown_document *x = a, *y = b;
    if (x->pair != y->pair)
        return x->pair < y->pair ? -1 : 1;
    return (x->docno > y->docno) - (x->docno < y->docno);
}

void shown_sort(shown_list *l)
{
    size_t kept = 0;
    if (l->count > 0)
        qsort(l->items, l->count, sizeof *l->items, compare);
    for (size_t i = 0; i < l->count; i++)
        if (kept == 0 || compare(&l->items[kept - 1], &l->items[i]) != 0)
            l->items[kept++] = l->items[i];
    l->count = kept;
}

size_t shown_of(const shown_list *l, uint32_t pair, size_t *at)
{
    while (*at < l->count && l->items[*at].pair < pair)
        (*at)++;
    size_t end = *at;
    while (end < l->count && l->items[end].pair == pair)
        end++;
    return end - *at;
}

void shown_free(shown_list *l)
{
    free(l->items);
    *l = (shown_list){0};
}
