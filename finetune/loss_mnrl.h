/* Multiple negatives ranking loss (Henderson et al. 2017, "Efficient Natural
 * Language Response Suggestion for Smart Reply"): each anchor must prefer its
 * own candidate to every other candidate of the batch.
 *
 * With S = anchors * candidates^T [B, C] the loss of anchor i is the cross-entropy
 * of scale * (S[i] - margin at i) against i, over the candidates that are not
 * masked (loss_mask.h); symmetric averages it with the cross-entropy of candidate
 * i < B over the anchors. The batch's loss is sum(weight l) / sum(weight).
 * Where frequencies are given, those of negatives are taken off their logits, so
 * that a popular text is not pushed away the more for coming often (logQ: Bengio
 * and Senecal 2008; Yi et al. 2019, "Sampling-Bias-Corrected Neural Modeling"). */
#ifndef SEM_FINETUNE_LOSS_MNRL_H
#define SEM_FINETUNE_LOSS_MNRL_H

#include "model/gemm.h"
#include "finetune/loss.h"

#include <stdbool.h>

typedef enum mnrl_scale {
    MNRL_SCALE_FIXED,
    MNRL_SCALE_SCHEDULED, /* mnrl_scheduled_scale */
    MNRL_SCALE_LEARNED    /* exp(log_scale), at most 100 (Radford et al. 2021, "CLIP") */
} mnrl_scale;

/* "fixed", "scheduled", "learned"; false for any other name. */
bool mnrl_scale_of(const char *name, mnrl_scale *out);

typedef struct mnrl_options {
    mnrl_scale scale_kind;
    double scale;        /* fixed, or where learning begins */
    double margin;       /* taken off the positive's cosine before scaling (Yang et al. 2019) */
    bool symmetric;      /* averaged with candidates against anchors */
    double guide_margin; /* of loss_masks; used where batches have a guide */
} mnrl_options;

enum { MNRL_SCALE_STEPS = 10000, MNRL_SCALE_FIRST = 1, MNRL_SCALE_LAST = 23, MNRL_SCALE_MOST = 100 };

/* Rises linearly from 1 to 23 over the first 10,000 steps, or over the run where
 * that is shorter (Henderson et al. 2020, "ConveRT", section 2.4). step from 0. */
double mnrl_scheduled_scale(size_t step, size_t steps);

/* Takes the memory for batches of up to max_pairs pairs and max_texts texts. g is borrowed. */
sem_status loss_mnrl_create(loss **out, const mnrl_options *options, const gemm *g, size_t max_pairs, size_t max_texts,
                            sem_error *err);

/* The scale of the step begun; l is what loss_mnrl_create made. */
double loss_mnrl_scale(const loss *l);

#endif
