/* Which clicks to believe: how likely a clicked document is right for its query, as all that was shown
 * and clicked tells. A wrong document is clicked by mistake now and then, a right one again and again.
 *
 * The position-based model with noise (Agarwal, Wang, Li, Bendersky and Najork 2019, "Addressing Trust Bias
 * for Unbiased Learning-to-Rank": TrustPBM, here with the same two rates at all ranks): a document at rank k
 * is looked at with the rank's propensity, and then clicked with one rate where it is right and with another,
 * lower one where it is wrong. Of documents whose best rank for a query is k a share is right. Rates, shares
 * and each document's chance come by expectation maximisation, the propensities held; a click then counts by
 * that chance over its propensity, Bayes' rule beside inverse propensities as in that paper. What tells the
 * two rates from each other are documents that one query has shown more than once; where there are none all
 * clicks are believed. */
#ifndef SEM_FINETUNE_AGREEMENT_H
#define SEM_FINETUNE_AGREEMENT_H

#include "base/status.h"
#include "finetune/propensity.h"

#include <stddef.h>
#include <stdint.h>

/* A document that was clicked for a query. */
typedef struct agreed_pair {
    uint64_t query, document; /* as of its impressions */
    double chance;            /* that it is right */
} agreed_pair;

typedef struct agreement {
    double right, wrong;             /* how often a right and a wrong document is clicked that is looked at */
    double shares[PROPENSITY_RANKS]; /* of documents at best at rank k that are right, at k - 1 */
    agreed_pair *pairs;              /* [count] owned, in order of query and document */
    size_t count;
} agreement;

/* Sorts impressions [count] in place; those below PROPENSITY_RANKS are passed over. The same impressions in any
 * order give the same. A user's impressions of one document for one query are one, with a click if any has
 * one; without a user each is one. */
sem_status agreement_estimate(agreement *out, impression *impressions, size_t count, const propensities *bias,
                              sem_error *err);

/* The chance that a document which was clicked at the rank (from 1) for the query is right. Of one that
 * the estimate did not see: what one click there says. */
double agreement_of(const agreement *a, uint64_t query, uint64_t document, uint32_t rank);

void agreement_free(agreement *a);

#endif
