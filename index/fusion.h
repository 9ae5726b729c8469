/* Reciprocal rank fusion of two rankings (Cormack, Clarke and Büttcher 2009, k = 60). */
#ifndef SEM_INDEX_FUSION_H
#define SEM_INDEX_FUSION_H

#include "base/status.h"
#include "index/vector_index.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fusion {
    const vector_hit *dense; /* best first, each document once */
    size_t dense_count;
    const vector_hit *lexical;
    size_t lexical_count;
    double dense_weight, lexical_weight; /* not below 0 */
    /* Orders documents of equal score: <0 if a comes first. */
    int (*tie)(void *context, uint32_t a, uint32_t b);
    void *context;
} fusion;

typedef struct fused_hit {
    uint32_t docno;
    bool has_dense, has_lexical;
    uint32_t slot;        /* as the dense hit's */
    float dense, lexical; /* its scores there */
    double score;         /* sum of weight / (60 + rank) */
} fused_hit;

/* *out: malloc'd, all documents of both, best first. Any thread. */
sem_status fusion_run(const fusion *f, fused_hit **out, size_t *count, sem_error *err);

#endif
