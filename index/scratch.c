#include "index/scratch.h"

#include "base/checked.h"
#include "index/dot.h"

#include <stdlib.h>
#include <string.h>

sem_status scratch_create(search_scratch **out, size_t dim, sem_error *err)
{
    search_scratch *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a search");
    s->vector = checked_alloc_aligned(dot_width(dim), sizeof *s->vector);
    if (s->vector == NULL || !codes_query_reserve(&s->codes, dim)) {
        scratch_free(s);
        return sem_fail_memory(err, "a search");
    }
    *out = s;
    return SEM_OK;
}

void scratch_free(search_scratch *s)
{
    if (s == NULL)
        return;
    free(s->vector);
    codes_query_free(&s->codes);
    coarse_scores_free(&s->cells);
    free(s->candidates);
    free(s->met);
    free(s);
}

sem_status scratch_reserve(search_scratch *s, size_t cells, size_t candidates, sem_error *err)
{
    sem_status status = coarse_scores_reserve(&s->cells, cells, err);
    if (status != SEM_OK)
        return status;
    if (candidates > s->room) {
        free(s->candidates);
        s->room = 0;
        s->candidates = checked_alloc_aligned(candidates, sizeof *s->candidates);
        if (s->candidates == NULL)
            return sem_fail_memory(err, "a search");
        s->room = candidates;
    }
    return SEM_OK;
}

/* Of a table of so many: a power of two, at least half of which stays free. */
static size_t room_of(size_t count)
{
    size_t room = 64;
    while (room < 2 * count)
        room *= 2;
    return room;
}

sem_status scratch_reserve_met(search_scratch *s, size_t count, sem_error *err)
{
    const size_t room = room_of(count);
    if (room <= s->met_room)
        return SEM_OK;
    uint32_t *met = checked_realloc(s->met, room, sizeof *met);
    if (met == NULL)
        return sem_fail_memory(err, "a search");
    s->met = met;
    s->met_room = room;
    return SEM_OK;
}

met_set scratch_meet_none(search_scratch *s, size_t count)
{
    const size_t room = room_of(count);
    memset(s->met, 0xff, room * sizeof *s->met); /* UINT32_MAX */
    return (met_set){.table = s->met, .mask = room - 1};
}

void scratch_pool_init(scratch_pool *p, size_t dim)
{
    *p = (scratch_pool){.dim = dim};
    pthread_mutex_init(&p->lock, NULL);
}

void scratch_pool_clear(scratch_pool *p)
{
    while (p->free != NULL) {
        search_scratch *next = p->free->next;
        scratch_free(p->free);
        p->free = next;
    }
    pthread_mutex_destroy(&p->lock);
}

sem_status scratch_take(scratch_pool *p, search_scratch **out, sem_error *err)
{
    pthread_mutex_lock(&p->lock);
    search_scratch *s = p->free;
    if (s != NULL)
        p->free = s->next;
    pthread_mutex_unlock(&p->lock);
    if (s == NULL)
        return scratch_create(out, p->dim, err);
    *out = s;
    return SEM_OK;
}

void scratch_give(scratch_pool *p, search_scratch *s)
{
    pthread_mutex_lock(&p->lock);
    s->next = p->free;
    p->free = s;
    pthread_mutex_unlock(&p->lock);
}
