/* Where the centroids of one cell's rows would be, had it several. */
#ifndef SEM_INDEX_CELL_SPLIT_H
#define SEM_INDEX_CELL_SPLIT_H

#include "base/status.h"
#include "index/rows.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cell_split {
    const rows_view *view;
    const uint32_t *members; /* [count] rows */
    size_t count;
    size_t want;   /* cells */
    float longest; /* of the longest row, for metric dot; else 0 */
    unsigned threads;
    const atomic_bool *cancel; /* may be NULL */
} cell_split;

/* k-means over the members: [*made, dim] centroids of unit length, for metric dot [*made,
 * dim + 1], malloc'd. *made 0 and NULL: the members cannot be told apart, or are too few.
 * Index thread. */
sem_status cell_split_centroids(const cell_split *c, float **centroids, size_t *made, sem_error *err);

#endif
