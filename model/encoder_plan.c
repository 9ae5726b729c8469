#include "model/encoder_plan.h"

#include "base/checked.h"
#include "model/pooling.h"

#include <math.h>
#include <stdlib.h>

enum { RELATIVE_BUCKETS = 32 };

/* --- what can be computed */

static bool has_types(const model_config *c)
{
    return c->family == FAMILY_BERT || c->family == FAMILY_ROBERTA || (c->family == FAMILY_NOMIC && c->types > 0);
}

static sem_status check_tables(const model_config *c, sem_error *err)
{
    if (has_types(c) != (c->types > 0) || (c->family == FAMILY_MPNET) != (c->relative_buckets > 0))
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

static sem_status check_rotary(const model_config *c, sem_error *err)
{
    const bool rotary = c->family == FAMILY_MODERNBERT || c->family == FAMILY_NOMIC;
    bool local = false;
    for (size_t i = 0; i < MODEL_LAYERS_MAX; i++)
        local = local || c->local[i];
    if (rotary != (c->rotary_theta > 0) || (rotary && (c->hidden / c->heads) % 2 != 0) ||
        (local && (!rotary || c->window == 0 || !(c->local_theta > 0))))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "rotary positions of theta %g and %g, heads %zu wide and a window of %zu are not those of %s",
                        (double)c->rotary_theta, (double)c->local_theta, c->hidden / c->heads, c->window,
                        c->family_name);
    if (c->prenorm != (c->family == FAMILY_MODERNBERT) || c->gated != rotary)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s does not have these kinds of layers", c->family_name);
    return SEM_OK;
}

static sem_status check_config(const model_config *c, sem_error *err)
{
    if (c->family > FAMILY_NOMIC || c->activation > ACT_SILU)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the encoder does not compute family %d (%s) with activation %d",
                        (int)c->family, c->family_name, (int)c->activation);
    if (c->hidden == 0 || c->heads == 0 || c->hidden % c->heads != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "hidden size %zu is not a multiple of %zu heads", c->hidden,
                        c->heads);
    if (c->vocab == 0 || c->layers == 0 || c->layers > MODEL_LAYERS_MAX || c->intermediate == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "vocabulary %zu, layers %zu and intermediate size %zu must not be 0, and layers at most %d",
                        c->vocab, c->layers, c->intermediate, MODEL_LAYERS_MAX);
    sem_status status = check_tables(c, err);
    if (status == SEM_OK)
        status = check_rotary(c, err);
    return status == SEM_OK ? check_widths(c, err) : status;
}

/* --- where the parameters lie */

static size_t *layer_place(layer_params *l, param_role role)
{
    switch (role) {
    case PARAM_QKV_WEIGHT: return &l->qkv_weight;
    case PARAM_QKV_BIAS: return &l->qkv_bias;
    case PARAM_OUT_WEIGHT: return &l->out_weight;
    case PARAM_OUT_BIAS: return &l->out_bias;
    case PARAM_NORM1_WEIGHT: return &l->norm1_weight;
    case PARAM_NORM1_BIAS: return &l->norm1_bias;
    case PARAM_UP_WEIGHT: return &l->up_weight;
    case PARAM_UP_BIAS: return &l->up_bias;
    case PARAM_DOWN_WEIGHT: return &l->down_weight;
    case PARAM_DOWN_BIAS: return &l->down_bias;
    case PARAM_NORM2_WEIGHT: return &l->norm2_weight;
    case PARAM_NORM2_BIAS: return &l->norm2_bias;
    default: return NULL;
    }
}

/* Where the plan keeps the offset of a parameter, or of the first of several in a row. */
static size_t *place_of(encoder_plan *p, const param *item)
{
    switch (item->role) {
    case PARAM_WORDS: return &p->embedding.words;
    case PARAM_POSITIONS: return &p->embedding.positions;
    case PARAM_TYPES: return &p->embedding.types;
    case PARAM_NORM_WEIGHT: return &p->norm_weight;
    case PARAM_NORM_BIAS: return &p->norm_bias;
    case PARAM_RELATIVE_BIAS: return &p->relative_bias;
    case PARAM_LAST_NORM_WEIGHT: return &p->last_norm_weight;
    case PARAM_LAST_NORM_BIAS: return &p->last_norm_bias;
    case PARAM_DENSE_WEIGHT: return &p->head.layers[item->part].weight;
    case PARAM_DENSE_BIAS: return &p->head.layers[item->part].bias;
    default: return item->part < p->config->layers ? layer_place(&p->layers[item->part], item->role) : NULL;
    }
}

static void place_params(encoder_plan *p, const param_layout *layout)
{
    const model_config *c = p->config;
    const size_t zeros = layout->zeros, none = PARAM_NOWHERE;
    p->embedding = (embedding_shape){.hidden = c->hidden,
                                     .position_start = c->position_start,
                                     .has_types = c->types > 0,
                                     .no_positions = c->rotary_theta > 0};
    p->norm_bias = p->last_norm_bias = zeros;
    for (size_t i = 0; i < c->layers; i++)
        p->layers[i] =
            (layer_params){none, zeros, none, zeros, none, zeros, none, zeros, none, zeros, none, zeros, c->local[i]};
    p->head.count = c->dense_count;
    for (size_t i = 0; i < c->dense_count; i++) {
        const model_dense *d = &c->dense[i];
        p->head.layers[i] = (dense_layer){.in = d->in, .out = d->out, .has_bias = d->bias, .activation = d->activation};
    }
    for (size_t i = layout->count; i-- > 0;) { /* backwards: the first of several is the last to be set */
        size_t *place = place_of(p, &layout->items[i]);
        if (place != NULL)
            *place = layout->items[i].offset;
    }
}

/* Whether every weight that a layer needs has its place. */
static bool is_complete(const encoder_plan *p)
{
    for (size_t i = 0; i < p->config->layers; i++) {
        const layer_params *l = &p->layers[i];
        bool norm1 = l->norm1_weight != PARAM_NOWHERE || (p->config->prenorm && i == 0);
        if (l->qkv_weight == PARAM_NOWHERE || l->out_weight == PARAM_NOWHERE || l->up_weight == PARAM_NOWHERE ||
            l->down_weight == PARAM_NOWHERE || l->norm2_weight == PARAM_NOWHERE || !norm1)
            return false;
    }
    return true;
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

static sem_status plan_rotary(encoder_plan *plan, sem_error *err)
{
    const model_config *c = plan->config;
    bool local = false, whole = false;
    for (size_t i = 0; i < c->layers; i++) {
        local = local || c->local[i];
        whole = whole || !c->local[i];
    }
    const size_t half = c->hidden / c->heads / 2;
    sem_status status = SEM_OK;
    if (c->rotary_theta > 0 && whole)
        status = rotary_create(&plan->rotary, c->rotary_theta, half, c->max_tokens, err);
    if (status == SEM_OK && local)
        status = rotary_create(&plan->local_rotary, c->local_theta, half, c->max_tokens, err);
    return status;
}

attention_shape encoder_layer_attention(const encoder_plan *plan, const layer_params *layer)
{
    attention_shape shape = plan->attention;
    shape.window = layer->local ? plan->config->window : 0;
    return shape;
}

const rotary_table *encoder_layer_rotary(const encoder_plan *plan, const layer_params *layer)
{
    const rotary_table *table = layer->local ? &plan->local_rotary : &plan->rotary;
    return table->cos != NULL ? table : NULL;
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

static sem_status fill_plan(encoder_plan *plan, const param_layout *layout, sem_error *err)
{
    const model_config *c = plan->config;
    sem_status status = kernels_choose(&plan->k, err);
    if (status == SEM_OK)
        status = plan_attention(plan, err);
    if (status == SEM_OK)
        status = plan_rotary(plan, err);
    if (status != SEM_OK)
        return status;
    plan->layers = checked_realloc(NULL, c->layers, sizeof *plan->layers);
    if (plan->layers == NULL)
        return sem_fail_memory(err, "the encoder's plan");
    plan_activation(plan);
    plan->drops_attention_output = c->family != FAMILY_DISTILBERT;
    place_params(plan, layout);
    if (!is_complete(plan))
        return sem_fail(err, SEM_INTERNAL, "the layout of %zu parameters is not that of %zu layers", layout->count,
                        c->layers);
    return SEM_OK;
}

sem_status encoder_plan_create(encoder_plan *out, const model_config *config, const param_layout *layout, const gemm *g,
                               sem_error *err)
{
    encoder_plan plan = {
        .config = config, .g = g, .total = layout->total, .zeros = layout->zeros, .zeros_count = layout->zeros_count};
    sem_status status = check_config(config, err);
    if (status == SEM_OK)
        status = fill_plan(&plan, layout, err);
    if (status != SEM_OK) {
        encoder_plan_free(&plan);
        return status;
    }
    *out = plan;
    return SEM_OK;
}

void encoder_plan_free(encoder_plan *plan)
{
    free(plan->layers);
    free(plan->buckets);
    rotary_free(&plan->rotary);
    rotary_free(&plan->local_rotary);
    plan->layers = NULL;
    plan->buckets = NULL;
}

void encoder_plan_bind(encoder_plan *plan, const float *params)
{
    if (plan->buckets != NULL)
        plan->attention.bias = params + plan->relative_bias;
}

size_t encoder_up_columns(const model_config *config)
{
    return config->gated ? 2 * config->intermediate : config->intermediate;
}

size_t encoder_wide_columns(const model_config *config)
{
    const size_t up = encoder_up_columns(config);
    return 3 * config->hidden > up ? 3 * config->hidden : up;
}

void encoder_gate(const encoder_plan *plan, void (*f)(const float *x, size_t n, float *y), size_t rows, float *u)
{
    const size_t F = plan->config->intermediate;
    for (size_t r = 0; r < rows; r++) {
        float *y = u + r * F; /* never behind what is still to be read */
        f(u + r * 2 * F, F, y);
        plan->k->times(u + r * 2 * F + F, y, F);
    }
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
