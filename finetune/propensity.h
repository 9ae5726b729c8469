/* How likely people are to look at a rank at all: the propensities of the position-based
 * click model, in which a document at rank k is clicked when somebody looks there (p_k)
 * and finds it relevant. A click divided by its rank's propensity counts as much as one
 * at the first rank (Joachims, Swaminathan and Schnabel 2017).
 *
 * They come from the log itself, by intervention harvesting (Agarwal et al. 2019,
 * "Estimating Position Bias without Intrusive Interventions", sections 4.1 and 4.3). The
 * set S(k, k') holds what was shown for one query at rank k and at rank k', by different
 * generations, modes or states of the collection: its relevance is the same at both, so
 * the click rates differ by the propensities only. With c(k; k, k') the sum over the
 * set of the clicks at k over the times w(q, d, k) shown there, and n its size,
 *
 *   max over p, r of the sum over k, k' of
 *     c(k; k, k') log(p_k r_kk') + (n - c(k; k, k')) log(1 - p_k r_kk'),  r_kk' = r_k'k
 *
 * (the paper's AllPairs estimator). To it comes what is believed before: for each rank k
 * a set of {1, k}, clicked as often as a prior of 1 / k^eta says, whose size is a number
 * of clicks. So a rank of which the log knows little keeps to the prior. */
#ifndef SEM_FINETUNE_PROPENSITY_H
#define SEM_FINETUNE_PROPENSITY_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROPENSITY_RANKS = 50 /* estimated; those below have what the prior makes of the last */ };

/* A document that was shown for a query. */
typedef struct impression {
    uint64_t query;    /* equal: the same query of the same collection */
    uint64_t document; /* equal: the same document of that collection */
    uint32_t rank;     /* from 1 */
    bool clicked;
    uint64_t user; /* who was shown it; 0: not given */
} impression;

typedef struct propensity_options {
    double eta;          /* of the prior, 0 or more; 0: all ranks are looked at alike */
    double prior_clicks; /* that the prior counts for, at each rank; above 0 */
} propensity_options;

typedef struct propensities {
    double at[PROPENSITY_RANKS]; /* of rank k at k - 1, over that of rank 1 */
    double eta;
    size_t moved;  /* documents that one query has had at two ranks or more */
    double clicks; /* on those */
} propensities;

/* The prior alone. */
void propensity_prior(propensities *out, double eta);

/* Sorts impressions [count] in place. The same impressions in any order give the same. */
sem_status propensity_estimate(propensities *out, impression *impressions, size_t count,
                               const propensity_options *options, sem_error *err);

/* Of a rank from 1. */
double propensity_at(const propensities *p, uint32_t rank);

/* What a click at the rank counts for: one over the propensity, at most `most` (1 or more):
 * a bound on what one click can do, for a little of the bias. */
double propensity_weight(const propensities *p, uint32_t rank, double most);

#endif
