/* The lanes of a cell as a search meets them: what recall is measured on. */
#ifndef SEM_INDEX_RECALL_LANES_H
#define SEM_INDEX_RECALL_LANES_H

#include "index/lists.h"
#include "index/scratch.h"

#include <stdint.h>

/* row: of the index; estimate: of its product with the query, by the lane's bits. */
typedef void recall_lane_fn(void *context, uint32_t row, uint32_t cell, float estimate);

/* Calls f for each lane of a cell (l->nlist: the strangers) whose estimate is at least so high
 * (finite). prepared: its codes are the query's, and its cells have the scores of all centroids.
 * Any thread. */
void recall_lanes_each(const lists *l, const search_scratch *prepared, uint32_t cell, float least, recall_lane_fn *f,
                       void *context);

#endif
