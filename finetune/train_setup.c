#include "finetune/train_setup.h"

#include "base/checked.h"
#include "base/checksum.h"
#include "base/random.h"
#include "model/products.h"
#include "finetune/loss_anchor.h"
#include "finetune/loss_cosent.h"
#include "finetune/loss_mse.h"

#include <string.h>

void train_setup_free(train_setup *s)
{
    train_step_destroy(s->step);
    loss_destroy(s->loss);
    free(s->params);
    *s = (train_setup){0};
}

static sem_status create_member(loss **out, const train_setup *s, const train_batches *b, loss_name name,
                                sem_error *err)
{
    const train_config *c = s->config;
    const mnrl_options ranking = {.scale_kind = c->scale_kind,
                                  .scale = c->scale,
                                  .margin = c->margin,
                                  .symmetric = c->symmetric,
                                  .guide_margin = c->guide_margin};
    if (name == LOSS_COSENT)
        return loss_cosent_create(out, c->scale, b->max_pairs, err);
    if (name == LOSS_MSE)
        return loss_mse_create(out, b->max_pairs, err);
    return loss_mnrl_create(out, &ranking, model_get_gemm(s->base), b->max_pairs, b->max_texts, err);
}

/* The one loss that there is, or the choice of several. */
static sem_status create_members(train_setup *s, const train_batches *b, sem_error *err)
{
    loss *members[LOSS_NAMES] = {0}, *last = NULL;
    size_t count = 0;
    sem_status status = SEM_OK;
    for (size_t i = 0; i < LOSS_NAMES && status == SEM_OK; i++) {
        if (!b->losses[i])
            continue;
        status = create_member(&members[i], s, b, (loss_name)i, err);
        last = members[i];
        count++;
    }
    if (status == SEM_OK && count == 1)
        s->loss = last;
    else if (status == SEM_OK)
        return loss_choice_create(&s->loss, members, err);
    for (size_t i = 0; i < LOSS_NAMES && status != SEM_OK; i++)
        loss_destroy(members[i]);
    return status;
}

/* The width itself always counts: what is told of are first dimensions beside it. */
static sem_status wrap_dims(train_setup *s, sem_error *err)
{
    const train_config *c = s->config;
    const size_t width = model_get_config(s->base)->dim;
    size_t dims[MATRYOSHKA_MOST], count = c->dim_count;
    double weights[MATRYOSHKA_MOST];
    memcpy(dims, c->dims, count * sizeof *dims);
    memcpy(weights, c->dim_weights, count * sizeof *weights);
    if (dims[count - 1] < width) {
        dims[count] = width;
        weights[count++] = 1;
    }
    return loss_matryoshka_create(&s->loss, s->loss, dims, weights, count, width, err);
}

static sem_status create_loss(train_setup *s, const train_batches *b, sem_error *err)
{
    const double anchor = s->config->anchor_weight;
    sem_status status = create_members(s, b, err);
    if (status == SEM_OK && s->config->dim_count > 0)
        status = wrap_dims(s, err);
    return status == SEM_OK && anchor > 0 ? loss_anchor_create(&s->loss, s->loss, anchor, err) : status;
}

static sem_status choose_precision(train_setup *s, sem_error *err)
{
    s->precision = s->config->precision == TRAIN_BFLOAT16 ? PACKED_BFLOAT16 : PACKED_FLOAT32;
    return s->config->precision == TRAIN_AUTO ? products_quickest(&s->precision, err) : SEM_OK;
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
        .precision = s->precision,
        .shape = c->shape,
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
                              const train_batches *batches, sem_error *err)
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
        status = choose_precision(out, err);
    if (status == SEM_OK)
        status = create_loss(out, batches, err);
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
                              c->guide_margin,
                              c->layer_decay,
                              c->average,
                              (double)c->schedule,
                              (double)c->scale_kind,
                              c->symmetric,
                              c->frequency,
                              c->freeze_embeddings,
                              c->anchor_weight,
                              c->fixed_documents,
                              c->temperature,
                              c->mixed_share};
    const uint64_t counts[] = {c->seed,      c->batch_size, s->steps,          c->accumulate,
                               c->threads,   c->tape_bytes, s->max_tokens,     c->freeze_layers,
                               c->dim_count, s->precision,  (uint64_t)c->shape};
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
