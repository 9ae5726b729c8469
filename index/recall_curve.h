/* Recall as a function of the number of cells probed, measured on the index's
 * own vectors, and the way back: how many cells a wanted recall needs. */
#ifndef SEM_INDEX_RECALL_CURVE_H
#define SEM_INDEX_RECALL_CURVE_H

#include "base/status.h"
#include "index/dot.h"
#include "index/rows.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CURVE_POINTS_MAX = 16, /* 1, 2, 4, … and nlist */
    CURVE_DEPTHS = 5       /* recall@10, @30, @100, @300 and @1000 */
};

typedef struct recall_curve {
    size_t points;
    struct {
        size_t nprobe;
        double recall[CURVE_DEPTHS]; /* the mean over the queries */
        double sure[CURVE_DEPTHS];   /* the mean less its margin of error */
        double last[CURVE_DEPTHS];   /* the same for the neighbours beyond the depth before alone */
    } at[CURVE_POINTS_MAX];
} recall_curve;

/* What the curve is measured on. */
typedef struct curve_input {
    const rows *rows;
    rows_view *view; /* of these rows; renewed on the way */
    uint32_t seen;   /* rows that count */
    const dot_kernel *kernel;
    const float *centroids;    /* [nlist, width] */
    size_t nlist;              /* at most 2^15 */
    const uint32_t *cells;     /* [seen] the cell of each row; ROW_NONE: in none, left out */
    const atomic_bool *cancel; /* may be NULL */
} curve_input;

/* Takes live rows as queries, each left out of its own results, and compares
 * with exact search over the rows that are in cells. */
sem_status recall_curve_measure(recall_curve *curve, const curve_input *in, sem_error *err);

/* Cells to probe for recall@k. recall < 1. */
size_t recall_curve_nprobe(const recall_curve *curve, double recall, double k);
/* Cells to probe so that neighbours of about the k-th rank are found with that
 * probability: more than for all of the first k. */
size_t recall_curve_nprobe_at_rank(const recall_curve *curve, double recall, double k);

#endif
