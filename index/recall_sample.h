/* What every measurement of recall begins and ends with: the queries that it asks, and
 * means with their margins of error. */
#ifndef SEM_INDEX_RECALL_SAMPLE_H
#define SEM_INDEX_RECALL_SAMPLE_H

#include "base/status.h"
#include "index/rows.h"

#include <stddef.h>
#include <stdint.h>

typedef struct recall_sample {
    size_t count;
    float *queries; /* [count, width of the rows], owned */
    uint32_t *own;  /* [count] documents left out of their own results; ROW_NONE for logged queries, owned */
} recall_sample;

/* Takes up to `most` live rows below seen, and the logged queries [logged_count, dim] besides;
 * few rows where there are enough of those. Renews view and lets it rest. Index thread. */
sem_status recall_sample_choose(recall_sample *s, rows_view *view, uint32_t seen, size_t most, const float *logged,
                                size_t logged_count, sem_error *err);
void recall_sample_free(recall_sample *s); /* a zeroed one is fine */

typedef struct recall_tally {
    double sum, squares; /* of the queries' recalls */
} recall_tally;

/* A query with so many true neighbours, of which so many were found. */
void recall_tally_add(recall_tally *t, size_t found, size_t neighbours);
void recall_tally_merge(recall_tally *to, const recall_tally *from);
/* The mean of count queries, and in *sure the mean less its margin of error: one-sided 99%,
 * so that a lower recall comes by chance in one measurement of a hundred. */
float recall_tally_mean(const recall_tally *t, size_t count, float *sure);

#endif
