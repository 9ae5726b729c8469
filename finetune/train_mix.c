#include "finetune/train_mix.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/random.h"
#include "finetune/train_setup.h"

#include <stdlib.h>

static sem_status check_teacher(const model *base, const train_mix_options *options, sem_error *err)
{
    bool needed = false;
    for (size_t i = 0; i < options->set_count; i++)
        needed = needed || options->lessons[i].loss == LOSS_MSE;
    if (needed != (options->teacher != NULL))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %s",
                        needed ? "the loss mse needs a teacher"
                               : "no data set has the loss mse, which a teacher is for");
    const size_t dim = model_get_config(base)->dim;
    if (needed && kept_vectors_dim(options->teacher) != dim)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training: the teacher's vectors have %zu numbers and the model's %zu; for the loss mse they "
                        "must have as many (semtrain distill adds a projection)",
                        kept_vectors_dim(options->teacher), dim);
    return SEM_OK;
}

static sem_status check(const model *base, const mix *m, const train_mix_options *options, const train_config *config,
                        sem_error *err)
{
    size_t sets;
    (void)mix_sets(m, &sets);
    sem_status status = train_config_check(config, err);
    if (status == SEM_OK && (config->fixed_documents || config->anchor_weight > 0))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "training: %s is for pairs in memory, not for data sets",
                          config->fixed_documents ? "fixed_documents" : "anchor_weight");
    if (status == SEM_OK && options->steps == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "training 0 steps: at least one is needed");
    if (status == SEM_OK && options->set_count != sets)
        status =
            sem_fail(err, SEM_INVALID_ARGUMENT, "training: %zu lessons for %zu data sets", options->set_count, sets);
    if (status == SEM_OK && (config->guide[0] != '\0') != (options->guide != NULL))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "training: the guide \"%s\" and %s of its vectors", config->guide,
                          options->guide != NULL ? "a source" : "no source");
    if (status == SEM_OK && config->frequency && options->folder == NULL)
        status =
            sem_fail(err, SEM_INVALID_ARGUMENT, "training: frequency is true, and no folder for its table is named");
    return status == SEM_OK ? check_teacher(base, options, err) : status;
}

/* *out NULL where nobody asks for it. */
static sem_status count_texts(const mix *m, const train_mix_options *options, const train_config *config,
                              const train_control *control, mix_frequency **out, sem_error *err)
{
    *out = NULL;
    if (!config->frequency)
        return SEM_OK;
    bool *counted = checked_realloc(NULL, options->set_count, sizeof *counted);
    if (counted == NULL)
        return sem_fail_memory(err, "the data sets");
    for (size_t i = 0; i < options->set_count; i++)
        counted[i] = options->lessons[i].loss == LOSS_MNRL;
    mix_frequency_options o = {.counted = counted,
                               .shares = mix_shares(m),
                               .cross_dataset = mix_is_cross_dataset(m),
                               .folder = options->folder,
                               .cancel = control != NULL ? control->cancel : NULL};
    o.sets = mix_sets(m, &o.set_count);
    sem_status status = mix_frequency_count(out, &o, err);
    free(counted);
    return status;
}

static sem_status run(train_setup *setup, mix *m, mix_source *from, const train_mix_options *options,
                      const train_control *control, train_report *report, sem_error *err)
{
    const train_source source = {
        .next = mix_source_next, .save = mix_source_save, .load = mix_source_load, .context = from};
    uint64_t fingerprint = 0;
    if (setup->config->checkpoint != NULL) {
        fingerprint = mix_fingerprint(m, mix_source_max_texts(from));
        for (size_t i = 0; i < options->set_count; i++)
            fingerprint = random_at(fingerprint, 2 * (uint64_t)options->lessons[i].loss + options->lessons[i].each);
        if (options->teacher != NULL)
            fingerprint = random_at(fingerprint, kept_vectors_fingerprint(options->teacher));
        if (options->guide != NULL)
            fingerprint = random_at(fingerprint, kept_vectors_fingerprint(options->guide));
        fingerprint = train_setup_fingerprint(setup, fingerprint);
    }
    return train_setup_run(setup, &source, fingerprint, control, report, err);
}

sem_status train_on_mix(const model *base, mix *m, const train_mix_options *options, const train_config *config,
                        const train_control *control, float **params, train_report *report, sem_error *err)
{
    *params = NULL;
    *report = (train_report){0};
    sem_status status = check(base, m, options, config, err);
    if (status != SEM_OK)
        return status;
    const uint64_t began_ns = clock_monotonic_ns();
    train_setup setup = {0};
    mix_source *from = NULL;
    mix_frequency *frequency;
    status = count_texts(m, options, config, control, &frequency, err);
    const mix_source_options source = {.lessons = options->lessons,
                                       .batch_size = config->batch_size,
                                       .negatives = options->negatives,
                                       .max_tokens = config->max_tokens,
                                       .seed = config->seed,
                                       .teacher = options->teacher,
                                       .guide = options->guide,
                                       .frequency = frequency};
    train_batches batches = {.max_pairs = config->batch_size};
    for (size_t i = 0; i < options->set_count; i++)
        batches.losses[options->lessons[i].loss] = true;
    if (status == SEM_OK)
        status = mix_source_create(&from, base, m, &source, err);
    if (status == SEM_OK) {
        batches.max_texts = mix_source_max_texts(from);
        status = train_setup_create(&setup, base, config, options->steps, &batches, err);
    }
    if (status == SEM_OK)
        status = run(&setup, m, from, options, control, report, err);
    if (status == SEM_OK) {
        report->seconds = (double)(clock_monotonic_ns() - began_ns) / 1e9;
        *params = setup.params;
        setup.params = NULL;
    }
    train_setup_free(&setup);
    mix_source_destroy(from);
    mix_frequency_destroy(frequency);
    return status;
}
