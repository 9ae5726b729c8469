/* events: the log of searches, clicks and feedback, page by page. */
#include "base/docid.h"
#include "index/events.h"
#include "daemon/ops.h"
#include "daemon/worker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ANSWER_BYTES = 16 << 20, /* an answer ends early beyond this */
    LOOKED_MAX = 100000,     /* and so it does when it had to pass over so many events of other kinds */
    POSITION_MAX = 20        /* digits of a seq */
};

_Static_assert((int)KIND_SEARCH == EVENT_SEARCH && (int)KIND_CLICK == EVENT_CLICK &&
                   (int)KIND_FEEDBACK == EVENT_FEEDBACK,
               "the bits of a request are those of the log");
_Static_assert(WITH_TEXT == 1 && WITH_META == 2 && WITH_VECTOR == 4, "and those of what comes with a hit");

typedef struct listing {
    worker *worker;
    task *task;
    buffer events; /* packed */
    packer pack;
    size_t count;
    uint32_t named; /* collection whose name is in `name`; 0: none */
    char name[STORE_NAME_MAX + 1];
    walk_clock clock;
    sem_status status;
    sem_error *err;
} listing;

/* The collection's name, nil where it was dropped. */
static void pack_collection(listing *l, uint32_t number)
{
    store_collection c;
    if (number != l->named) {
        sem_error err;
        sem_status status = store_collection_at(l->worker->read, number, &c, &err);
        if (status != SEM_OK && status != SEM_NOT_FOUND) {
            l->status = status;
            *l->err = err;
        }
        l->named = number;
        snprintf(l->name, sizeof l->name, "%s", status == SEM_OK ? c.name : "");
    }
    pack_str(&l->pack, "collection");
    if (l->name[0] != '\0')
        pack_str(&l->pack, l->name);
    else
        pack_nil(&l->pack);
}

static void pack_head(listing *l, const event_listed *e, const char *kind, size_t more)
{
    packer *p = &l->pack;
    pack_map(p, 3 + more);
    pack_str(p, "seq");
    pack_uint(p, e->seq);
    pack_str(p, "time_ms");
    pack_int(p, e->time_ms);
    pack_str(p, "kind");
    pack_str(p, kind);
}

static void pack_text(packer *p, const char *key, const char *text, size_t length)
{
    pack_str(p, key);
    pack_strn(p, text, length);
}

static void pack_user(packer *p, uint64_t hash)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, hash);
    pack_str(p, "user");
    if (hash != 0)
        pack_str(p, text);
    else
        pack_nil(p);
}

static void pack_hits(packer *p, const event_listed *e)
{
    event_hits hits = e->hits;
    event_hit hit;
    pack_str(p, "hits");
    pack_array(p, e->hit_count);
    while (event_hit_next(&hits, &hit)) {
        if (hit.erased) {
            pack_nil(p);
            continue;
        }
        pack_map(p, 2 + (e->rival != 0));
        pack_str(p, "id");
        pack_id(p, &hit.id);
        pack_str(p, "score");
        pack_double(p, hit.score);
        if (e->rival != 0) {
            pack_str(p, "generation");
            pack_uint(p, hit.of_rival ? e->rival : e->generation);
        }
    }
}

/* How well it was asked to search, where that was asked. */
static void pack_effort(packer *p, const event_asked *a)
{
    switch (a->effort) {
    case EFFORT_USUAL: break;
    case EFFORT_RECALL:
        pack_str(p, "recall");
        pack_double(p, a->measure);
        break;
    case EFFORT_NPROBE:
        pack_str(p, "nprobe");
        pack_uint(p, (uint64_t)a->measure);
        break;
    case EFFORT_EXACT:
        pack_str(p, "exact");
        pack_bool(p, true);
        break;
    }
}

static void pack_with(packer *p, unsigned with)
{
    static const char *const names[] = {"text", "meta", "vector"}; /* WITH_ bits from the lowest on */
    if (with == 0)
        return;
    pack_str(p, "with");
    pack_array(p, (size_t)__builtin_popcount(with));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (with >> i & 1)
            pack_str(p, names[i]);
}

static bool filter_left_out(const event_asked *a)
{
    return a->filter == NULL && a->filter_size > 0;
}

/* Entries that there are only where they were asked for. */
static size_t count_given(const event_asked *a)
{
    return (a->effort != EFFORT_USUAL) + (a->with != 0) + filter_left_out(a);
}

static void pack_asked(packer *p, const event_asked *a)
{
    pack_str(p, "k");
    if (a->k != 0)
        pack_uint(p, a->k);
    else
        pack_nil(p);
    pack_str(p, "filter");
    if (a->filter != NULL)
        pack_raw(p, a->filter, a->filter_size);
    else
        pack_nil(p);
    if (filter_left_out(a)) {
        pack_str(p, "filter_bytes");
        pack_uint(p, a->filter_size);
    }
    pack_effort(p, a);
    pack_with(p, a->with);
}

static const char *mode_of(const event_listed *e)
{
    static const char *const modes[] = {
        [RANKING_DENSE] = "dense", [RANKING_LEXICAL] = "lexical", [RANKING_HYBRID] = "hybrid"};
    return e->ranking == RANKING_UNKNOWN ? NULL : modes[e->ranking];
}

static void pack_search(listing *l, const event_listed *e)
{
    static const char *const by[] = {[QUERY_TEXT] = "query", [QUERY_VECTOR] = "vector", [QUERY_LIKE] = "like"};
    packer *p = &l->pack;
    pack_head(l, e, "search", 11 + count_given(&e->asked));
    pack_text(p, "query_id", e->query_id, e->query_id_length);
    pack_collection(l, e->collection);
    pack_str(p, "generation");
    pack_uint(p, e->generation);
    pack_str(p, "by");
    pack_str(p, by[e->query_kind]);
    pack_str(p, "mode");
    if (mode_of(e) != NULL)
        pack_str(p, mode_of(e));
    else
        pack_nil(p);
    pack_str(p, "query");
    if (e->query_kind == QUERY_TEXT)
        pack_strn(p, e->query, e->query_length);
    else
        pack_nil(p);
    pack_str(p, "like");
    if (e->by_id)
        pack_id(p, &e->id);
    else
        pack_nil(p);
    pack_asked(p, &e->asked);
    pack_user(p, e->user_hash);
    pack_hits(p, e);
}

static void pack_click(listing *l, const event_listed *e)
{
    packer *p = &l->pack;
    pack_head(l, e, "click", 4);
    pack_text(p, "query_id", e->query_id, e->query_id_length);
    pack_str(p, "id");
    pack_id(p, &e->id);
    pack_str(p, "rank");
    pack_uint(p, e->rank);
    pack_str(p, "weight");
    pack_double(p, e->weight);
}

static void pack_feedback(listing *l, const event_listed *e)
{
    packer *p = &l->pack;
    pack_head(l, e, "feedback", 4);
    pack_collection(l, e->collection);
    pack_text(p, "query", e->query, e->query_length);
    if (e->by_id) {
        pack_str(p, "id");
        pack_id(p, &e->id);
    } else {
        pack_text(p, "text", e->text, e->text_length);
    }
    pack_str(p, "label");
    pack_int(p, e->label);
}

static bool take_event(void *context, const event_listed *e)
{
    listing *l = context;
    if (l->count == l->task->request->u.events.limit || l->events.size > ANSWER_BYTES || !walk_goes_on(&l->clock))
        return false;
    switch (e->kind) {
    case EVENT_SEARCH: pack_search(l, e); break;
    case EVENT_CLICK: pack_click(l, e); break;
    case EVENT_FEEDBACK: pack_feedback(l, e); break;
    }
    l->count++;
    return l->status == SEM_OK && !l->pack.failed;
}

/* The seq behind which a page begins; what an answer named as `next` is its digits. */
static sem_status find_start(const request *q, uint64_t *after, sem_error *err)
{
    const span *text = &q->u.events.after;
    char digits[POSITION_MAX + 1] = "";
    *after = q->u.events.has_seq ? q->u.events.seq : 0;
    if (text->data == NULL)
        return SEM_OK;
    if (text->size > 0 && text->size <= POSITION_MAX)
        memcpy(digits, text->data, text->size);
    if (digits[0] != '\0' && strspn(digits, "0123456789") == text->size) {
        char *end;
        *after = strtoull(digits, &end, 10);
        return SEM_OK;
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT, "after: not a value that events answered with as next");
}

static void answer_page(listing *l, uint64_t last, bool more)
{
    answer a;
    char next[POSITION_MAX + 1];
    answer_begin(&a, l->task);
    pack_map(&a.pack, 2);
    pack_str(&a.pack, "events");
    pack_array(&a.pack, l->count);
    pack_raw(&a.pack, l->events.data, l->events.size);
    pack_str(&a.pack, "next");
    snprintf(next, sizeof next, "%" PRIu64, last);
    if (more)
        pack_str(&a.pack, next);
    else
        pack_nil(&a.pack);
    answer_send(l->worker->core, l->task, &a);
}

void op_events(worker *w, task *t)
{
    const request *q = t->request;
    sem_error err;
    uint64_t after, last = 0;
    bool more = false;
    listing l = {.worker = w, .task = t, .err = &err};
    pack_init(&l.pack, &l.events);
    l.clock = (walk_clock){.task = t, .err = &err};
    sem_status status = find_start(q, &after, &err);
    if (status == SEM_OK)
        status = worker_renew(w, &err);
    if (status == SEM_OK)
        status = events_list(w->read, after, q->u.events.kinds, LOOKED_MAX, take_event, &l, &last, &more, &err);
    if (status == SEM_OK)
        status = l.status != SEM_OK ? l.status : l.clock.status;
    if (status == SEM_OK && l.pack.failed)
        status = sem_fail_memory(&err, "an answer");
    if (status == SEM_OK)
        answer_page(&l, last, more);
    else
        task_fail(w->core, t, &err);
    buffer_free(&l.events);
}
