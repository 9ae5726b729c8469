/* What a model is worth on judged data: retrieval, graded similarity, translation. */
#ifndef SEM_FINETUNE_SUITE_H
#define SEM_FINETUNE_SUITE_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "finetune/data_set.h"
#include "finetune/evaluate.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct suite_options {
    const model *model;
    unsigned threads;
    niceness nice;
    size_t k; /* hits of a query that count */
} suite_options;

/* Every anchor among the positives of all pairs: those of its key, and the texts equal
 * to one of them, are right. */
sem_status suite_retrieval_pairs(const suite_options *o, const data_options *data, rank_metrics *out, sem_error *err);

/* Files as the BEIR benchmark has them (Thakur et al. 2021). */
typedef struct suite_beir {
    const char *name;
    const char *corpus;  /* JSON lines {"_id" or "id", "title"?, "text"}; a title is put before the text */
    const char *queries; /* JSON lines {"_id" or "id", "text"} */
    const char *qrels;   /* columns: query, document, relevance, with or without a line of names. Above 0 is
                          * relevant, all alike; others, and what is not listed, are not */
    bool without_titles; /* the texts hold them already */
    size_t longest;      /* bytes of a line */
} suite_beir;

/* Means over the queries that have a relevant document in the corpus. */
sem_status suite_retrieval_beir(const suite_options *o, const suite_beir *files, rank_metrics *out, sem_error *err);

typedef struct suite_similarity {
    size_t pairs;
    double spearman; /* rank correlation of cosine and score; ties share their mean rank */
    double pearson;
} suite_similarity;

/* data: of form DATA_STS. */
sem_status suite_sts(const suite_options *o, const data_options *data, suite_similarity *out, sem_error *err);

typedef struct suite_translation {
    size_t pairs;
    double forward, backward; /* share of anchors whose nearest positive is theirs, and the other way */
} suite_translation;

/* data: one positive an anchor. A text equal to the right one is right. */
sem_status suite_translation_of(const suite_options *o, const data_options *data, suite_translation *out,
                                sem_error *err);

/* Of x and y [n]; NaN where one of them does not vary. */
double suite_pearson(const double *x, const double *y, size_t n);
/* The same of their ranks; SEM_RESOURCE_EXHAUSTED without memory for these. */
sem_status suite_spearman(const double *x, const double *y, size_t n, double *out, sem_error *err);

#endif
