#include "index/meta_columns.h"

#include "base/checked.h"
#include "index/meta_state.h"

#include <stdlib.h>
#include <string.h>

enum {
    MERGE_MIN = 64,  /* newer documents of a block that are left: a filter looks at each of them */
    MERGE_MAX = 4096 /* with so many the writer merges them itself; some milliseconds */
};

/* --- life */

sem_status meta_columns_create(meta_columns **out, bool ready, sem_error *err)
{
    meta_columns *c = calloc(1, sizeof *c);
    meta_state *s = meta_state_copy(NULL, 0);
    if (c == NULL || s == NULL) {
        free(c);
        meta_state_release(s);
        return sem_fail_memory(err, "columns of meta");
    }
    atomic_init(&c->references, 1);
    pthread_mutex_init(&c->write, NULL);
    pthread_mutex_init(&c->lock, NULL);
    s->complete = ready;
    c->state = s;
    c->phase = ready ? META_READY : META_WAITING;
    atomic_init(&c->ready, ready);
    *out = c;
    return SEM_OK;
}

meta_columns *meta_columns_share(meta_columns *c)
{
    atomic_fetch_add_explicit(&c->references, 1, memory_order_relaxed);
    return c;
}

void meta_columns_release(meta_columns *c)
{
    if (c == NULL || atomic_fetch_sub_explicit(&c->references, 1, memory_order_acq_rel) != 1)
        return;
    meta_state_release(c->state);
    pthread_mutex_destroy(&c->write);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

bool meta_columns_ready(meta_columns *c)
{
    return atomic_load(&c->ready);
}

/* --- changes */

typedef struct pending {
    uint32_t docno;
    size_t order;
    meta_copy *copy; /* owned */
} pending;

static int compare_pending(const void *a, const void *b)
{
    const pending *x = a, *y = b;
    if (x->docno != y->docno)
        return x->docno < y->docno ? -1 : 1;
    return (x->order > y->order) - (x->order < y->order);
}

static void pending_free(pending *p, size_t count)
{
    for (size_t i = 0; p != NULL && i < count; i++)
        if (p[i].copy != NULL && atomic_fetch_sub_explicit(&p[i].copy->references, 1, memory_order_acq_rel) == 1)
            free(p[i].copy);
    free(p);
}

static meta_copy *copy_meta(const meta_change *change)
{
    size_t bytes, length = change->removed ? 0 : change->length;
    if (!checked_add(length, sizeof(meta_copy), &bytes))
        return NULL;
    meta_copy *copy = malloc(bytes);
    if (copy == NULL)
        return NULL;
    atomic_init(&copy->references, 1);
    copy->removed = change->removed;
    copy->length = length;
    if (length > 0)
        memcpy(copy->bytes, change->meta, length);
    return copy;
}

/* The changes by document, the last of each; NULL when memory is out. */
static pending *sort_changes(const meta_change *changes, size_t count, size_t *kept)
{
    pending *p = calloc(count + 1, sizeof *p);
    *kept = 0;
    if (p == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        p[i] = (pending){.docno = changes[i].docno, .order = i, .copy = copy_meta(&changes[i])};
        if (p[i].copy == NULL) {
            pending_free(p, i);
            return NULL;
        }
    }
    qsort(p, count, sizeof *p, compare_pending);
    for (size_t i = 0; i < count; i++) {
        if (*kept > 0 && p[*kept - 1].docno == p[i].docno)
            free(p[--*kept].copy);
        p[(*kept)++] = p[i];
    }
    return p;
}

/* The block with the changes among its newer documents. */
static meta_block *change_block(const meta_block *old, const pending *p, size_t count)
{
    size_t olds = old != NULL ? old->count : 0, i = 0;
    meta_block *b = meta_block_create(old != NULL ? old->segment : NULL, olds + count);
    for (size_t k = 0; b != NULL && k < count; k++) {
        meta_newer newer = {.low = (uint16_t)p[k].docno, .copy = p[k].copy};
        while (i < olds && old->newer[i].low < newer.low)
            meta_block_append(b, &old->newer[i++]);
        if (i < olds && old->newer[i].low == newer.low)
            i++;
        meta_block_append(b, &newer);
    }
    while (b != NULL && i < olds)
        meta_block_append(b, &old->newer[i++]);
    return b;
}

/* Where the columns thread has fallen behind. Without memory it stays as it is. */
static meta_block *merge_if_many(meta_block *b)
{
    sem_error ignored;
    meta_segment *merged;
    if (b == NULL || b->count < MERGE_MAX || meta_block_merge(b, &merged, &ignored) != SEM_OK)
        return b;
    meta_block *made = meta_block_create(merged, 0);
    meta_segment_release(merged);
    if (made == NULL)
        return b;
    meta_block_release(b);
    return made;
}

static bool apply_all(meta_columns *c, const pending *p, size_t count)
{
    meta_state *s = meta_state_copy(c->state, (size_t)p[count - 1].docno / DOCSET_BLOCK + 1);
    bool done = s != NULL;
    for (size_t from = 0, to; done && from < count; from = to) {
        size_t number = p[from].docno / DOCSET_BLOCK;
        for (to = from; to < count && p[to].docno / DOCSET_BLOCK == number;)
            to++;
        meta_block *b = change_block(s->blocks[number], p + from, to - from);
        if (c->phase == META_READY)
            b = merge_if_many(b);
        done = b != NULL;
        if (done) {
            meta_block_release(s->blocks[number]);
            s->blocks[number] = b;
        }
    }
    if (done)
        meta_state_publish(c, s);
    else
        meta_state_release(s);
    return done;
}

static void forget(meta_columns *c)
{
    c->phase = META_WAITING;
    atomic_store(&c->ready, false);
}

void meta_columns_forget(meta_columns *c)
{
    pthread_mutex_lock(&c->write);
    forget(c);
    pthread_mutex_unlock(&c->write);
}

sem_status meta_columns_apply(meta_columns *c, const meta_change *changes, size_t count, sem_error *err)
{
    sem_status status = SEM_OK;
    if (count == 0)
        return SEM_OK;
    pthread_mutex_lock(&c->write);
    if (c->phase != META_WAITING) {
        size_t kept;
        pending *p = sort_changes(changes, count, &kept);
        if (p == NULL || !apply_all(c, p, kept)) {
            forget(c);
            status = sem_fail_memory(err, "columns of meta");
        }
        pending_free(p, kept);
    }
    pthread_mutex_unlock(&c->write);
    return status;
}

/* --- merging */

/* What came to the block since `base` was looked at, above the merged segment. */
static meta_block *rebase(const meta_block *now, const meta_block *base, meta_segment *merged)
{
    meta_block *b = meta_block_create(merged, now->count);
    size_t i = 0;
    for (size_t k = 0; b != NULL && k < now->count; k++) {
        while (i < base->count && base->newer[i].low < now->newer[k].low)
            i++;
        if (i == base->count || base->newer[i].copy != now->newer[k].copy)
            meta_block_append(b, &now->newer[k]);
    }
    return b;
}

static sem_status swap_block(meta_columns *c, size_t number, const meta_block *base, meta_segment *merged,
                             sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&c->write);
    const meta_block *now = number < c->state->count ? c->state->blocks[number] : NULL;
    if (c->phase == META_READY && now != NULL && now->segment == base->segment) {
        meta_state *s = meta_state_copy(c->state, 0);
        meta_block *b = rebase(now, base, merged);
        if (s != NULL && b != NULL) {
            meta_block_release(s->blocks[number]);
            s->blocks[number] = b;
            meta_state_publish(c, s);
        } else {
            meta_state_release(s);
            meta_block_release(b);
            status = sem_fail_memory(err, "columns of meta");
        }
    }
    pthread_mutex_unlock(&c->write);
    return status;
}

sem_status meta_columns_merge(meta_columns *c, sem_error *err)
{
    sem_status status = SEM_OK;
    if (!meta_columns_ready(c))
        return SEM_OK;
    meta_state *s = meta_state_acquire(c);
    for (size_t i = 0; i < s->count && status == SEM_OK; i++) {
        meta_segment *merged;
        if (s->blocks[i] == NULL || s->blocks[i]->count < MERGE_MIN)
            continue;
        status = meta_block_merge(s->blocks[i], &merged, err);
        if (status != SEM_OK)
            break;
        status = swap_block(c, i, s->blocks[i], merged, err);
        meta_segment_release(merged);
    }
    meta_state_release(s);
    return status;
}

void meta_columns_describe(meta_columns *c, meta_columns_stats *out)
{
    meta_state *s = meta_state_acquire(c);
    *out = (meta_columns_stats){.bytes = sizeof *c + sizeof *s + s->count * sizeof *s->blocks};
    for (size_t i = 0; i < s->count; i++) {
        const meta_block *b = s->blocks[i];
        if (b == NULL)
            continue;
        out->unmerged += b->count;
        out->bytes += sizeof *b + b->count * sizeof *b->newer;
        for (size_t k = 0; k < b->count; k++)
            out->bytes += sizeof *b->newer[k].copy + b->newer[k].copy->length;
        if (b->segment == NULL)
            continue;
        out->documents += b->segment->live.count;
        out->bytes += b->segment->bytes;
        out->fields = out->fields > b->segment->field_count ? out->fields : b->segment->field_count;
    }
    meta_state_release(s);
}
