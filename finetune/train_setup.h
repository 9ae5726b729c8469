/* What every training run is made of, wherever its batches come from: a copy of the
 * weights, the loss and the step that the settings ask for. */
#ifndef SEM_FINETUNE_TRAIN_SETUP_H
#define SEM_FINETUNE_TRAIN_SETUP_H

#include "base/status.h"
#include "finetune/loss_choice.h"
#include "finetune/train_loop.h"
#include "finetune/trainer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct train_setup {
    const model *base; /* borrowed, as config */
    const train_config *config;
    size_t steps;
    size_t max_tokens; /* of a text */
    packed_precision precision;
    float *params; /* what is trained, in the layout of the model's encoder */
    loss *loss;
    train_step *step;
} train_setup;

/* What batches look like. */
typedef struct train_batches {
    size_t max_pairs, max_texts;
    bool losses[LOSS_NAMES]; /* that they are for: one of them, or as each batch says (loss_choice.h) */
} train_batches;

/* For so many steps. To be freed also after a failure. */
sem_status train_setup_create(train_setup *out, const model *base, const train_config *config, size_t steps,
                              const train_batches *batches, sem_error *err);
void train_setup_free(train_setup *s);

/* `before`, and all that the run's bits depend on beside its batches. Before the first step. */
uint64_t train_setup_fingerprint(const train_setup *s, uint64_t before);
uint64_t train_fingerprint_of(uint64_t before, const void *data, size_t size);

/* Runs all steps, from a checkpoint if there is one; s->params are then what was asked
 * for, the average where that was it. fingerprint: of data and setup, read only where
 * there are checkpoints. Errors as of train_loop_run. */
sem_status train_setup_run(train_setup *s, const train_source *source, uint64_t fingerprint,
                           const train_control *control, train_report *report, sem_error *err);

#endif
