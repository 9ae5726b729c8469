/* Columns from the store's documents, in whatever order they come. */
#include "base/checked.h"
#include "index/meta_columns.h"
#include "index/meta_state.h"

#include <stdlib.h>
#include <string.h>

enum {
    FLUSH_DOCUMENTS = 16384, /* of a block that are merged at a time */
    FLUSH_BYTES = 128 << 20, /* of meta that waits, in all blocks */
    BLOCKS_MAX = UINT32_MAX / DOCSET_BLOCK + 1
};

typedef struct waiting {
    uint16_t low;
    size_t offset, length; /* in bytes */
} waiting;

typedef struct fill_block {
    meta_segment *segment; /* owned */
    waiting *items;        /* [FLUSH_DOCUMENTS], while there are any */
    size_t count;
    buffer bytes;
} fill_block;

struct meta_fill {
    meta_columns *columns; /* borrowed */
    fill_block *blocks[BLOCKS_MAX];
    size_t bytes; /* that wait */
};

sem_status meta_fill_begin(meta_fill **out, meta_columns *c, sem_error *err)
{
    meta_fill *f = calloc(1, sizeof *f);
    meta_state *empty = meta_state_copy(NULL, 0);
    if (f == NULL || empty == NULL) {
        free(f);
        meta_state_release(empty);
        return sem_fail_memory(err, "columns of meta");
    }
    f->columns = c;
    pthread_mutex_lock(&c->write);
    c->phase = META_FILLING;
    atomic_store(&c->ready, false);
    meta_state_publish(c, empty);
    pthread_mutex_unlock(&c->write);
    *out = f;
    return SEM_OK;
}

void meta_fill_free(meta_fill *f)
{
    for (size_t i = 0; f != NULL && i < BLOCKS_MAX; i++) {
        fill_block *b = f->blocks[i];
        if (b == NULL)
            continue;
        meta_segment_release(b->segment);
        free(b->items);
        buffer_free(&b->bytes);
        free(b);
    }
    free(f);
}

static int compare_waiting(const void *a, const void *b)
{
    const waiting *x = a, *y = b;
    return (x->low > y->low) - (x->low < y->low);
}

static sem_status flush(meta_fill *f, fill_block *b, sem_error *err)
{
    meta_segment *merged;
    if (b->count == 0)
        return SEM_OK;
    meta_source *sources = checked_realloc(NULL, b->count, sizeof *sources);
    if (sources == NULL)
        return sem_fail_memory(err, "columns of meta");
    qsort(b->items, b->count, sizeof *b->items, compare_waiting);
    for (size_t i = 0; i < b->count; i++)
        sources[i] = (meta_source){.low = b->items[i].low,
                                   .meta = b->items[i].length > 0 ? b->bytes.data + b->items[i].offset : NULL,
                                   .length = b->items[i].length};
    sem_status status = meta_segment_merge(&merged, b->segment, sources, b->count, err);
    free(sources);
    if (status != SEM_OK)
        return status;
    meta_segment_release(b->segment);
    b->segment = merged;
    f->bytes -= b->bytes.size;
    buffer_free(&b->bytes);
    free(b->items);
    b->items = NULL;
    b->count = 0;
    return SEM_OK;
}

static sem_status flush_all(meta_fill *f, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < BLOCKS_MAX && status == SEM_OK; i++)
        if (f->blocks[i] != NULL)
            status = flush(f, f->blocks[i], err);
    return status;
}

sem_status meta_fill_add(meta_fill *f, uint32_t docno, const unsigned char *meta, size_t length, sem_error *err)
{
    fill_block **b = &f->blocks[docno / DOCSET_BLOCK];
    if (*b == NULL)
        *b = calloc(1, sizeof **b);
    if (*b != NULL && (*b)->items == NULL)
        (*b)->items = checked_realloc(NULL, FLUSH_DOCUMENTS, sizeof *(*b)->items);
    if (*b == NULL || (*b)->items == NULL)
        return sem_fail_memory(err, "columns of meta");
    (*b)->items[(*b)->count] = (waiting){.low = (uint16_t)docno, .offset = (*b)->bytes.size, .length = length};
    if (length > 0 && !buffer_append(&(*b)->bytes, meta, length))
        return sem_fail_memory(err, "columns of meta");
    (*b)->count++;
    f->bytes += length;
    if ((*b)->count == FLUSH_DOCUMENTS)
        return flush(f, *b, err);
    return f->bytes > FLUSH_BYTES ? flush_all(f, err) : SEM_OK;
}

/* The fill's segments below what changed meanwhile. */
static meta_state *combine(const meta_fill *f, const meta_state *changed)
{
    size_t count = 0;
    for (size_t i = 0; i < BLOCKS_MAX; i++)
        if (f->blocks[i] != NULL)
            count = i + 1;
    meta_state *s = meta_state_copy(changed, count);
    for (size_t i = 0; s != NULL && i < count; i++) {
        const meta_block *now = s->blocks[i];
        if (f->blocks[i] == NULL)
            continue;
        meta_block *b = meta_block_create(f->blocks[i]->segment, now != NULL ? now->count : 0);
        if (b == NULL) {
            meta_state_release(s);
            return NULL;
        }
        for (size_t k = 0; now != NULL && k < now->count; k++)
            meta_block_append(b, &now->newer[k]);
        meta_block_release(s->blocks[i]);
        s->blocks[i] = b;
    }
    return s;
}

sem_status meta_fill_finish(meta_fill *f, sem_error *err)
{
    meta_columns *c = f->columns;
    sem_status status = flush_all(f, err);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&c->write);
    if (c->phase != META_FILLING) {
        status = sem_fail(err, SEM_CANCELLED, "the columns of meta ran out of memory while they were filled");
    } else {
        meta_state *s = combine(f, c->state);
        if (s == NULL) {
            status = sem_fail_memory(err, "columns of meta");
        } else {
            s->complete = true;
            meta_state_publish(c, s);
            c->phase = META_READY;
            atomic_store(&c->ready, true);
        }
    }
    pthread_mutex_unlock(&c->write);
    return status;
}
