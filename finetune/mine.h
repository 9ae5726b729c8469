/* Hard negatives: for each pair, texts that look like its positive and are not.
 *
 * Candidates are the best by BM25, by a model, or both, among the positives of all
 * pairs. Of those that pass every rule some are drawn at random: the very best would be
 * unlabelled positives too often (Xiong et al. 2021, "ANCE"; Moreira et al. 2024,
 * "NV-Retriever", for the rule that goes by the positive's score). */
#ifndef SEM_FINETUNE_MINE_H
#define SEM_FINETUNE_MINE_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "finetune/data_example.h"
#include "finetune/data_set.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mine_options {
    bool by_words;        /* BM25 */
    bool by_model;        /* the model's nearest */
    const model *model;   /* for by_model; borrowed, as the guide */
    size_t top;           /* candidates of each, 1 to 10,000 */
    size_t negatives;     /* drawn of those left, at most; 1 to 1,000 */
    uint64_t seed;        /* of the drawing */
    bool keep_same_label; /* a text with a label of the pair's may be drawn */
    bool keep_same_text;  /* a text that is the anchor's own, or differs from it or the positive only in
                            * case and white space, may be drawn */
    const model *guide;   /* NULL: that rule is off */
    double guide_ratio;   /* candidates that it scores above this times the positive's score are left out */
    unsigned threads;
    niceness nice;
} mine_options;

/* By words, 100 candidates, 4 negatives, seed 1, ratio 0.95, 1 thread. */
mine_options mine_defaults(void);

enum { MINE_NO_RANK = 0 };

typedef struct mined_negative {
    data_text text;
    uint32_t word_rank, model_rank; /* from 1; MINE_NO_RANK: not among the best */
    float word_score, model_score;  /* where it has the rank */
    float guide_score;              /* where there is a guide */
} mined_negative;

/* A pair with its negatives; valid during the call. */
typedef struct mined {
    data_text anchor, positive, label;
    float positive_guide_score; /* where there is a guide */
    const mined_negative *negatives;
    size_t count;
} mined;

typedef sem_status mine_sink(void *context, const mined *m, sem_error *err);

/* Sums over all pairs. */
typedef struct mine_report {
    uint64_t pairs, documents;                                   /* documents: different positives */
    uint64_t candidates, known, same_text, same_label, by_guide; /* left out by each rule, in this order */
    uint64_t drawn;
    uint64_t without; /* pairs with no negative left */
} mine_report;

typedef struct mine_control {
    const atomic_bool *cancel;                                                   /* may be NULL */
    void (*progress)(void *context, const char *phase, size_t done, size_t all); /* may be NULL */
    mine_sink *sink; /* gets the pairs in the order in which they were read */
    void *context;   /* of both */
} mine_control;

/* A known positive of the anchor, by its id or text in any pair, is never drawn. The
 * whole set is held in memory, and the vectors of its texts where a model is asked.
 * The same set, seed and models give the same negatives. Writes to control->sink. */
sem_status mine_negatives(const data_options *data, const mine_options *options, const mine_control *control,
                          mine_report *report, sem_error *err);

/* The most that a guide may score a negative whose positive it scores so. What looks like the positive
 * may be one: where the guide thinks little of the positive itself, nothing that it likes
 * better is taken. */
double mine_guide_limit(double positive, double ratio);

#endif
