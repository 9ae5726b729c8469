/* Measures a recall curve. */
#ifndef SEM_INDEX_RECALL_MEASURE_H
#define SEM_INDEX_RECALL_MEASURE_H

#include "base/status.h"
#include "index/dot.h"
#include "index/lists.h"
#include "index/recall_curve.h"
#include "index/rows.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct measure_input {
    rows_view *view; /* renewed on the way */
    uint32_t seen;   /* rows that count: all of them are in the lists, or dead */
    const dot_kernel *kernel;
    const lists *lists;
    unsigned threads;
    const float *logged; /* [logged_count, dim] queries that were asked, or NULL */
    size_t logged_count;
    const atomic_bool *cancel; /* may be NULL */
} measure_input;

/* Takes live rows as queries, each left out of its own results, and logged ones;
 * compares what each effort would find with exact search. */
sem_status recall_measure(recall_curve *curve, const measure_input *in, sem_error *err);

#endif
