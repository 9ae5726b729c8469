#include "model/encoder_plan.h"

#include "base/checked.h"
#include "model/pooling.h"

#include <math.h>
#include <stdlib.h>

enum { RELATIVE_BUCKETS = 32 };

/* --- what can be computed */

static sem_status check_tables(const model_config *c, sem_error *err)
{
    const bool has_types = c->family == FAMILY_BERT || c->family == FAMILY_ROBERTA;
    if (has_types != (c->types > 0) || (c->family == FAMILY_MPNET) != (c->relative_buckets > 0))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu token types and %zu relative positions are not those of %s",
                        c->types, c->relative_buckets, c->family_name);
    if (c->relative_buckets != 0 && c->relative_buckets != RELATIVE_BUCKETS)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%zu relative positions are not supported; %d are",
                        c->relative_buckets, RELATIVE_BUCKETS);
    if (c->max_tokens == 0 || c->position_start > c->positions || c->max_tokens > c->positions - c->position_start)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "texts of %zu tokens that start at position %zu need a position table of as many rows, it has "
                        "%zu",
                        c->max_tokens, c->position_start, c->positions);
    return SEM_OK;
}

static sem_status check_widths(const model_config *c, sem_error *err)
{
    size_t width = pooling_parts(c->pooling) * c->hidden;
    bool joined = width > 0 && c->dense_count <= MODEL_DENSE_MAX;
    for (size_t i = 0; joined && i < c->dense_count; i++) {
        joined = c->dense[i].in == width && c->dense[i].out > 0;
        width = c->dense[i].out;
    }
    if (!joined || c->dim != width)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "pooling %#x of hidden size %zu and %zu Dense modules do not give embeddings of width %zu",
                        c->pooling, c->hidden, c->dense_count, c->dim);
    return SEM_OK;
}

static sem_status check_config(const model_config *c, sem_error *err)
{
    if (c->family > FAMILY_MPNET || c->activation > ACT_SILU)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the encoder does not compute family %d (%s) with activation %d",
                        (int)c->family, c->family_name, (int)c->activation);
    if (c->hidden == 0 || c->heads == 0 || c->hidden % c->heads != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "hidden size %zu is not a multiple of %zu heads", c->hidden,
                        c->heads);
    if (c->vocab == 0 || c->layers == 0 || c->intermediate == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "vocabulary %zu, layers %zu and intermediate size %zu must not be 0",
                        c->vocab, c->layers, c->intermediate);
    sem_status status = check_tables(c, err);
    return status == SEM_OK ? check_widths(c, err) : status;
}

/* --- where the parameters lie, in the order in which param_layout_create put them */

static const param *place_embedding(encoder_plan *p, const model_config *c, const param *at)
{
    p->embedding = (embedding_shape){.hidden = c->hidden, .position_start = c->position_start};
    p->embedding.words = at++->offset;
    p->embedding.positions = at++->offset;
    p->embedding.has_types = c->types > 0;
    if (p->embedding.has_types)
        p->embedding.types = at++->offset;
    p->norm_weight = at++->offset;
    p->norm_bias = at++->offset;
    if (c->relative_buckets > 0)
        p->relative_bias = at++->offset;
    return at;
}

static void place_layer(layer_params *p, const param *at)
{
    p->qkv_weight = at[0].offset;
    p->qkv_bias = at[3].offset;
    p->out_weight = at[6].offset;
    p->out_bias = at[7].offset;
    p->norm1_weight = at[8].offset;
    p->norm1_bias = at[9].offset;
    p->up_weight = at[10].offset;
    p->up_bias = at[11].offset;
    p->down_weight = at[12].offset;
    p->down_bias = at[13].offset;
    p->norm2_weight = at[14].offset;
    p->norm2_bias = at[15].offset;
}

static void place_head(dense_head *head, const model_config *c, const param *at)
{
    head->count = c->dense_count;
    for (size_t i = 0; i < c->dense_count; i++) {
        const model_dense *d = &c->dense[i];
        head->layers[i] = (dense_layer){.in = d->in, .out = d->out, .has_bias = d->bias, .activation = d->activation};
        head->layers[i].weight = at++->offset;
        if (d->bias)
            head->layers[i].bias = at++->offset;
    }
}

/* Entries that the configuration asks for. */
static size_t count_params(const model_config *c)
{
    size_t count = 4 + (c->types > 0) + (c->relative_buckets > 0) + LAYER_PARAMS * c->layers;
    for (size_t i = 0; i < c->dense_count; i++)
        count += c->dense[i].bias ? 2 : 1;
    return count;
}

/* --- what differs from family to family */

/* The bucket of a key `distance` behind its query: each near distance has its
 * own, far ones share those that are left by their logarithm (Raffel et al. 2020,
 * section 2.1; the numbers are MPNet's). In float as in the reference, whose
 * rounding decides at the edges. */
static uint8_t bucket_of(long distance)
{
    enum { HALF = RELATIVE_BUCKETS / 2, NEAR = HALF / 2, FURTHEST = 128 };
    size_t bucket = distance > 0 ? HALF : 0, away = (size_t)labs(distance);
    if (away < NEAR)
        return (uint8_t)(bucket + away);
    float share = logf((float)away / NEAR) / (float)log((double)FURTHEST / NEAR);
    size_t far = NEAR + (size_t)(share * (HALF - NEAR));
    return (uint8_t)(bucket + (far < HALF - 1 ? far : HALF - 1));
}

static sem_status plan_attention(encoder_plan *plan, sem_error *err)
{
    const model_config *c = plan->config;
    plan->attention = (attention_shape){.hidden = c->hidden, .heads = c->heads, .width = c->hidden / c->heads};
    if (c->relative_buckets == 0)
        return SEM_OK;
    plan->buckets = checked_realloc(NULL, 2 * c->max_tokens, sizeof *plan->buckets);
    if (plan->buckets == NULL)
        return sem_fail_memory(err, "the encoder's plan");
    for (size_t i = 0; i < 2 * c->max_tokens - 1; i++)
        plan->buckets[i] = bucket_of((long)i - (long)(c->max_tokens - 1));
    plan->attention.buckets = plan->buckets;
    plan->attention.reach = c->max_tokens;
    return SEM_OK;
}

static void plan_activation(encoder_plan *plan)
{
    const kernels *k = plan->k;
    switch (plan->config->activation) {
    case ACT_GELU_TANH:
        plan->activate = k->gelu_tanh;
        plan->activate_backward = k->gelu_tanh_backward;
        return;
    case ACT_RELU:
        plan->activate = k->relu;
        plan->activate_backward = k->relu_backward;
        return;
    case ACT_SILU:
        plan->activate = k->silu;
        plan->activate_backward = k->silu_backward;
        return;
    case ACT_GELU: break;
    }
    plan->activate = k->gelu;
    plan->activate_backward = k->gelu_backward;
}

/* --- the plan */

sem_status encoder_plan_create(encoder_plan *out, const model_config *config, const param_layout *layout, const gemm *g,
                               sem_error *err)
{
    encoder_plan plan = {.config = config, .g = g, .total = layout->total};
    sem_status status = check_config(config, err);
    if (status != SEM_OK)
        return status;
    if (layout->count != count_params(config))
        return sem_fail(err, SEM_INTERNAL, "the layout of %zu parameters is not that of %zu layers", layout->count,
                        config->layers);
    status = kernels_choose(&plan.k, err);
    if (status == SEM_OK)
        status = plan_attention(&plan, err);
    if (status != SEM_OK)
        return status;
    plan.layers = checked_realloc(NULL, config->layers, sizeof *plan.layers);
    if (plan.layers == NULL) {
        encoder_plan_free(&plan);
        return sem_fail_memory(err, "the encoder's plan");
    }
    plan_activation(&plan);
    plan.drops_attention_output = config->family != FAMILY_DISTILBERT;
    const param *at = place_embedding(&plan, config, layout->items);
    for (size_t i = 0; i < config->layers; i++, at += LAYER_PARAMS)
        place_layer(&plan.layers[i], at);
    place_head(&plan.head, config, at);
    *out = plan;
    return SEM_OK;
}

void encoder_plan_free(encoder_plan *plan)
{
    free(plan->layers);
    free(plan->buckets);
    plan->layers = NULL;
    plan->buckets = NULL;
}

void encoder_plan_bind(encoder_plan *plan, const float *params)
{
    if (plan->buckets != NULL)
        plan->attention.bias = params + plan->relative_bias;
}

size_t encoder_wide_columns(const model_config *config)
{
    return 3 * config->hidden > config->intermediate ? 3 * config->hidden : config->intermediate;
}

sem_status encoder_batch_check(const encoder_plan *plan, const int32_t *ids, const uint32_t *lengths, size_t texts,
                               batch_size *out, sem_error *err)
{
    const model_config *c = plan->config;
    batch_size size = {.texts = texts};
    for (size_t b = 0; b < texts; b++) {
        if (lengths[b] < 1 || lengths[b] > c->max_tokens)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "text %zu has %u tokens, the model takes 1 to %zu", b,
                            lengths[b], c->max_tokens);
        size.tokens += lengths[b];
        if (size.tokens > ENCODER_TOKENS_MAX)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch has more than %d tokens: split it", ENCODER_TOKENS_MAX);
        if (lengths[b] > size.longest)
            size.longest = lengths[b];
    }
    for (size_t t = 0; t < size.tokens; t++)
        if (ids[t] < 0 || (size_t)ids[t] >= c->vocab)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "token %zu of the batch has id %d, the vocabulary ends at %zu",
                            t, ids[t], c->vocab - 1);
    *out = size;
    return SEM_OK;
}

sem_status float_area_reserve(float_area *area, size_t count, sem_error *err)
{
    if (count <= area->capacity)
        return SEM_OK;
    free(area->data);
    area->capacity = 0;
    area->data = checked_alloc_aligned(count, sizeof(float));
    if (area->data == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "out of memory for a batch's activations (%zu MB): use a smaller batch",
                        count / (1024 * 1024 / sizeof(float)));
    area->capacity = count;
    return SEM_OK;
}

sem_status encoder_fail_length(size_t text, float length, sem_error *err)
{
    return sem_fail(err, SEM_INTERNAL,
                    "the embedding of text %zu has length %f, expected a positive number: the model's weights are "
                    "damaged",
                    text, (double)length);
}
