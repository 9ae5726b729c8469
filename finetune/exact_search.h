/* The nearest documents of many queries, exactly: every query with every document. */
#ifndef SEM_FINETUNE_EXACT_SEARCH_H
#define SEM_FINETUNE_EXACT_SEARCH_H

#include "base/status.h"
#include "model/gemm.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct exact_hit {
    uint32_t document;
    float score; /* dot product */
} exact_hit;

typedef struct exact_job {
    const gemm *g;
    const float *queries; /* [query_count, dim] */
    size_t query_count;
    const float *documents; /* [document_count, dim] at most UINT32_MAX */
    size_t document_count;
    size_t dim;
    size_t k; /* hits of a query, at least 1 */
    unsigned threads;
    atomic_size_t *done; /* may be NULL: queries done so far are added */
} exact_job;

/* hits[query_count, k]: best first, ties by number; *found = min(k, document_count) of
 * each are filled. The result does not depend on threads. Any thread. */
sem_status exact_search(const exact_job *job, exact_hit *hits, size_t *found, sem_error *err);

#endif
