/* The nearest documents of many queries, exactly: every query with every document. */
#ifndef SEM_FINETUNE_EXACT_SEARCH_H
#define SEM_FINETUNE_EXACT_SEARCH_H

#include "base/status.h"
#include "model/gemm.h"
#include "index/vector_index.h"

#include <stddef.h>

typedef struct exact_job {
    const gemm *g;
    const float *queries; /* [query_count, dim] */
    size_t query_count;
    const float *documents; /* [document_count, dim] at most UINT32_MAX */
    size_t document_count;
    size_t dim;
    size_t k; /* hits of a query, at least 1 */
    unsigned threads;
} exact_job;

/* hits[query_count, k]: best first, ties by number; *found = min(k, document_count) of
 * each are filled: docno is the document's number, score the dot product. The result
 * does not depend on threads. Any thread. */
sem_status exact_search(const exact_job *job, vector_hit *hits, size_t *found, sem_error *err);

#endif
