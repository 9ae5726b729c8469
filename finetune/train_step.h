/* One optimiser step over a batch: forward pass of all texts by the helpers, loss,
 * backward pass, sum of the gradients, clipping, AdamW.
 *
 * Where the activations of a whole batch would take more memory than allowed,
 * each helper takes its texts in several runs: the embeddings of all come
 * first, then, with the loss's gradient known, each run's forward pass is
 * repeated and followed by its backward pass (Gao et al. 2021, "Scaling Deep
 * Contrastive Learning Batch Size under Memory Limited Setup"). Dropout masks
 * are the same in both, so the gradient is that of the whole batch.
 *
 * A step may also add up the gradients of several batches: that is the mean of their
 * losses, in which texts of different batches are no negatives of each other. */
#ifndef SEM_FINETUNE_TRAIN_STEP_H
#define SEM_FINETUNE_TRAIN_STEP_H

#include "base/patience.h"
#include "base/status.h"
#include "model/encoder.h"
#include "model/model_config.h"
#include "finetune/adamw.h"
#include "finetune/checkpoint.h"
#include "finetune/loss.h"
#include "finetune/param_groups.h"
#include "finetune/train_shapes.h"

#include <stddef.h>
#include <stdint.h>

typedef struct train_step train_step;

typedef struct train_step_options {
    const model_config *config; /* borrowed until train_step_destroy, as the next three */
    const param_layout *layout;
    const gemm *g;
    loss *loss;                 /* its max_pairs and max_texts are those of a batch */
    packed_precision precision; /* of products with the layers' matrices: float32 or bfloat16 */
    train_shape shape;
    param_group_options groups;
    adamw_options optimiser; /* its factors come from the groups */
    double clip_norm;        /* of the global gradient norm; 0: none */
    float hidden_dropout;    /* probabilities */
    float attention_dropout;
    uint64_t seed;     /* of dropout */
    size_t max_tokens; /* of a text */
    size_t max_steps;
    size_t tape_bytes; /* for kept activations, over all helpers, about */
    unsigned threads;
    niceness nice;
} train_step_options;

typedef struct train_text {
    const int32_t *ids;
    uint32_t length; /* tokens, 1 to max_tokens */
} train_text;

typedef struct train_batch {
    const train_text *texts; /* [about.texts], or the anchors alone where the candidates are fixed */
    const float *fixed;      /* [about.texts - about.pairs, E] unit vectors of the candidates, which the step then takes
                              * as they are; NULL: it computes them */
    loss_batch about;        /* dim and embeddings are filled in by the step */
} train_batch;

typedef struct train_step_result {
    double loss;          /* mean over the step's batches */
    double gradient_norm; /* before clipping */
    double scale;         /* of the cosines in the step's loss; 0: it has none */
} train_step_result;

/* Takes all memory and starts the helpers. params [layout->total] is the
 * caller's; every step changes it in place. */
sem_status train_step_create(train_step **out, const train_step_options *options, float *params, sem_error *err);
void train_step_destroy(train_step *s); /* accepts NULL */

/* Adds the gradient of a batch to those of the step under way. */
sem_status train_step_add(train_step *s, const train_batch *batch, sem_error *err);
/* Ends the step: moves the parameters by the mean of the gradients added. SEM_INTERNAL
 * when loss or gradient are no longer finite; the parameters are then as the step
 * before left them. After any failure no further step may run. */
sem_status train_step_update(train_step *s, double learning_rate, train_step_result *result, sem_error *err);
/* Both: a step of one batch. */
sem_status train_step_run(train_step *s, const train_batch *batch, double learning_rate, train_step_result *result,
                          sem_error *err);

/* The step's own. */
const train_shape_report *train_step_shapes(const train_step *s);

/* Brings every row of params, and of the average, up to date; needed before they are
 * read between steps or at the end. */
sem_status train_step_finish(train_step *s, sem_error *err);

/* Writes all that the next steps depend on, between two steps; first brings every row up
 * to date, which changes no bit. train_step_load, into a new step of the same
 * options, fills the caller's params as well. */
sem_status train_step_save(train_step *s, checkpoint_writer *w, sem_error *err);
sem_status train_step_load(train_step *s, const checkpoint_reader *c, sem_error *err);

/* The averaged parameters [layout->total] where options.optimiser.average asked for
 * them, else NULL; the step's own. */
const float *train_step_average(const train_step *s);
/* What a run that ended here would give: the average where one is kept, else the
 * parameters. To be read between train_step_finish and the next step. */
const float *train_step_trained(const train_step *s);

#endif
