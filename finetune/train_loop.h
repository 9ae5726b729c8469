/* The steps of a run, from whatever gives batches: rates, accumulation, progress, and
 * checkpoints from which a killed run goes on to the same bits. */
#ifndef SEM_FINETUNE_TRAIN_LOOP_H
#define SEM_FINETUNE_TRAIN_LOOP_H

#include "base/status.h"
#include "finetune/checkpoint.h"
#include "finetune/schedule.h"
#include "finetune/train_origin.h"
#include "finetune/train_step.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Where batches come from. */
typedef struct train_source {
    /* The next batch, valid until the next call. There is one for every step. */
    sem_status (*next)(void *context, train_batch *batch, sem_error *err);
    /* Writes where it stands in sections of its own, and goes on from there. Both NULL for a
     * source whose batches are a pure function of how many it gave: it is told that. */
    sem_status (*save)(void *context, checkpoint_writer *w, sem_error *err);
    sem_status (*load)(void *context, const checkpoint_reader *c, sem_error *err);
    sem_status (*skip)(void *context, size_t batches, sem_error *err); /* where load is NULL */
    void *context;
} train_source;

typedef struct train_progress {
    size_t step, steps;
    double loss; /* of the step */
    double learning_rate;
    double pairs_per_s;
    double eta_s;
    double gradient_norm; /* before clipping */
    double scale;         /* of the cosines in the step's loss; 0: it has none */
    size_t pairs;         /* of all steps so far */
    double seconds;       /* of this process in the loop, without evaluations */
} train_progress;

typedef struct train_control {
    const atomic_bool *cancel;                                  /* may be NULL */
    void (*progress)(void *context, const train_progress *now); /* may be NULL; after every step */
    /* May be NULL; after every step, before its checkpoint. Every evaluate_every steps and after the
     * last one params (layout of the model's encoder, the run's own) are what a run that ended here
     * would give; else NULL. What fails in it ends the run. */
    sem_status (*record)(void *context, const train_progress *now, const float *params, sem_error *err);
    size_t evaluate_every; /* 0: never */
    void *context;
} train_control;

typedef struct train_report {
    size_t steps, pairs;
    double first_loss, last_loss; /* means over the first and last tenth of the steps */
    double seconds;               /* of this process, what came before the loop included: filled by who calls it */
    size_t resumed_at;            /* steps that a checkpoint had */
    size_t drawn[TRAIN_ORIGINS];  /* pairs in memory that an epoch had of each origin; else 0 */
    train_shape_report shapes;    /* of this process */
} train_report;

typedef struct train_loop {
    train_step *step; /* new; with max_steps = steps */
    train_source source;
    size_t steps;
    size_t accumulate; /* batches of a step, at least 1 */
    schedule_shape shape;
    double peak; /* learning rate */
    size_t warmup;
    const char *checkpoint;       /* path; NULL: none. It stays when the run ends: what was trained is not saved yet */
    size_t checkpoint_every;      /* steps */
    uint64_t fingerprint;         /* of all that the run's bits depend on: a checkpoint of another is refused */
    const train_control *control; /* may be NULL */
} train_loop;

/* Runs all steps, or those that the checkpoint has not; *report is filled. SEM_CANCELLED when
 * *cancel became true, with a checkpoint of the steps that were done, and SEM_FAILED_PRECONDITION for a checkpoint that is damaged or
 * of another run. */
sem_status train_loop_run(const train_loop *loop, train_report *report, sem_error *err);

#endif
