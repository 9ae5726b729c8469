/* What of recall_measure is about reaches (recall_curve.h): which cells each of them means to a
 * query, and which reaches are worth measuring. */
#ifndef SEM_INDEX_RECALL_REACH_H
#define SEM_INDEX_RECALL_REACH_H

#include "index/lists.h"
#include "index/recall_curve.h"
#include "index/rows.h"
#include "index/scratch.h"

#include <stddef.h>
#include <stdint.h>

/* A query as all of this meets it. */
typedef struct reach_query {
    const lists *lists;
    const rows *rows;
    const search_scratch *prepared; /* its codes are the query's, its cells all of the lists, nearest first */
    uint32_t own;                   /* document that stands in for the query, or ROW_NONE */
} reach_query;

/* Of a query: the cells that are probed before a reach counts. */
typedef struct reach_nearest {
    size_t cells;
    float could_have;               /* the estimate that decides which others are within reach */
    uint32_t within[CURVE_REACHES]; /* cells, these included */
} reach_nearest;

/* Finds them for a search with that effort. order, places: [nlist] scratch. Any thread. */
void recall_reach_look(const reach_query *q, const effort *e, uint32_t *order, uint32_t *places, reach_nearest *out);

/* Orders the cells by the reach that probes them: the first ends[r] of order [nlist] are probed with
 * the r-th one. places [nlist] gets where each cell comes in that order. Any thread. */
void recall_reach_order(const reach_query *q, const reach_nearest *n, uint32_t *order, uint32_t *places,
                        size_t ends[CURVE_REACHES + 1]);

/* Sets the cells that each reach of the curve means on average, 0 where they are too many for it to be
 * worth measuring. of: [count, CURVE_REACH_DEPTHS] of all queries. */
void recall_reach_choose(recall_curve *curve, const lists *l, const reach_nearest *of, size_t count);

#endif
