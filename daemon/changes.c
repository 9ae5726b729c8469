#include "daemon/changes.h"

#include "base/checked.h"

#include <stdlib.h>

static bool add_change(void *context, uint64_t seq, uint32_t collection, uint32_t docno, bool removed)
{
    changes *c = context;
    (void)removed; /* whether the document exists is looked up: it may have come back */
    if (c->count == c->capacity) {
        size_t capacity = c->capacity == 0 ? 256 : c->capacity * 2;
        change *grown = checked_realloc(c->items, capacity, sizeof *grown);
        if (grown == NULL) {
            c->failed = true;
            return false;
        }
        c->items = grown;
        c->capacity = capacity;
    }
    c->items[c->count++] = (change){collection, docno};
    c->seq = seq;
    return true;
}

int change_compare(const void *a, const void *b)
{
    const change *x = a, *y = b;
    if (x->collection != y->collection)
        return x->collection < y->collection ? -1 : 1;
    return (x->docno > y->docno) - (x->docno < y->docno);
}

sem_status changes_read(changes *out, store_read *r, uint64_t after, sem_error *err)
{
    *out = (changes){.seq = after};
    sem_status status = store_log_walk(r, after, add_change, out, err);
    if (status == SEM_OK && out->failed)
        status = sem_fail_memory(err, "the list of changes");
    if (status != SEM_OK) {
        free(out->items);
        return status;
    }
    if (out->count > 0)
        qsort(out->items, out->count, sizeof *out->items, change_compare);
    return SEM_OK;
}
