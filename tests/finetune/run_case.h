/* Training on files of pairs with the tiny model: a set and its mix, settings, and a way to stop. */
#ifndef SEM_TESTS_FINETUNE_RUN_CASE_H
#define SEM_TESTS_FINETUNE_RUN_CASE_H

#include "tests/finetune/data_files.h"

#include "finetune/mix_source.h"
#include "finetune/train_mix.h"

static sem_error error;

static const mix_lesson RANKING = {.loss = LOSS_MNRL};

/* One set, its mix, and the tiny model. */
typedef struct run_case {
    model *m;
    const char *files[1];
    data_options data;
    mix_set set;
    mix *mix;
} run_case;

/* NULL where it is missing. */
static inline model *open_tiny(void)
{
    model *m;
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return NULL;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    return m;
}

/* False where the model is missing. */
static inline bool run_begin(run_case *c, const char *file, size_t batch)
{
    *c = (run_case){.m = open_tiny(), .data = data_options_defaults()};
    if (c->m == NULL)
        return false;
    c->files[0] = file;
    c->data.name = "pairs";
    c->data.files = c->files;
    c->data.file_count = 1;
    c->set.data = &c->data;
    const mix_options options = {.batch_size = batch, .seed = 4};
    ck_ok(mix_open(&c->mix, &options, &c->set, 1, &error));
    return true;
}

static inline void run_end(run_case *c)
{
    mix_close(c->mix);
    model_close(c->m);
}

/* The defaults without dropout, and with a rate that the tiny model learns by. */
static inline train_config settings(size_t batch, size_t epochs)
{
    train_config config;
    train_config_defaults(&config);
    config.batch_size = batch;
    config.precision = TRAIN_FLOAT32; /* runs are compared closer than bfloat16 rounds */
    config.dropout = 0;
    config.learning_rate = 1e-3;
    config.epochs = epochs;
    return config;
}

/* Cancels a run behind a step. */
typedef struct stopper {
    atomic_bool cancel;
    size_t behind;
} stopper;

static inline void stop(void *context, const train_progress *now)
{
    stopper *s = context;
    if (now->step == s->behind)
        atomic_store(&s->cancel, true);
}

#endif
