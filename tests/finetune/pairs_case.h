/* A store with judgements, and the pairs that come of them. */
#ifndef SEM_TESTS_FINETUNE_PAIRS_CASE_H
#define SEM_TESTS_FINETUNE_PAIRS_CASE_H

#include "tests/common/testing.h"

#include "base/hash.h"
#include "finetune/pairs.h"

#include <stdio.h>
#include <string.h>

enum { SPACE = 1, DIM = 4, WINDOW_MS = 1000000 };

static const unsigned char pairs_key[16] = "a key of sixteen";
static sem_error error;

/* A store with the collection "notes" and documents of the given texts, ids from 1. */
typedef struct pairs_case {
    store *store;
    uint32_t collection;
    sem_log log;
} pairs_case;

static inline docid id_of(uint64_t number)
{
    return (docid){.is_integer = true, .integer = number};
}

static inline void put_documents(pairs_case *t, const char *const *texts, size_t count)
{
    static const float vector[DIM] = {1, 0, 0, 0};
    store_write *w = NULL;
    uint64_t seq = 0;
    ck_ok(store_write_begin(t->store, &w, &error));
    for (size_t i = 0; i < count; i++) {
        store_put put = {.id = id_of(i + 1), .text = texts[i], .text_length = strlen(texts[i]), .vector = vector};
        ck_ok(store_documents_put(w, t->collection, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    }
    ck_ok(store_write_commit(w, &error));
}

static inline void arrange(pairs_case *t, const char *const *texts, size_t count)
{
    char path[512];
    store_write *w = NULL;
    bool created = false;
    store_collection notes = {.name = "notes", .metric = METRIC_COSINE};
    log_init(&t->log, 2, LOG_LEVEL_ERROR);
    static int number; /* of the stores of this process */
    snprintf(path, sizeof path, "%s/store-%d", testing_folder(), number++);
    const store_options options = {.path = path, .map_size = (uint64_t)64 << 20};
    ck_ok(store_open(&t->store, &options, &t->log, &error));
    ck_ok(store_space_open(t->store, SPACE, DIM, &error));
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(store_collection_create(w, &notes, &created, &error));
    ck_ok(store_write_commit(w, &error));
    t->collection = notes.number;
    put_documents(t, texts, count);
}

static inline sem_status put_search(store_write *w, const event_search *e, sem_error *err)
{
    return events_put_searches(w, &e, 1, err);
}

/* user 0: not given. */
static inline void search_of(pairs_case *t, const char *query_id, uint64_t user, const char *query, const docid *shown,
                             size_t count)
{
    store_write *w = NULL;
    const float scores[64] = {0};
    const event_search e = {.query_id = query_id,
                            .time_ms = 1000,
                            .collection = t->collection,
                            .generation = 1,
                            .kind = QUERY_TEXT,
                            .query = query,
                            .query_length = strlen(query),
                            .user_hash = user,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = count};
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(put_search(w, &e, &error));
    ck_ok(store_write_commit(w, &error));
}

static inline void search(pairs_case *t, const char *query_id, const char *query, const docid *shown, size_t count)
{
    search_of(t, query_id, 0, query, shown, count);
}

static inline void click(pairs_case *t, const char *query_id, uint64_t id, double weight)
{
    store_write *w = NULL;
    docid clicked = id_of(id);
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(events_put_click(w, query_id, strlen(query_id), &clicked, weight, 2000, WINDOW_MS, &error));
    ck_ok(store_write_commit(w, &error));
}

/* text NULL: by id. */
static inline void feedback(pairs_case *t, const char *query, uint64_t id, const char *text, int label)
{
    store_write *w = NULL;
    const event_feedback e = {.time_ms = 3000,
                              .collection = t->collection,
                              .query = query,
                              .query_length = strlen(query),
                              .by_id = text == NULL,
                              .id = id_of(id),
                              .text = text,
                              .text_length = text != NULL ? strlen(text) : 0,
                              .label = label};
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(events_put_feedback(w, &e, 1, &error));
    ck_ok(store_write_commit(w, &error));
}

static inline void collect_with(pairs_case *t, const pair_options *options, pair_set *set)
{
    store_read *r = NULL;
    ck_ok(store_read_begin(t->store, &r, &error));
    ck_ok(pair_set_collect(set, r, options, &error));
    store_read_end(r);
}

static inline void collect(pairs_case *t, double heldout_share, uint32_t collection, pair_set *set)
{
    const pair_options options = {.collection = collection, .heldout_share = heldout_share, .key = pairs_key};
    collect_with(t, &options, set);
}

static inline bool is_pair(const train_pair *p, const char *query, const char *document)
{
    return p->query_length == strlen(query) && memcmp(p->query, query, p->query_length) == 0 &&
           p->document_length == strlen(document) && memcmp(p->document, document, p->document_length) == 0;
}

#endif
