#include "finetune/train_mix.h"

#include "base/clock.h"
#include "base/random.h"
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

static sem_status run(train_setup *setup, mix *m, mix_source *from, const train_mix_options *options,
                      const train_control *control, train_report *report, sem_error *err)
{
    const train_source source = {
        .next = mix_source_next, .save = mix_source_save, .load = mix_source_load, .context = from};
    uint64_t fingerprint = 0;
    if (setup->config->checkpoint != NULL) {
        fingerprint = mix_fingerprint(m, mix_source_max_texts(from));
        for (size_t i = 0; i < options->set_count; i++)
            fingerprint = random_at(fingerprint, options->lessons[i].loss);
        fingerprint = train_setup_fingerprint(setup, fingerprint);
    }
    return train_setup_run(setup, &source, fingerprint, control, report, err);
}

sem_status train_on_mix(const model *base, mix *m, const train_mix_options *options, const train_config *config,
                        const train_control *control, float **params, train_report *report, sem_error *err)
{
    *params = NULL;
    *report = (train_report){0};
    sem_status status = check(config, options->steps, err);
    if (status != SEM_OK)
        return status;
    const uint64_t began_ns = clock_monotonic_ns();
    train_setup setup = {0};
    mix_source *from;
    const mix_source_options source = {.lessons = options->lessons,
                                       .batch_size = config->batch_size,
                                       .negatives = options->negatives,
                                       .max_tokens = config->max_tokens,
                                       .seed = config->seed};
    train_batches batches = {.max_pairs = config->batch_size};
    for (size_t i = 0; i < options->set_count; i++)
        batches.losses[options->lessons[i].loss] = true;
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
    return status;
}
