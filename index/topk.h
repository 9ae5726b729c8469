/* The k best documents seen so far: a heap with the worst of them on top. */
#ifndef SEM_INDEX_TOPK_H
#define SEM_INDEX_TOPK_H

#include "index/vector_index.h"

#include <math.h>
#include <stddef.h>

typedef int topk_tie_fn(void *context, uint32_t a, uint32_t b);

typedef struct topk {
    vector_hit *hits; /* [k], the caller's */
    size_t k, count;
    topk_tie_fn *tie; /* NULL: the smaller docno comes first */
    void *tie_context;
} topk;

static inline topk topk_start(vector_hit *hits, size_t k, topk_tie_fn *tie, void *tie_context)
{
    return (topk){.hits = hits, .k = k, .tie = tie, .tie_context = tie_context};
}

/* A document with a lower score has no chance; an equal one may have. */
static inline float topk_threshold(const topk *t)
{
    return t->count < t->k ? -INFINITY : t->hits[0].score;
}

/* k must not be 0; score must not be NaN. row: comes back with the hit. */
void topk_push(topk *t, uint32_t docno, uint32_t row, float score);

/* Sorts hits, best first. The heap is used up. */
void topk_finish(topk *t);

#endif
