#include "finetune/train_setup.h"

#include "base/checked.h"
#include "base/checksum.h"
#include "base/random.h"

#include <string.h>

void train_setup_free(train_setup *s)
{
    train_step_destroy(s->step);
    loss_destroy(s->loss);
    free(s->params);
    *s = (train_setup){0};
}

static sem_status create_loss(train_setup *s, size_t max_pairs, size_t max_texts, sem_error *err)
{
    const train_config *c = s->config;
    const mnrl_options options = {
        .scale_kind = c->scale_kind, .scale = c->scale, .margin = c->margin, .symmetric = c->symmetric};
    sem_status status = loss_mnrl_create(&s->loss, &options, model_get_gemm(s->base), max_pairs, max_texts, err);
    if (status != SEM_OK || c->dim_count == 0)
        return status;
    return loss_matryoshka_create(&s->loss, s->loss, c->dims, c->dim_weights, c->dim_count,
                                  model_get_config(s->base)->dim, err);
}

/* The step with its helpers. */
static sem_status create_step(train_setup *s, sem_error *err)
{
    const train_config *c = s->config;
    const model_config *m = model_get_config(s->base);
    train_step_options options = {
        .config = m,
        .layout = encoder_layout(model_get_encoder(s->base)),
        .g = model_get_gemm(s->base),
        .loss = s->loss,
        .groups = {c->layer_decay, c->freeze_embeddings, c->freeze_layers},
        .optimiser = adamw_defaults(),
        .clip_norm = c->clip_norm,
        .hidden_dropout = c->dropout < 0 ? m->hidden_dropout : (float)c->dropout,
        .attention_dropout = c->dropout < 0 ? m->attention_dropout : (float)c->dropout,
        .seed = c->seed,
        .max_tokens = s->max_tokens,
        .max_steps = s->steps,
        .tape_bytes = c->tape_bytes,
        .threads = c->threads,
        .nice = c->nice,
    };
    options.optimiser.weight_decay = c->weight_decay;
    options.optimiser.average = c->average;
    return train_step_create(&s->step, &options, s->params, err);
}

sem_status train_setup_create(train_setup *out, const model *base, const train_config *config, size_t steps,
                              size_t max_pairs, size_t max_texts, sem_error *err)
{
    const encoder *e = model_get_encoder(base);
    *out = (train_setup){
        .base = base, .config = config, .steps = steps, .max_tokens = model_max_tokens(base, config->max_tokens)};
    out->params = checked_alloc_aligned(encoder_layout(e)->total, sizeof *out->params);
    if (out->params == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for training %zu parameters",
                        encoder_layout(e)->total);
    sem_status status = encoder_read_params(e, out->params, err);
    if (status == SEM_OK)
        status = create_loss(out, max_pairs, max_texts, err);
    return status == SEM_OK ? create_step(out, err) : status;
}

uint64_t train_fingerprint_of(uint64_t before, const void *data, size_t size)
{
    return random_at(before, checksum_of(data, size));
}

uint64_t train_setup_fingerprint(const train_setup *s, uint64_t before)
{
    const train_config *c = s->config;
    const double numbers[] = {c->learning_rate,
                              c->warmup_ratio,
                              c->weight_decay,
                              c->clip_norm,
                              c->scale,
                              c->dropout,
                              c->margin,
                              c->layer_decay,
                              c->average,
                              (double)c->schedule,
                              (double)c->scale_kind,
                              c->symmetric,
                              c->frequency,
                              c->freeze_embeddings};
    const uint64_t counts[] = {c->seed,       c->batch_size, s->steps,         c->accumulate, c->threads,
                               c->tape_bytes, s->max_tokens, c->freeze_layers, c->dim_count};
    uint64_t sum = train_fingerprint_of(train_fingerprint_of(before, numbers, sizeof numbers), counts, sizeof counts);
    sum = train_fingerprint_of(sum, c->dims, c->dim_count * sizeof *c->dims);
    sum = train_fingerprint_of(sum, c->dim_weights, c->dim_count * sizeof *c->dim_weights);
    sum = train_fingerprint_of(sum, s->params, encoder_layout(model_get_encoder(s->base))->total * sizeof *s->params);
    return sum;
}

sem_status train_setup_run(train_setup *s, const train_source *source, uint64_t fingerprint,
                           const train_control *control, train_report *report, sem_error *err)
{
    const train_config *c = s->config;
    const train_loop loop = {.step = s->step,
                             .source = *source,
                             .steps = s->steps,
                             .accumulate = c->accumulate,
                             .shape = c->schedule,
                             .peak = c->learning_rate,
                             .warmup = schedule_warmup(s->steps, c->warmup_ratio),
                             .checkpoint = c->checkpoint,
                             .checkpoint_every = c->checkpoint_every,
                             .fingerprint = fingerprint,
                             .control = control};
    sem_status status = train_loop_run(&loop, report, err);
    const float *average = train_step_average(s->step);
    if (status == SEM_OK && average != NULL)
        memcpy(s->params, average, encoder_layout(model_get_encoder(s->base))->total * sizeof *average);
    return status;
}
