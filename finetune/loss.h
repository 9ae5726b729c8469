/* What the trainer knows of a loss: it reads a batch's embeddings and gives a
 * number and its gradient. Each kind has a file of its own (loss_mnrl.h, loss_mse.h, loss_cosent.h,
 * loss_matryoshka.h, loss_anchor.h, loss_choice.h) that says how to create it.
 *
 * A batch is B pairs. Its N texts are the first texts of all pairs (the anchors),
 * then the second ones (the positives), then hard negatives: any number, of any
 * pairs, each a negative of every anchor. Candidates are all but the anchors:
 * C = N - B, and candidate i < B is the positive of anchor i. E is the width. */
#ifndef SEM_FINETUNE_LOSS_H
#define SEM_FINETUNE_LOSS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* A key that is equal to none, not even to itself. */
#define LOSS_NO_KEY UINT64_MAX

typedef struct loss_batch {
    size_t pairs;            /* B */
    size_t texts;            /* N, at least 2 B */
    size_t dim;              /* E */
    const float *embeddings; /* [N, E] unit length */
    size_t which;            /* the loss that it is for, where a run has several (loss_choice.h) */
    const float *weight;     /* [B] of each pair, above 0; NULL: all 1 */
    /* What keeps a true match from being a negative; each may be NULL. */
    const uint64_t *id;     /* [N] equal among anchors: one query; among candidates: one document */
    const uint64_t *text;   /* [N] equal: the same text */
    const uint64_t *label;  /* [N] equal: of one class, never negatives of each other */
    const float *guide;     /* [B, C] cosines of anchors and candidates by another model */
    const float *frequency; /* [N] natural log of how often a text comes as a negative, 0 for one that
                             * comes once where others come once; NULL: all 0 */
    /* What some kinds learn from. */
    const float *teacher; /* [2 B, E] the vectors that the pairs' texts shall have */
    const float *anchor;  /* [C, E] where the candidates were, unit length */
    const float *score;   /* [B] how alike the pair's texts are; only the order counts */
} loss_batch;

/* A number that a loss learns beside the model's parameters. */
typedef struct loss_learned {
    const char *name;
    float value;
    float gradient; /* of the batch last computed */
    float most;     /* the value is cut to this after every step */
} loss_learned;

typedef struct loss loss;

typedef struct loss_kind {
    const char *name;
    /* May be NULL: nothing is needed but embeddings. */
    sem_status (*check)(const loss *l, const loss_batch *batch, sem_error *err);
    /* May be NULL: all steps are alike. */
    void (*begin)(loss *l, size_t step, size_t steps);
    double (*run)(loss *l, const loss_batch *batch, float *d_embeddings);
    /* May be NULL: the kind multiplies no cosines. */
    double (*scale)(const loss *l);
    void (*destroy)(loss *l);
} loss_kind;

/* The head of every kind's own struct. */
struct loss {
    const loss_kind *kind;
    size_t max_pairs, max_texts; /* of a batch */
    loss_learned *learned;       /* NULL where there is nothing to learn */
};

void loss_destroy(loss *l); /* accepts NULL */

/* Whether the batch is not too large and has what this loss needs. */
sem_status loss_check(const loss *l, const loss_batch *batch, sem_error *err);

/* To be called before the batches of step `step` (from 0) of a run of `steps`. */
void loss_begin(loss *l, size_t step, size_t steps);

/* What cosines are multiplied with in the step begun; 0 where they are not. */
double loss_scale(const loss *l);

/* Returns the loss of a batch that was checked, and writes its gradient
 * d_embeddings [N, E] and that of what is learned. Not finite if an input is not.
 * One thread at a time. */
double loss_run(loss *l, const loss_batch *batch, float *d_embeddings);

#endif
