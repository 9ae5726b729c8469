/* What the event log keeps of a search: with copies of its own, since the request is gone when it is written. */
#include "base/clock.h"
#include "index/events.h"
#include "daemon/search.h"
#include "daemon/writer.h"

#include <string.h>

/* The next part of a record's memory. */
typedef struct copies {
    char *at;
} copies;

static void *copy(copies *c, const void *data, size_t size)
{
    void *to = c->at;
    if (size > 0)
        memcpy(to, data, size);
    c->at += size;
    return to;
}

static void copy_id(copies *c, docid *id)
{
    if (!id->is_integer)
        id->string = copy(c, id->string, id->length);
}

/* How much of the filter is kept: all or nothing. */
static size_t filter_kept(const request *q)
{
    return q->u.search.filter.size <= EVENT_FILTER_MAX ? q->u.search.filter.size : 0;
}

static size_t count_bytes(const search *s, const docid *shown)
{
    const request *q = s->request;
    const docid *like = q->u.search.has_like ? &q->u.search.like : NULL;
    size_t bytes = s->count * (sizeof(docid) + sizeof(float)) + q->u.search.query.size + filter_kept(q) + 1;
    bytes += like != NULL && !like->is_integer ? like->length : 0;
    bytes += s->drafted != NULL ? s->count * sizeof(bool) : 0;
    for (size_t i = 0; i < s->count; i++)
        bytes += shown[i].is_integer ? 0 : shown[i].length;
    return bytes;
}

static event_asked asked_for(const request *q, copies *c)
{
    event_asked a = {.k = (uint32_t)q->u.search.k,
                     .with = q->u.search.with,
                     .filter_size = q->u.search.filter.size,
                     .effort = q->u.search.has_recall   ? EFFORT_RECALL
                               : q->u.search.nprobe > 0 ? EFFORT_NPROBE
                               : q->u.search.exact      ? EFFORT_EXACT
                                                        : EFFORT_USUAL};
    if (a.effort == EFFORT_RECALL)
        a.measure = q->u.search.recall;
    else if (a.effort == EFFORT_NPROBE)
        a.measure = (double)q->u.search.nprobe;
    if (filter_kept(q) > 0)
        a.filter = copy(c, q->u.search.filter.data, filter_kept(q));
    return a;
}

/* The widest elements come first. */
static void fill_shown(event_search *e, const search *s, const docid *shown, copies *c)
{
    docid *ids = copy(c, shown, s->count * sizeof *shown);
    float *scores = (float *)(void *)c->at;
    for (size_t i = 0; i < s->count; i++)
        scores[i] = s->hits[i].score;
    c->at += s->count * sizeof *scores;
    if (s->drafted != NULL && s->count > 0) {
        e->rivals = copy(c, s->drafted, s->count * sizeof *s->drafted);
        e->rival = s->rival->serving->generation;
    }
    for (size_t i = 0; i < s->count; i++)
        copy_id(c, &ids[i]);
    e->shown = ids;
    e->scores = scores;
    e->shown_count = s->count;
}

static void fill(event_search *e, const search *s, const docid *shown, copies *c)
{
    static const event_ranking rankings[] = {
        [SEARCH_DENSE] = RANKING_DENSE, [SEARCH_LEXICAL] = RANKING_LEXICAL, [SEARCH_HYBRID] = RANKING_HYBRID};
    const request *q = s->request;
    const span *user = &q->u.search.user;
    e->time_ms = clock_wall_ms();
    e->collection = s->collection.number;
    e->generation = s->serving->generation;
    e->kind = q->u.search.query.data != NULL ? QUERY_TEXT : q->u.search.has_like ? QUERY_LIKE : QUERY_VECTOR;
    e->ranking = rankings[q->u.search.mode];
    fill_shown(e, s, shown, c);
    e->query = copy(c, q->u.search.query.data, q->u.search.query.size);
    e->query_length = q->u.search.query.size;
    e->asked = asked_for(q, c);
    if (q->u.search.has_like) {
        e->like = q->u.search.like;
        copy_id(c, &e->like);
    }
    if (user->data != NULL)
        e->user_hash = event_user_hash(s->worker->core->store, user->data, user->size);
}

search_record *search_record_make(const search *s, const docid *shown, const char *query_id)
{
    const size_t bytes = count_bytes(s, shown);
    search_record *r = pool_take_cleared(s->worker->core->hooks.memory, 1, sizeof *r);
    char *memory = pool_take(s->worker->core->hooks.memory, bytes);
    if (r == NULL || memory == NULL) {
        pool_give(r);
        pool_give(memory);
        return NULL;
    }
    copies c = {memory};
    memcpy(r->query_id, query_id, strlen(query_id) + 1);
    r->memory = memory;
    r->memory_bytes = bytes;
    r->event.query_id = r->query_id;
    fill(&r->event, s, shown, &c);
    return r;
}
