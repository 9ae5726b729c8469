/* Ranking quality and whether a change is more than chance. */
#ifndef SEM_FINETUNE_EVALUATE_H
#define SEM_FINETUNE_EVALUATE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct rank_metrics {
    size_t queries;
    double mrr;    /* mean reciprocal rank, cut at k */
    double ndcg;   /* binary gains (Jarvelin and Kekalainen 2002), cut at k */
    double recall; /* share of the relevant documents in the first k */
    double map;    /* mean average precision, cut at k */
    double top1;   /* share of queries whose first hit is relevant */
} rank_metrics;

/* One query's ranking: relevant[i] says whether hit i is relevant; total is the
 * number of relevant documents. Adds to *sum (means are taken by rank_metrics_mean). */
void rank_metrics_add(rank_metrics *sum, const bool *relevant, size_t hits, size_t total, size_t k);
void rank_metrics_mean(rank_metrics *sum);

/* scores: ranks of one relevant document among N by dot product with query
 * [E]; documents [N, E]. Rank counts from 1; ties count against it. */
size_t rank_of(const float *query, const float *documents, size_t n, size_t dim, size_t relevant);

/* One-sided paired randomisation test (Smucker et al. 2007): the probability
 * that random sign flips of after[i] - before[i] give a mean at least as large
 * as the observed one. Exactly repeatable from the seed. */
double randomisation_test(const double *before, const double *after, size_t n, size_t rounds, uint64_t seed);

/* Lower end of the one-sided 95% bootstrap interval for mean(after - before). */
double bootstrap_lower_bound(const double *before, const double *after, size_t n, size_t rounds, uint64_t seed);

/* --- the gate */

typedef struct gate_side {
    const double *before; /* reciprocal rank of each query under the current model */
    const double *after;  /* under the candidate */
    size_t queries;
} gate_side;

typedef struct gate_decision {
    bool promote;
    double p_value;      /* of the gain on the held-out queries */
    double gain;         /* mean of after - before there */
    double probe_change; /* mean of after - before on the probe set */
    double probe_lower;  /* its lower bound */
    char reason[256];    /* for people */
} gate_decision;

/* Promotes when the held-out gain is beyond chance (p < max_p) and the probe
 * set's lower bound is above -max_loss. */
void gate_decide(const gate_side *heldout, const gate_side *probe, double max_p, double max_loss, uint64_t seed,
                 gate_decision *out);

#endif
