/* Recall as a function of effort, measured on the index's own vectors, and the way
 * back: the cheapest effort for a wanted recall. Effort is the number of cells
 * probed, of the candidates that their bits leave and of those that their nibbles
 * leave (stages.h).
 *
 * Instead of a number of cells, the same for easy queries and for hard ones, effort may be
 * a reach: a query that has probed its nearest few cells knows about which score its k-th
 * hit will have at least, and goes on with those cells of which a row could have as much
 * (lists_needed_cosine): after Li et al. 2020 (SIGMOD, adaptive early termination) and Mohoney
 * et al. 2025 (OSDI, Quake). On sentences' embeddings that takes a third fewer rows. */
#ifndef SEM_INDEX_RECALL_CURVE_H
#define SEM_INDEX_RECALL_CURVE_H

#include <stddef.h>
#include <stdint.h>

enum {
    CURVE_POINTS_MAX = 16, /* 1, 2, 4, … and nlist */
    CURVE_FACTORS = 8,     /* candidates that the bits leave, as multiples of the depth */
    CURVE_SPARE = 5,       /* rows whose floats are compared besides, for a small depth */
    CURVE_DEPTHS = 5,      /* recall@10, @30, @100, @300 and @1000 */
    CURVE_REACHES = 24,
    CURVE_REACH_DEPTHS = 3 /* for more hits the nearest few cells tell too little */
};

/* What is known of one number of probes. */
typedef struct curve_point {
    size_t nprobe;
    float recall[CURVE_DEPTHS];              /* the mean over the queries, with the most candidates */
    float sure[CURVE_DEPTHS][CURVE_FACTORS]; /* the mean less its margin of error */
    float last[CURVE_DEPTHS]; /* with the most candidates, for the neighbours beyond the depth before alone */
} curve_point;

/* What is known of one reach. */
typedef struct curve_reach {
    float cells[CURVE_REACH_DEPTHS];               /* probed on average; 0: too many, nothing else is known */
    float sure[CURVE_REACH_DEPTHS][CURVE_FACTORS]; /* as above */
} curve_reach;

typedef struct recall_curve {
    size_t points;
    curve_point at[CURVE_POINTS_MAX];
    curve_reach reach[CURVE_REACHES];
    float second[CURVE_DEPTHS]; /* candidates that the nibbles leave, as a multiple of the depth */
    float cells_rows;           /* rows in a cell, as a search meets them */
    float candidate_cost;       /* of comparing one row's nibbles, in rows' bits */
    size_t queries;             /* that it was measured with */
    size_t logged;              /* of them, those that had been asked of the collection */
} recall_curve;

typedef struct effort {
    size_t nprobe; /* with a reach: of so many nearest cells those that are within it */
    size_t first;  /* rows whose nibbles are compared */
    size_t second; /* rows whose floats are compared */
    float reach;   /* a cosine; 0: none, all nprobe cells */
    size_t near;   /* cells, and more until there are `rank` lanes, that are probed before the reach counts */
    size_t rank;   /* of the lane there whose estimate a row of a cell within reach could have */
} effort;

size_t curve_depth(size_t d);                    /* 10, 30, … */
size_t curve_candidates(size_t depth, size_t f); /* depth times the f-th factor */
float curve_cosine(size_t r);                    /* the r-th reach, r < CURVE_REACHES */

/* What reach, near and rank are for the d-th depth, d < CURVE_REACH_DEPTHS; with nprobe for
 * an average of so many cells. */
effort recall_curve_reaching(const recall_curve *curve, size_t d, float reach, double cells);

/* Sets the numbers of cells that are measured: 1, 2, 4, … and all. */
void recall_curve_begin(recall_curve *curve, size_t nlist);

/* The same curve for another number of cells, of about the same size. */
void recall_curve_resize(recall_curve *curve, size_t nlist);

/* How much deeper the nearest of `live` rows lie among those that the curve was measured
 * on: where some were deleted since, what is left of a depth is as much less. */
double recall_curve_thinned(size_t measured_rows, double live);

/* Up to which of the covered rows a search goes by the curve, where `came` of them, the last, came after it was
 * measured: the rest it compares one by one, so that the recall of them is 1, unless they are so few of the live
 * ones that theirs hardly counts, or so many that this takes long; the index thread measures anew before long. */
uint32_t recall_curve_covers(uint32_t covered, size_t came, double live);

/* The cheapest for recall@k. recall < 1. */
effort recall_curve_effort(const recall_curve *curve, double recall, double k);
/* With as many candidates as were ever measured: for callers that say nprobe. */
effort recall_curve_thorough(const recall_curve *curve, size_t nprobe, double k);
/* Cells to probe so that the nearest `depth` are found with that recall. */
size_t recall_curve_nprobe(const recall_curve *curve, double recall, double depth);
/* Cells to probe so that neighbours of about that rank are found with that
 * probability: more than for all of the first so many. */
size_t recall_curve_nprobe_at_rank(const recall_curve *curve, double recall, double rank);

#endif
