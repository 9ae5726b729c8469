#include "finetune/train_mix.h"

#include "base/clock.h"
#include "finetune/mix_source.h"
#include "finetune/train_setup.h"

static sem_status check(const train_config *config, size_t steps, sem_error *err)
{
    sem_status status = train_config_check(config, err);
    if (status == SEM_OK && steps == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "training 0 steps: at least one is needed");
    if (status == SEM_OK && config->frequency)
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "training: frequency is true; files are read as they are trained on, and how often each "
                          "text comes is not known: it must be false");
    return status;
}

static sem_status run(train_setup *setup, mix *m, mix_source *from, const train_control *control, train_report *report,
                      sem_error *err)
{
    const train_source source = {
        .next = mix_source_next, .save = mix_source_save, .load = mix_source_load, .context = from};
    uint64_t fingerprint = 0;
    if (setup->config->checkpoint != NULL)
        fingerprint = train_setup_fingerprint(setup, mix_fingerprint(m, mix_source_max_texts(from)));
    return train_setup_run(setup, &source, fingerprint, control, report, err);
}

sem_status train_on_mix(const model *base, mix *m, size_t steps, size_t negatives, const train_config *config,
                        const train_control *control, float **params, train_report *report, sem_error *err)
{
    *params = NULL;
    *report = (train_report){0};
    sem_status status = check(config, steps, err);
    if (status != SEM_OK)
        return status;
    const uint64_t began_ns = clock_monotonic_ns();
    train_setup setup = {0};
    mix_source *from;
    const mix_source_options options = {.batch_size = config->batch_size,
                                        .negatives = negatives,
                                        .max_tokens = config->max_tokens,
                                        .seed = config->seed};
    status = mix_source_create(&from, base, m, &options, err);
    if (status == SEM_OK)
        status = train_setup_create(&setup, base, config, steps, config->batch_size, mix_source_max_texts(from), err);
    if (status == SEM_OK)
        status = run(&setup, m, from, control, report, err);
    if (status == SEM_OK) {
        report->seconds = (double)(clock_monotonic_ns() - began_ns) / 1e9;
        *params = setup.params;
        setup.params = NULL;
    }
    train_setup_free(&setup);
    mix_source_destroy(from);
    return status;
}
