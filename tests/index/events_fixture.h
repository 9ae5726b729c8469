/* What the tests of the event log share: short ways to log, and to see what is logged. */
#ifndef SEM_TESTS_INDEX_EVENTS_FIXTURE_H
#define SEM_TESTS_INDEX_EVENTS_FIXTURE_H

#include "tests/index/store_fixture.h"

#include "index/events.h"

#include <stdarg.h>

enum { LOG_ALL = EVENT_SEARCH | EVENT_CLICK | EVENT_FEEDBACK, LOG_PLENTY = 100000, LOG_COLLECTION = 4 };

static const int64_t LOG_NOW = 1790000000000, LOG_WINDOW = 86400000;

/* One line an event, so that a whole log is compared at once. */
typedef struct listed {
    char text[16384];
    size_t count, stop;
    uint64_t last;
    bool more;
} listed;

__attribute__((format(printf, 2, 3))) static inline void listed_add(listed *l, const char *format, ...)
{
    size_t used = strlen(l->text);
    va_list args;
    va_start(args, format);
    vsnprintf(l->text + used, sizeof l->text - used, format, args);
    va_end(args);
}

static inline void listed_add_id(listed *l, const docid *id)
{
    if (id->is_integer)
        listed_add(l, " %llu", (unsigned long long)id->integer);
    else
        listed_add(l, " \"%.*s\"", (int)id->length, id->string);
}

/* Nothing is written where the log is too long to be looked at. */
static inline void listed_event(listed *l, const event_listed *e)
{
    event_hits hits = e->hits;
    event_hit hit;
    listed_add(l, "%llu+%lld %u", (unsigned long long)e->seq, (long long)(e->time_ms - LOG_NOW), e->kind);
    if (e->query_id != NULL)
        listed_add(l, " %.*s", (int)e->query_id_length, e->query_id);
    if (e->query != NULL)
        listed_add(l, " '%.*s'", (int)e->query_length, e->query);
    if (e->by_id)
        listed_add_id(l, &e->id);
    if (e->kind == EVENT_SEARCH)
        listed_add(l, " c%u g%u by%u r%u u%llu n%zu:", e->collection, e->generation, e->query_kind, e->ranking,
                   (unsigned long long)e->user_hash, e->hit_count);
    while (event_hit_next(&hits, &hit)) {
        if (hit.erased) {
            listed_add(l, " -");
            continue;
        }
        listed_add_id(l, &hit.id);
        listed_add(l, "=%.2f", (double)hit.score);
    }
    if (e->kind == EVENT_CLICK)
        listed_add(l, " rank%u w%.1f", e->rank, e->weight);
    if (e->kind == EVENT_FEEDBACK)
        listed_add(l, " c%u text'%.*s' %d", e->collection, (int)e->text_length, e->text_length > 0 ? e->text : "",
                   e->label);
    listed_add(l, "\n");
}

static inline bool listed_one(void *context, const event_listed *e)
{
    listed *l = context;
    if (l->count == l->stop)
        return false;
    l->count++;
    listed_event(l, e);
    return true;
}

static inline listed log_list(store *s, uint64_t after, unsigned kinds, size_t most, size_t stop)
{
    sem_error error;
    store_read *r;
    listed l = {.stop = stop};
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_list(r, after, kinds, most, listed_one, &l, &l.last, &l.more, &error));
    store_read_end(r);
    return l;
}

static inline listed log_all(store *s)
{
    return log_list(s, 0, LOG_ALL, LOG_PLENTY, LOG_PLENTY);
}

/* A search for `text` that showed 7, "7" and 9. */
static inline void log_put(store_write *w, const char *query_id, const char *text, uint64_t user, int64_t time_ms)
{
    sem_error error;
    const docid shown[3] = {number_id(7), string_id("7"), number_id(9)};
    const float scores[3] = {0.75f, 0.5f, 0.25f};
    const event_search e = {.query_id = query_id,
                            .time_ms = time_ms,
                            .collection = LOG_COLLECTION,
                            .generation = 3,
                            .kind = QUERY_TEXT,
                            .ranking = RANKING_DENSE,
                            .query = text,
                            .query_length = strlen(text),
                            .user_hash = user,
                            .asked = {.k = 3, .filter = "\x81\xa3not\x80", .filter_size = 6},
                            .shown = shown,
                            .scores = scores,
                            .shown_count = 3};
    const event_search *one = &e;
    ck_ok(events_put_searches(w, &one, 1, &error));
}

/* A search by vector, or like an id, that showed 9 alone. */
static inline void log_put_other(store_write *w, const char *query_id, query_kind kind, docid like, int64_t time_ms)
{
    sem_error error;
    const docid shown[1] = {number_id(9)};
    const float scores[1] = {0.75f};
    const event_search e = {.query_id = query_id,
                            .time_ms = time_ms,
                            .collection = LOG_COLLECTION,
                            .generation = 3,
                            .kind = kind,
                            .ranking = RANKING_DENSE,
                            .like = like,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = 1};
    const event_search *one = &e;
    ck_ok(events_put_searches(w, &one, 1, &error));
}

static inline void log_click(store_write *w, const char *query_id, docid id, int64_t time_ms)
{
    sem_error error;
    ck_ok(events_put_click(w, query_id, strlen(query_id), &id, 1, time_ms, LOG_WINDOW, &error));
}

/* text: the document's, or NULL and its id. */
static inline void log_feedback(store_write *w, const char *query, docid id, const char *text, int64_t time_ms)
{
    sem_error error;
    const event_feedback f = {.time_ms = time_ms,
                              .collection = LOG_COLLECTION,
                              .query = query,
                              .query_length = strlen(query),
                              .by_id = text == NULL,
                              .id = id,
                              .text = text,
                              .text_length = text != NULL ? strlen(text) : 0,
                              .label = 1};
    ck_ok(events_put_feedback(w, &f, 1, &error));
}

#endif
