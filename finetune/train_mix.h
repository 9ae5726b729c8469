/* Training on batches that come from data sets of any size, as they are read. */
#ifndef SEM_FINETUNE_TRAIN_MIX_H
#define SEM_FINETUNE_TRAIN_MIX_H

#include "base/status.h"
#include "finetune/mix.h"
#include "finetune/mix_source.h"
#include "finetune/trainer.h"

#include <stddef.h>

typedef struct train_mix_options {
    size_t steps;              /* config's epochs and max_steps are not looked at */
    size_t negatives;          /* finetune/mix_source.h */
    const mix_lesson *lessons; /* [set_count] what is learnt from each set of the mix */
    size_t set_count;
    kept_vectors *teacher; /* borrowed; where a lesson is LOSS_MSE, else NULL. As wide as the model */
    kept_vectors *guide;   /* borrowed; of the model that config->guide names, else NULL */
    const char *folder;    /* for files of the run alone, where config->frequency is true */
} train_mix_options;

/* Trains a copy of the model's weights on m, whose batches are of config->batch_size at
 * most. Where config->frequency is true, sets with the ranking loss are read once beforehand.
 *
 * *params is malloc'd, in the layout of the model's encoder; the caller owns it. The
 * same seeds, files and threads give the same bits, in one go or from checkpoints.
 * SEM_CANCELLED when *control->cancel became true; other errors as of train_loop_run. */
sem_status train_on_mix(const model *base, mix *m, const train_mix_options *options, const train_config *config,
                        const train_control *control, float **params, train_report *report, sem_error *err);

#endif
