#include "finetune/trainer.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "finetune/loss_mnrl.h"
#include "finetune/sampler.h"
#include "finetune/schedule.h"
#include "finetune/train_step.h"

#include <math.h>
#include <string.h>

enum {
    BATCH_MAX = 8192, /* pairs: the scores of a batch then take 256 MiB */
    THREADS_MAX = 256,
    TOKENS_MIN = 3,      /* the special tokens and one more */
    CANCEL_EVERY = 1024, /* texts tokenized between looks at *cancel */
    TAPE_MIB = 224       /* keeps a job of 2 threads for MiniLM (23 million parameters) below 600 MB */
};

void train_config_defaults(train_config *config)
{
    *config = (train_config){
        .seed = 1,
        .learning_rate = 1e-4,
        .warmup_ratio = 0.1,
        .weight_decay = 0.01,
        .clip_norm = 1,
        .scale = 20,
        .dropout = 0.1,
        .batch_size = 64,
        .epochs = 1,
        .max_tokens = 64,
        .threads = 1,
        .nice = 10,
        .tape_bytes = (size_t)TAPE_MIB << 20,
    };
}

static sem_status check_number(const char *name, double value, double min, bool above, double max, sem_error *err)
{
    if (isfinite(value) && (above ? value > min : value >= min) && value <= max)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %s is %g; it must be %s %g and at most %g", name, value,
                    above ? "above" : "at least", min, max);
}

static sem_status check_count(const char *name, size_t value, size_t min, size_t max, sem_error *err)
{
    if (value >= min && value <= max)
        return SEM_OK;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %s is %zu; it must be at least %zu and at most %zu", name,
                    value, min, max);
}

sem_status train_config_check(const train_config *config, sem_error *err)
{
    const struct {
        const char *name;
        double value, min;
        bool above;
        double max;
    } numbers[] = {
        {"learning_rate", config->learning_rate, 0, true, 1},
        {"warmup_ratio", config->warmup_ratio, 0, false, 1},
        {"weight_decay", config->weight_decay, 0, false, 1},
        {"clip_norm", config->clip_norm, 0, false, 1e9},
        {"scale", config->scale, 0, true, 1000},
        {"nice", config->nice, 0, false, 19},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sem_status status =
            check_number(numbers[i].name, numbers[i].value, numbers[i].min, numbers[i].above, numbers[i].max, err);
        if (status != SEM_OK)
            return status;
    }
    if (!(config->dropout < 1))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training: dropout is %g; it must be below 1 (negative: the model's)", config->dropout);
    const struct {
        const char *name;
        size_t value, min, max;
    } counts[] = {
        {"batch_size", config->batch_size, 2, BATCH_MAX},
        {"epochs", config->epochs, 1, 1000000},
        {"threads", config->threads, 1, THREADS_MAX},
        {"max_tokens", config->max_tokens == 0 ? TOKENS_MIN : config->max_tokens, TOKENS_MIN, 1 << 20},
    };
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        sem_status status = check_count(counts[i].name, counts[i].value, counts[i].min, counts[i].max, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* What a run owns beside the step's memory. */
typedef struct train_run {
    const model *base;
    const train_pair *pairs;
    size_t count;
    const train_config *config;
    const train_control *control;
    size_t max_tokens; /* of a text */
    size_t steps;
    token_batch tokens; /* query 0, document 0, query 1, ... */
    size_t *starts;     /* [2 count] where each text begins in tokens */
    sampler *sampler;
    float *params;
    loss *loss;
    train_step *step;
    /* one batch */
    train_text *texts; /* [2 batch_size] */
    uint64_t *id;      /* [2 batch_size] */
    float *weight;     /* [batch_size] */
    uint64_t began_ns;
} train_run;

static void run_free(train_run *run)
{
    train_step_destroy(run->step);
    loss_destroy(run->loss);
    sampler_destroy(run->sampler);
    token_batch_free(&run->tokens);
    free(run->starts);
    free(run->params);
    free(run->texts);
    free(run->id);
    free(run->weight);
}

static bool cancelled(const train_run *run)
{
    return run->control != NULL && run->control->cancel != NULL && atomic_load(run->control->cancel);
}

static sem_status check_pairs(const train_pair *pairs, size_t count, sem_error *err)
{
    if (count < 2)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "training on %zu pairs: at least 2 are needed, each other's negatives", count);
    for (size_t i = 0; i < count; i++) {
        const train_pair *p = &pairs[i];
        if (!isfinite(p->weight) || !(p->weight > 0))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "training pair %zu has weight %g; it must be above 0", i,
                            (double)p->weight);
        if (!utf8_valid(p->query, p->query_length) || !utf8_valid(p->document, p->document_length))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "training pair %zu is not valid UTF-8", i);
    }
    return SEM_OK;
}

static sem_status tokenize_text(train_run *run, const char *prompt, const char *text, size_t length, buffer *joined,
                                sem_error *err)
{
    size_t prompt_length = strlen(prompt);
    joined->size = 0;
    if (prompt_length > 0) {
        if (!buffer_append(joined, prompt, prompt_length) || !buffer_append(joined, text, length))
            return sem_fail_memory(err, "a training text");
        text = (const char *)joined->data;
        length = joined->size;
    }
    return tokenizer_encode(model_get_tokenizer(run->base), text, length, run->max_tokens, &run->tokens, NULL, err);
}

static sem_status tokenize_pairs(train_run *run, sem_error *err)
{
    const char *query_prompt = model_config_query_prompt(model_get_config(run->base));
    const char *document_prompt = model_config_document_prompt(model_get_config(run->base));
    sem_status status = SEM_OK;
    buffer joined = {0};
    run->starts = checked_realloc(NULL, run->count, 2 * sizeof *run->starts);
    if (run->starts == NULL)
        return sem_fail_memory(err, "the training pairs");
    for (size_t i = 0; i < run->count && status == SEM_OK; i++) {
        const train_pair *p = &run->pairs[i];
        run->starts[2 * i] = run->tokens.tokens;
        status = tokenize_text(run, query_prompt, p->query, p->query_length, &joined, err);
        run->starts[2 * i + 1] = run->tokens.tokens;
        if (status == SEM_OK)
            status = tokenize_text(run, document_prompt, p->document, p->document_length, &joined, err);
        if (status == SEM_OK && i % CANCEL_EVERY == 0 && cancelled(run))
            status = sem_fail(err, SEM_CANCELLED, "training was cancelled before its first step");
    }
    buffer_free(&joined);
    return status;
}

static sem_status create_sampler(train_run *run, sem_error *err)
{
    sampler_keys *keys = checked_realloc(NULL, run->count, sizeof *keys);
    if (keys == NULL)
        return sem_fail_memory(err, "the training pairs' keys");
    for (size_t i = 0; i < run->count; i++)
        keys[i] = (sampler_keys){.document = run->pairs[i].document_key, .query = run->pairs[i].query_key};
    sem_status status =
        sampler_create(&run->sampler, keys, run->count, run->config->batch_size, run->config->seed, err);
    free(keys);
    return status;
}

/* The parameters' copy, a batch's arrays and the step with its helpers. */
static sem_status create_step(train_run *run, sem_error *err)
{
    const train_config *c = run->config;
    const model_config *m = model_get_config(run->base);
    const encoder *e = model_get_encoder(run->base);
    const param_layout *layout = encoder_layout(e);
    run->params = checked_alloc_aligned(layout->total, sizeof *run->params);
    run->texts = checked_realloc(NULL, c->batch_size, 2 * sizeof *run->texts);
    run->id = checked_realloc(NULL, c->batch_size, 2 * sizeof *run->id);
    run->weight = checked_realloc(NULL, c->batch_size, sizeof *run->weight);
    if (run->params == NULL || run->texts == NULL || run->id == NULL || run->weight == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for training %zu parameters", layout->total);
    sem_status status = encoder_read_params(e, run->params, err);
    const mnrl_options loss_options = {.scale = c->scale};
    size_t most = c->batch_size < run->count ? c->batch_size : run->count;
    if (status == SEM_OK)
        status = loss_mnrl_create(&run->loss, &loss_options, model_get_gemm(run->base), most, 2 * most, err);
    if (status != SEM_OK)
        return status;

    train_step_options options = {
        .config = m,
        .layout = layout,
        .g = model_get_gemm(run->base),
        .loss = run->loss,
        .groups = {.layer_decay = 1},
        .optimiser = adamw_defaults(),
        .clip_norm = c->clip_norm,
        .hidden_dropout = c->dropout < 0 ? m->hidden_dropout : (float)c->dropout,
        .attention_dropout = c->dropout < 0 ? m->attention_dropout : (float)c->dropout,
        .seed = c->seed,
        .max_tokens = run->max_tokens,
        .max_steps = run->steps,
        .tape_bytes = c->tape_bytes,
        .threads = c->threads,
        .nice = c->nice,
    };
    options.optimiser.weight_decay = c->weight_decay;
    return train_step_create(&run->step, &options, run->params, err);
}

static sem_status run_create(train_run *run, sem_error *err)
{
    size_t limit = model_get_config(run->base)->max_tokens, wanted = run->config->max_tokens;
    run->max_tokens = wanted > 0 && wanted < limit ? wanted : limit;
    sem_status status = tokenize_pairs(run, err);
    if (status == SEM_OK)
        status = create_sampler(run, err);
    if (status != SEM_OK)
        return status;
    if (!checked_mul(run->config->epochs, sampler_batches(run->sampler), &run->steps))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training: %zu epochs are too many", run->config->epochs);
    if (run->config->max_steps > 0 && run->config->max_steps < run->steps)
        run->steps = run->config->max_steps;
    return create_step(run, err);
}

/* Collects the batch of a step; begins an epoch where one starts. */
static void load_batch(train_run *run, size_t step, train_batch *batch)
{
    size_t batches = sampler_batches(run->sampler);
    if (step % batches == 0)
        sampler_begin_epoch(run->sampler, step / batches);
    size_t n = 0;
    const uint32_t *members = sampler_batch(run->sampler, step % batches, &n);
    for (size_t i = 0; i < n; i++) {
        size_t pair = members[i];
        for (size_t side = 0; side < 2; side++) {
            size_t text = 2 * pair + side;
            run->texts[side * n + i] =
                (train_text){.ids = run->tokens.ids + run->starts[text], .length = run->tokens.lengths[text]};
        }
        run->id[i] = run->pairs[pair].query_key;
        run->id[n + i] = run->pairs[pair].document_key;
        run->weight[i] = run->pairs[pair].weight;
    }
    *batch =
        (train_batch){.texts = run->texts, .about = {.pairs = n, .texts = 2 * n, .id = run->id, .weight = run->weight}};
}

static double seconds_since(uint64_t ns)
{
    return (double)(clock_monotonic_ns() - ns) / 1e9;
}

static void report_progress(const train_run *run, const train_report *report, double of_step, double rate)
{
    if (run->control == NULL || run->control->progress == NULL)
        return;
    double seconds = seconds_since(run->began_ns);
    train_progress now = {
        .step = report->steps,
        .steps = run->steps,
        .loss = of_step,
        .learning_rate = rate,
        .pairs_per_s = seconds > 0 ? (double)report->pairs / seconds : 0,
        .eta_s = seconds / (double)report->steps * (double)(run->steps - report->steps),
    };
    run->control->progress(run->control->context, &now);
}

static sem_status run_steps(train_run *run, train_report *report, sem_error *err)
{
    size_t warmup = schedule_warmup(run->steps, run->config->warmup_ratio);
    size_t tenth = run->steps >= 10 ? run->steps / 10 : 1;
    for (size_t step = 0; step < run->steps; step++) {
        if (cancelled(run))
            return sem_fail(err, SEM_CANCELLED, "training was cancelled at step %zu of %zu", step, run->steps);
        train_batch batch;
        train_step_result result;
        load_batch(run, step, &batch);
        double rate = schedule_rate(SCHEDULE_LINEAR, run->config->learning_rate, step, warmup, run->steps);
        sem_status status = train_step_run(run->step, &batch, rate, &result, err);
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

sem_status train_mnrl(const model *base, const train_pair *pairs, size_t count, const train_config *config,
                      const train_control *control, float **params, train_report *report, sem_error *err)
{
    *params = NULL;
    *report = (train_report){0};
    sem_status status = train_config_check(config, err);
    if (status == SEM_OK)
        status = check_pairs(pairs, count, err);
    if (status != SEM_OK)
        return status;
    train_run run = {.base = base,
                     .pairs = pairs,
                     .count = count,
                     .config = config,
                     .control = control,
                     .began_ns = clock_monotonic_ns()};
    status = run_create(&run, err);
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
