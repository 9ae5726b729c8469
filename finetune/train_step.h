/* One optimiser step over a batch of pairs: forward pass of all texts by the
 * helpers, loss, backward pass, sum of the gradients, clipping, AdamW.
 *
 * Where the activations of a whole batch would take more memory than allowed,
 * each helper takes its texts in several runs: the embeddings of all come
 * first, then, with the loss's gradient known, each run's forward pass is
 * repeated and followed by its backward pass (Gao et al. 2021, "Scaling Deep
 * Contrastive Learning Batch Size under Memory Limited Setup"). Dropout masks
 * are the same in both, so the gradient is that of the whole batch. */
#ifndef SEM_FINETUNE_TRAIN_STEP_H
#define SEM_FINETUNE_TRAIN_STEP_H

#include "base/status.h"
#include "model/encoder.h"
#include "model/model_config.h"
#include "finetune/adamw.h"
#include "finetune/loss_mnrl.h"

#include <stddef.h>
#include <stdint.h>

typedef struct train_step train_step;

typedef struct train_step_options {
    const model_config *config; /* borrowed until train_step_destroy, as the next two */
    const param_layout *layout;
    const gemm *g;
    mnrl_options loss;
    adamw_options optimiser;
    double clip_norm;     /* of the global gradient norm; 0: none */
    float hidden_dropout; /* probabilities */
    float attention_dropout;
    uint64_t seed;     /* of dropout */
    size_t max_pairs;  /* of a batch */
    size_t max_tokens; /* of a text */
    size_t max_steps;
    size_t tape_bytes; /* for kept activations, over all helpers, about */
    unsigned threads;
    int nice;
} train_step_options;

typedef struct train_text {
    const int32_t *ids;
    uint32_t length; /* tokens, 1 to max_tokens */
} train_text;

typedef struct train_batch {
    size_t pairs;                 /* B */
    const train_text *texts;      /* [2 B] the queries, then the documents */
    const uint64_t *query_key;    /* [B] */
    const uint64_t *document_key; /* [B] */
    const float *weight;          /* [B] */
} train_batch;

typedef struct train_step_result {
    double loss;
    double gradient_norm; /* before clipping */
} train_step_result;

/* Takes all memory and starts the helpers. params [layout->total] is the
 * caller's; every step changes it in place. */
sem_status train_step_create(train_step **out, const train_step_options *options, float *params, sem_error *err);
void train_step_destroy(train_step *s); /* accepts NULL */

/* SEM_INTERNAL when loss or gradient are no longer finite; the parameters are
 * then as the step before left them. After any failure no further step may run. */
sem_status train_step_run(train_step *s, const train_batch *batch, double learning_rate, train_step_result *result,
                          sem_error *err);

/* Brings every row of params up to date; needed before params are read. */
sem_status train_step_finish(train_step *s, sem_error *err);

#endif
