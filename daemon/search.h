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
    vector_hit *hits; /* owned */
    size_t count;
    explanation *explain; /* NULL: a search that is only answered */
} search;

/* Frees what it owns. */
void search_free(search *s);
/* Sets s->allowed or s->listed to the documents that the filter leaves, if there is one. */
sem_status search_apply_filter(search *s, sem_error *err);
/* Answers with s->hits, as they are in the worker's snapshot: as search does, or as
 * explain. Takes s->task unless it fails. */
sem_status search_answer(search *s, sem_error *err);

#endif
