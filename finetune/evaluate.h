/* Ranking quality and whether a change is more than chance. */
#ifndef SEM_FINETUNE_EVALUATE_H
#define SEM_FINETUNE_EVALUATE_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Means over queries that have a relevant document, R of them, from the first k hits.
 * trec_eval's names for the same are in brackets, for judgements of 0 and 1; it orders
 * hits of equal scores in another way. */
typedef struct rank_metrics {
    size_t queries;
    double mrr;    /* 1 / rank of the first relevant hit, or 0 [recip_rank of k hits] */
    double ndcg;   /* sum of 1 / log2(rank + 1) of relevant hits, by that of the best order (Jarvelin and
                    * Kekalainen 2002) [ndcg_cut_k] */
    double recall; /* relevant hits by R [recall_k] */
    double map;    /* mean of the precisions at the ranks of relevant hits, by min(R, k) as
                    * sentence-transformers has it [map_cut_k divides by R] */
    double top1;   /* share of queries whose first hit is relevant */
} rank_metrics;

/* One query's ranking: relevant[i] says whether hit i is relevant; total is the
 * number of relevant documents. Adds to *sum (means are taken by rank_metrics_mean). */
void rank_metrics_add(rank_metrics *sum, const bool *relevant, size_t hits, size_t total, size_t k);
void rank_metrics_mean(rank_metrics *sum);

/* Ranks documents [n, dim] by their dot products with query [dim] and adds the first k ranks
 * to *sum; relevant [count]: the numbers of the relevant ones, each once. Ties count against
 * them. scores [n] is working memory. Returns 1 / rank of the first relevant one, 0 beyond k,
 * which is 64 at most. */
double rank_relevant(const float *query, const float *documents, size_t n, size_t dim, const uint32_t *relevant,
                     size_t count, size_t k, float *scores, rank_metrics *sum);

/* 1 / rank of document `own` among all [n] by their scores, 0 beyond k. Ties count against it. */
double rank_whole(const float *scores, size_t n, uint32_t own, size_t k);

/* 1 / rank of document `own` among shown [count], numbers of documents as own is, by their scores;
 * own may be among them. Ties count against it. */
double rank_shown(const float *scores, const uint32_t *shown, size_t count, uint32_t own);

/* One-sided paired randomisation test (Smucker et al. 2007): the probability
 * that random sign flips of after[i] - before[i] give a mean at least as large
 * as the observed one. Exactly repeatable from the seed. */
double randomisation_test(const double *before, const double *after, size_t n, size_t rounds, uint64_t seed);

/* Lower end of the one-sided 95% bootstrap interval for mean(after - before). */
double bootstrap_lower_bound(const double *before, const double *after, size_t n, size_t rounds, uint64_t seed);

#endif
