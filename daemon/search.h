/* A search under way: what its modes share (op_search.c, op_search_lexical.c). */
#ifndef SEM_DAEMON_SEARCH_H
#define SEM_DAEMON_SEARCH_H

#include "index/filter.h"
#include "index/store.h"
#include "index/vector_index.h"
#include "daemon/explanation.h"
#include "daemon/serving.h"
#include "daemon/task.h"
#include "daemon/worker.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a hit of a hybrid search was found by. */
typedef struct hit_parts {
    bool has_dense, has_lexical;
    float dense, lexical; /* scores */
} hit_parts;

/* One search under way. */
typedef struct search {
    worker *worker;
    task *task;
    const request *request;
    serving *serving; /* pinned by the caller */
    store_collection collection;
    space_index *index; /* pinned */
    size_t dim;
    float *vector;     /* owned: the query */
    uint64_t *allowed; /* owned: bitmap over docnos, with a filter that leaves many; else */
    size_t allowed_bits, allowed_count;
    uint32_t *listed; /* owned: the documents that it leaves, in order of number */
    size_t listed_count;
    filter *filter; /* owned */
    bool has_exclude;
    uint32_t exclude;
    size_t spare;     /* hits asked for beyond k */
    bool again;       /* an answer was given up because a hit of it was deleted before it went out */
    vector_hit *hits; /* owned */
    size_t count;
    hit_parts *parts;     /* [count], owned; NULL unless the mode is hybrid */
    bool same_snapshot;   /* the worker's snapshot, of which collection is, stays: many searches share it */
    explanation *explain; /* NULL: a search that is only answered */
} search;

/* Frees what it owns. */
void search_free(search *s);
/* Sets s->allowed or s->listed to the documents that the filter leaves, if there is one. */
sem_status search_apply_filter(search *s, sem_error *err);
/* Pins the index, takes the query's vector (encoded, or NULL: as the request has it)
 * and sets s->hits to the nearest k + s->spare documents. */
sem_status search_vectors(search *s, const float *encoded, sem_error *err);
/* Whether the worker's snapshot knows the document, and as one that passes the filter. */
sem_status search_knows(search *s, uint32_t docno, bool *known, sem_error *err);
/* Takes the newest snapshot, unless same_snapshot; SEM_NOT_FOUND when the collection is gone in it. */
sem_status search_renew(search *s, sem_error *err);
/* Orders documents by their ids in the worker's snapshot; context: a search. */
int search_compare_ids(void *context, uint32_t a, uint32_t b);
/* Finds s->hits in mode dense, for an encoded query (NULL: by vector or like). Newer
 * snapshots are taken until one knows them all, unless same_snapshot. */
sem_status search_find(search *s, const float *encoded, sem_error *err);
/* The same in modes lexical and hybrid. */
sem_status search_find_words(search *s, const float *encoded, sem_error *err);
/* Answers with s->hits, as they are in the worker's snapshot: as search does, or as
 * explain. Takes s->task unless it fails; SEM_CANCELLED when one of them was deleted
 * since that snapshot, so that the search must be done anew. */
sem_status search_answer(search *s, sem_error *err);

#endif
