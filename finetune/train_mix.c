#include "finetune/train_mix.h"

#include "base/checked.h"
#include "base/clock.h"
#include "finetune/loss_mnrl.h"
#include "finetune/mix_source.h"
#include "finetune/schedule.h"
#include "finetune/train_step.h"

typedef struct mix_run {
    const model *base;
    const train_config *config;
    const train_control *control;
    mix_source *source;
    size_t steps;
    float *params;
    loss *loss;
    train_step *step;
    uint64_t began_ns;
} mix_run;

static void run_free(mix_run *run)
{
    train_step_destroy(run->step);
    loss_destroy(run->loss);
    mix_source_destroy(run->source);
    free(run->params);
}

static bool cancelled(const mix_run *run)
{
    return run->control != NULL && run->control->cancel != NULL && atomic_load(run->control->cancel);
}

static sem_status copy_params(mix_run *run, sem_error *err)
{
    const param_layout *layout = encoder_layout(model_get_encoder(run->base));
    run->params = checked_alloc_aligned(layout->total, sizeof *run->params);
    if (run->params == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for training %zu parameters", layout->total);
    return encoder_read_params(model_get_encoder(run->base), run->params, err);
}

static sem_status create_step(mix_run *run, sem_error *err)
{
    const train_config *c = run->config;
    const model_config *m = model_get_config(run->base);
    const mnrl_options loss_options = {.scale = c->scale};
    sem_status status = loss_mnrl_create(&run->loss, &loss_options, model_get_gemm(run->base), c->batch_size,
                                         mix_source_max_texts(run->source), err);
    if (status != SEM_OK)
        return status;
    train_step_options options = {
        .config = m,
        .layout = encoder_layout(model_get_encoder(run->base)),
        .g = model_get_gemm(run->base),
        .loss = run->loss,
        .groups = {.layer_decay = 1},
        .optimiser = adamw_defaults(),
        .clip_norm = c->clip_norm,
        .hidden_dropout = c->dropout < 0 ? m->hidden_dropout : (float)c->dropout,
        .attention_dropout = c->dropout < 0 ? m->attention_dropout : (float)c->dropout,
        .seed = c->seed,
        .max_tokens = mix_source_max_tokens(run->source),
        .max_steps = run->steps,
        .tape_bytes = c->tape_bytes,
        .threads = c->threads,
        .nice = c->nice,
    };
    options.optimiser.weight_decay = c->weight_decay;
    return train_step_create(&run->step, &options, run->params, err);
}

/* --- the steps */

static double seconds_since(uint64_t ns)
{
    return (double)(clock_monotonic_ns() - ns) / 1e9;
}

static void report_progress(const mix_run *run, const train_report *report, double of_step, double rate)
{
    if (run->control == NULL || run->control->progress == NULL)
        return;
    const double seconds = seconds_since(run->began_ns);
    const train_progress now = {
        .step = report->steps,
        .steps = run->steps,
        .loss = of_step,
        .learning_rate = rate,
        .pairs_per_s = seconds > 0 ? (double)report->pairs / seconds : 0,
        .eta_s = seconds / (double)report->steps * (double)(run->steps - report->steps),
    };
    run->control->progress(run->control->context, &now);
}

static sem_status run_steps(mix_run *run, train_report *report, sem_error *err)
{
    const size_t warmup = schedule_warmup(run->steps, run->config->warmup_ratio);
    const size_t tenth = run->steps >= 10 ? run->steps / 10 : 1;
    for (size_t step = 0; step < run->steps; step++) {
        train_batch batch;
        train_step_result result;
        if (cancelled(run))
            return sem_fail(err, SEM_CANCELLED, "training was cancelled at step %zu of %zu", step, run->steps);
        sem_status status = mix_source_next(run->source, &batch, err);
        const double rate = schedule_rate(SCHEDULE_LINEAR, run->config->learning_rate, step, warmup, run->steps);
        if (status == SEM_OK)
            status = train_step_run(run->step, &batch, rate, &result, err);
        if (status != SEM_OK)
            return status;
        report->steps++;
        report->pairs += batch.about.pairs;
        report->first_loss += step < tenth ? result.loss / (double)tenth : 0;
        report->last_loss += step >= run->steps - tenth ? result.loss / (double)tenth : 0;
        report_progress(run, report, result.loss, rate);
    }
    return train_step_finish(run->step, err);
}

sem_status train_on_mix(const model *base, mix *m, size_t steps, size_t negatives, const train_config *config,
                        const train_control *control, float **params, train_report *report, sem_error *err)
{
    *params = NULL;
    *report = (train_report){0};
    sem_status status = train_config_check(config, err);
    if (status == SEM_OK && steps == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "training 0 steps: at least one is needed");
    if (status != SEM_OK)
        return status;
    mix_run run = {
        .base = base, .config = config, .control = control, .steps = steps, .began_ns = clock_monotonic_ns()};
    const mix_source_options options = {.batch_size = config->batch_size,
                                        .negatives = negatives,
                                        .max_tokens = config->max_tokens,
                                        .seed = config->seed};
    status = mix_source_create(&run.source, base, m, &options, err);
    if (status == SEM_OK)
        status = copy_params(&run, err);
    if (status == SEM_OK)
        status = create_step(&run, err);
    if (status == SEM_OK)
        status = run_steps(&run, report, err);
    if (status == SEM_OK) {
        report->seconds = seconds_since(run.began_ns);
        *params = run.params;
        run.params = NULL;
    }
    run_free(&run);
    return status;
}
