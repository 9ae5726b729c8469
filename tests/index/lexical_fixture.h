/* A store with a lexical index beside it. Documents have the ids 0, 1, 2, … */
#ifndef SEM_TESTS_INDEX_LEXICAL_FIXTURE_H
#define SEM_TESTS_INDEX_LEXICAL_FIXTURE_H

#include "tests/index/store_fixture.h"

#include "index/lexical_index.h"
#include "index/lexical_search.h"

enum { HITS_MAX = 64 };

typedef struct words {
    store *store;
    uint32_t collection;
    lexical_index *index;
    lexical_reader *reader;
    vector_hit hits[HITS_MAX];
    uint64_t ids[HITS_MAX];
    size_t count;
    lexical_plan plan;
    store_write *group; /* open, or NULL */
} words;

static inline void words_open(words *w)
{
    sem_error error;
    bool bad;
    ck_ok(lexical_index_open(&w->index, w->store, NULL, &error));
    ck_ok(lexical_reader_open(&w->reader, w->store, &bad, &error));
}

static inline void words_close(words *w)
{
    lexical_reader_close(w->reader);
    lexical_index_close(w->index);
    w->reader = NULL;
    w->index = NULL;
}

static inline void words_start(words *w, uint64_t map_size)
{
    sem_error error;
    store_write *write;
    *w = (words){.store = new_store(map_size)};
    ck_ok(store_write_begin(w->store, &write, &error));
    w->collection = make_collection(write, "default");
    ck_ok(store_write_commit(write, &error));
    words_open(w);
}

static inline void words_end(words *w)
{
    words_close(w);
    if (w->group != NULL)
        store_write_abort(w->group);
    store_close(w->store);
}

/* Applies all that the store has; returns how many steps that took. */
static inline size_t words_catch_up(words *w)
{
    sem_error error;
    bool more = true;
    size_t steps = 0;
    for (; more; steps++) {
        store_read *r;
        ck_ok(store_read_begin(w->store, &r, &error));
        ck_ok(lexical_index_step(w->index, r, &more, &error));
        store_read_end(r);
    }
    return steps;
}

/* Commits what was written since the last time. */
static inline void words_commit(words *w)
{
    sem_error error;
    if (w->group != NULL)
        ck_ok(store_write_commit(w->group, &error));
    w->group = NULL;
}

/* One request; text NULL: deletes. */
static inline void words_write(words *w, uint64_t id, const char *text)
{
    sem_error error;
    if (w->group == NULL)
        ck_ok(store_write_begin(w->store, &w->group, &error));
    if (text != NULL) {
        ck_ok(put_text(w->group, w->collection, number_id(id), text, 1, NULL, NULL, &error));
    } else {
        docid one = number_id(id);
        uint32_t docno;
        size_t deleted;
        uint64_t seq;
        ck_ok(store_documents_delete(w->group, w->collection, &one, 1, &docno, &deleted, &seq, &error));
    }
}

static inline sem_status words_try(words *w, const lexical_query *q, const filter *passes, sem_error *err)
{
    store_read *r;
    lexical_candidates *found;
    sem_status status = lexical_gather(w->reader, q, &found, err);
    if (status != SEM_OK)
        return status;
    status = store_read_begin(w->store, &r, err);
    if (status == SEM_OK) {
        status = lexical_rank(found, r, passes, w->hits, &w->count, err);
        for (size_t i = 0; status == SEM_OK && i < w->count; i++) {
            store_document doc;
            bool there;
            status = store_document_by_number(r, w->collection, w->hits[i].docno, &doc, &there, err);
            ck_assert(there);
            w->ids[i] = doc.id.integer;
        }
        store_read_end(r);
    }
    w->plan = *lexical_candidates_plan(found);
    lexical_candidates_free(found);
    return status;
}

static inline void words_search(words *w, const char *query, size_t k)
{
    sem_error error;
    lexical_query q = {.collection = w->collection, .text = query, .length = strlen(query), .k = k, .text_bytes = 100};
    ck_assert_uint_le(k, HITS_MAX);
    ck_ok(words_try(w, &q, NULL, &error));
}

#endif
