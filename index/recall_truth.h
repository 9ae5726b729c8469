/* The true neighbours of the queries that recall is measured with: candidates by their nibbles,
 * the best of those by their floats. */
#ifndef SEM_INDEX_RECALL_TRUTH_H
#define SEM_INDEX_RECALL_TRUTH_H

#include "base/status.h"
#include "index/recall_measure.h"
#include "index/recall_sample.h"
#include "index/topk.h"

#include <stddef.h>
#include <stdint.h>

enum {
    TRUTH_DEPTH = 1000, /* neighbours of a query */
    TRUTH_GROUP = 50    /* queries that are compared in one go */
};

typedef struct truth_input {
    const measure_input *of;
    const recall_sample *sample;
    const uint16_t *scales; /* [seen] of the rows' nibbles; a NaN: in no list */
    vector_hit *hits;       /* [count of the sample, TRUTH_DEPTH] what is found, nearest first */
    size_t *found;          /* [count of the sample] */
} truth_input;

/* Of count <= TRUTH_GROUP queries from the first one on. Cancelled: what is found means nothing. Any
 * thread, each with queries of its own. */
sem_status recall_truth_find(const truth_input *in, size_t first, size_t count, sem_error *err);

#endif
