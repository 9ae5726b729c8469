#include "index/meta_state.h"

#include "base/checked.h"

#include <stdlib.h>

static void share(atomic_size_t *references)
{
    atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
}

static bool was_last(atomic_size_t *references)
{
    return atomic_fetch_sub_explicit(references, 1, memory_order_acq_rel) == 1;
}

/* --- blocks */

meta_block *meta_block_create(meta_segment *segment, size_t room)
{
    size_t bytes;
    if (!checked_mul(room, sizeof(meta_newer), &bytes) || !checked_add(bytes, sizeof(meta_block), &bytes))
        return NULL;
    meta_block *b = malloc(bytes);
    if (b == NULL)
        return NULL;
    atomic_init(&b->references, 1);
    b->segment = segment;
    b->count = 0;
    if (segment != NULL)
        meta_segment_share(segment);
    return b;
}

void meta_block_append(meta_block *b, const meta_newer *newer)
{
    share(&newer->copy->references);
    b->newer[b->count++] = *newer;
}

void meta_block_release(meta_block *b)
{
    if (b == NULL || !was_last(&b->references))
        return;
    for (size_t i = 0; i < b->count; i++)
        if (was_last(&b->newer[i].copy->references))
            free(b->newer[i].copy);
    meta_segment_release(b->segment);
    free(b);
}

sem_status meta_block_merge(const meta_block *b, meta_segment **out, sem_error *err)
{
    meta_source *sources = checked_realloc(NULL, b->count + 1, sizeof *sources);
    if (sources == NULL)
        return sem_fail_memory(err, "columns of meta");
    for (size_t i = 0; i < b->count; i++) {
        const meta_copy *copy = b->newer[i].copy;
        sources[i] = (meta_source){
            .low = b->newer[i].low, .removed = copy->removed, .meta = copy->bytes, .length = copy->length};
    }
    sem_status status = meta_segment_merge(out, b->segment, sources, b->count, err);
    free(sources);
    return status;
}

/* --- states */

meta_state *meta_state_copy(const meta_state *old, size_t count)
{
    size_t bytes, olds = old != NULL ? old->count : 0;
    count = count > olds ? count : olds;
    if (!checked_mul(count, sizeof(meta_block *), &bytes) || !checked_add(bytes, sizeof(meta_state), &bytes))
        return NULL;
    meta_state *s = malloc(bytes);
    if (s == NULL)
        return NULL;
    atomic_init(&s->references, 1);
    s->complete = old != NULL && old->complete;
    s->count = count;
    for (size_t i = 0; i < count; i++) {
        s->blocks[i] = i < olds ? old->blocks[i] : NULL;
        if (s->blocks[i] != NULL)
            share(&s->blocks[i]->references);
    }
    return s;
}

void meta_state_release(meta_state *s)
{
    if (s == NULL || !was_last(&s->references))
        return;
    for (size_t i = 0; i < s->count; i++)
        meta_block_release(s->blocks[i]);
    free(s);
}

meta_state *meta_state_acquire(meta_columns *c)
{
    pthread_mutex_lock(&c->lock);
    meta_state *s = c->state;
    share(&s->references);
    pthread_mutex_unlock(&c->lock);
    return s;
}

void meta_state_publish(meta_columns *c, meta_state *s)
{
    pthread_mutex_lock(&c->lock);
    meta_state *old = c->state;
    c->state = s;
    pthread_mutex_unlock(&c->lock);
    meta_state_release(old);
}
