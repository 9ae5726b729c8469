/* Multiple negatives ranking loss (Henderson et al. 2017, "Efficient Natural
 * Language Response Suggestion for Smart Reply"): each anchor must prefer its
 * own candidate to every other candidate of the batch.
 *
 * B anchors, C candidates (C >= B), E width. Candidate i < B is the positive of
 * anchor i; candidates from B on are negatives for every anchor. With
 * S = anchors * candidates^T [B, C] the loss of anchor i is the cross-entropy of
 * scale * (S[i] - margin at i) against i; symmetric averages it with the
 * cross-entropy of candidate i over the anchors. The batch's loss is
 * sum(weight l) / sum(weight). */
#ifndef SEM_FINETUNE_LOSS_MNRL_H
#define SEM_FINETUNE_LOSS_MNRL_H

#include "base/status.h"
#include "model/gemm.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mnrl_options {
    double scale;
    double margin;  /* taken off the positive's cosine before scaling (Yang et al. 2019) */
    bool symmetric; /* averaged with candidates against anchors */
} mnrl_options;

typedef struct mnrl_batch {
    size_t anchors;                /* B */
    size_t candidates;             /* C */
    size_t dim;                    /* E */
    const float *anchor;           /* [B, E] unit length */
    const float *candidate;        /* [C, E] unit length */
    const uint64_t *candidate_key; /* [C] or NULL: candidates of an equal key are one document */
    const uint64_t *anchor_key;    /* [B] or NULL: anchors of an equal key are one query */
    const float *weight;           /* [B] or NULL: all 1; each > 0 */
} mnrl_batch;

/* True when candidate j is no negative of anchor i: it is its positive under
 * another number, or the positive of the same query. */
bool mnrl_masked(const mnrl_batch *batch, size_t i, size_t j);

/* Working memory for up to B anchors and C candidates. */
typedef struct mnrl_scratch {
    float *scores;      /* [B, C] */
    double *row_sum;    /* [B] log of each row's sum of exponentials */
    double *column_sum; /* [B] the same of the first B columns */
} mnrl_scratch;

sem_status mnrl_scratch_create(mnrl_scratch *out, size_t anchors, size_t candidates, sem_error *err);
void mnrl_scratch_free(mnrl_scratch *scratch);

/* Returns the loss and writes its gradients d_anchor [B, E] and d_candidate
 * [C, E]. Not finite if an input is not. */
double mnrl_loss(const gemm *g, const mnrl_options *options, const mnrl_batch *batch, const mnrl_scratch *scratch,
                 float *d_anchor, float *d_candidate);

#endif
