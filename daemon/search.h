/* A search under way, from its query to its answer. */
#ifndef SEM_DAEMON_SEARCH_H
#define SEM_DAEMON_SEARCH_H

#include "index/filter.h"
#include "index/lexical_search.h"
#include "index/store.h"
#include "index/vector_index.h"
#include "daemon/explanation.h"
#include "daemon/serving.h"
#include "daemon/task.h"
#include "daemon/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a hit was found by, where that is not only its vector. */
typedef struct hit_parts {
    bool has_dense, has_lexical;
    float dense, lexical; /* scores, in mode hybrid */
    bool has_passage;
    size_t passage; /* the one that its words are in, where the document is cut */
} hit_parts;

/* Where in its document a hit is. */
typedef struct hit_passage {
    size_t ordinal; /* among the document's passages, from 0 */
    store_range range;
} hit_passage;

/* One search under way. */
typedef struct search {
    worker *worker;
    task *task;
    const request *request;
    serving *serving; /* pinned by the caller */
    store_collection collection;
    space_index *index; /* pinned */
    size_t dim;
    float *vector;     /* owned: the query; NULL in mode lexical */
    float *found;      /* owned: [dim] room for a hit's vector, once hits are packed */
    uint64_t *allowed; /* owned: bitmap over docnos, with a filter that leaves many; else */
    size_t allowed_bits, allowed_count;
    uint32_t *listed; /* owned: the documents that it leaves, in order of number */
    size_t listed_count;
    filter *filter; /* owned */
    bool has_exclude;
    uint32_t exclude;
    size_t spare;     /* hits asked for beyond k */
    bool more;        /* the index may have further ones behind those that it found */
    bool thorough;    /* by words: what has any of them is a candidate, however frequent it is */
    bool again;       /* an answer was given up because a hit of it was deleted before it went out */
    vector_hit *hits; /* owned */
    size_t count;
    hit_parts *parts; /* [count], owned; NULL in mode dense */
    lexical_query words_query;
    lexical_candidates *words; /* owned, of words_query: what has its words; NULL in mode dense */
    bool same_snapshot;        /* the worker's snapshot, of which collection is, stays: many searches share it */
    explanation *explain;      /* NULL: a search that is only answered */
    struct search *rival;      /* the same search by a generation on trial, whose hits are drafted in; or NULL */
    bool *drafted;             /* [count], owned: which hits are the rival's; NULL without one */
} search;

/* --- what all modes share (search.c) */

/* Frees what it owns. */
void search_free(search *s);
/* Sets s->allowed or s->listed to the documents that the filter leaves, if there is one. */
sem_status search_apply_filter(search *s, sem_error *err);
/* The k nearest documents to s->vector, into hits[k]. */
sem_status search_scan(search *s, size_t k, vector_hit *hits, size_t *count, sem_error *err);
/* The space whose vectors are searched. */
uint32_t search_space(const search *s);
/* Whether the worker's snapshot knows the document, and as one that passes the filter. */
sem_status search_knows(search *s, uint32_t docno, bool *known, sem_error *err);
/* Leaves out the hits that it does not know. */
sem_status search_drop_unknown(search *s, sem_error *err);
/* Whether hits are missing that there may be: of those that an index found too many were left out, since the
 * snapshot does not know them. */
bool search_ran_short(const search *s);
/* Takes the newest snapshot, unless same_snapshot; SEM_NOT_FOUND when the collection is gone in it. */
sem_status search_renew(search *s, sem_error *err);
/* Orders documents by their ids in the worker's snapshot; context: a search. */
int search_compare_ids(void *context, uint32_t a, uint32_t b);

/* --- by vectors, by words, by what was asked for (search_vectors.c, search_words.c, search_find.c) */

/* Pins the index, takes the query's vector (encoded, or NULL: as the request has it)
 * and sets s->hits to the nearest k + s->spare documents. */
sem_status search_vectors(search *s, const float *encoded, sem_error *err);
/* Finds s->hits in modes lexical and hybrid; encoded as for search_find. */
sem_status search_find_words(search *s, const float *encoded, sem_error *err);
/* Finds s->hits in the request's mode, for an encoded query (NULL: by vector or like, or
 * in mode lexical). */
sem_status search_find(search *s, const float *encoded, sem_error *err);

/* --- the answer (search_answer.c) */

/* Answers with s->hits, as they are in the worker's snapshot: as search does, or as
 * explain. Takes s->task unless it fails; SEM_CANCELLED when one of them was deleted
 * since that snapshot, so that the search must be done anew. */
sem_status search_answer(search *s, sem_error *err);

/* --- the log (search_record.c) */

/* What the event log keeps of a search that showed documents shown[s->count]; NULL: out of memory. The caller owns
 * it until it hands it to writer_log_search. */
struct search_record *search_record_make(const search *s, const docid *shown, const char *query_id);

/* --- where documents are cut into passages (search_passages.c) */

/* Sets s->hits to the k documents that are nearest to any passage of the document
 * s->exclude (of a very long one, unless exact, to many of them); s->vector is used for
 * one after the other. Takes as many searches. */
sem_status search_like_passages(search *s, size_t k, sem_error *err);
/* Sets s->parts' passages of hits that were found by words: the one that scores best. */
sem_status search_place_words(search *s, sem_error *err);
/* The passage of hit `at`, whose document it is in the worker's snapshot; all of its text
 * where that snapshot does not know. s->found is used. */
sem_status search_hit_passage(search *s, size_t at, const store_document *doc, hit_passage *out, sem_error *err);

#endif
