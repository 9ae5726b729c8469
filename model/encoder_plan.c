#include "model/encoder_plan.h"

#include "base/checked.h"
#include "model/pooling.h"

#include <stdio.h>
#include <stdlib.h>

static sem_status check_config(const model_config *c, sem_error *err)
{
    if (c->family != FAMILY_BERT || c->activation != ACT_GELU)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the encoder computes BERT with erf-GELU only, not %s",
                        c->family_name);
    if (c->hidden == 0 || c->heads == 0 || c->hidden % c->heads != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "hidden size %zu is not a multiple of %zu heads", c->hidden,
                        c->heads);
    if (c->vocab == 0 || c->layers == 0 || c->intermediate == 0 || c->types == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "vocabulary %zu, layers %zu, intermediate size %zu and token types %zu must not be 0", c->vocab,
                        c->layers, c->intermediate, c->types);
    if (c->max_tokens == 0 || c->max_tokens > c->positions)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "texts of %zu tokens need a position table of as many rows, it has %zu", c->max_tokens,
                        c->positions);
    size_t parts = pooling_parts(c->pooling);
    if (parts == 0 || c->dim != parts * c->hidden)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "pooling %#x of hidden size %zu does not give embeddings of width %zu", c->pooling, c->hidden,
                        c->dim);
    return SEM_OK;
}

/* Offsets of the parameters of layer i in the order in which param_layout_create put them. */
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

sem_status encoder_plan_create(encoder_plan *out, const model_config *config, const param_layout *layout, const gemm *g,
                               sem_error *err)
{
    encoder_plan plan = {.config = config, .g = g};
    sem_status status = check_config(config, err);
    if (status != SEM_OK)
        return status;
    if (layout->count != EMBEDDING_PARAMS + LAYER_PARAMS * config->layers)
        return sem_fail(err, SEM_INTERNAL, "the layout of %zu parameters is not that of %zu layers", layout->count,
                        config->layers);
    status = kernels_choose(&plan.k, err);
    if (status != SEM_OK)
        return status;
    plan.layers = checked_realloc(NULL, config->layers, sizeof *plan.layers);
    if (plan.layers == NULL)
        return sem_fail_memory(err, "the encoder's plan");
    plan.attention = (attention_shape){config->hidden, config->heads, config->hidden / config->heads};
    plan.words = layout->items[0].offset;
    plan.positions = layout->items[1].offset;
    plan.types = layout->items[2].offset;
    plan.norm_weight = layout->items[3].offset;
    plan.norm_bias = layout->items[4].offset;
    plan.total = layout->total;
    for (size_t i = 0; i < config->layers; i++)
        place_layer(&plan.layers[i], layout->items + EMBEDDING_PARAMS + LAYER_PARAMS * i);
    *out = plan;
    return SEM_OK;
}

void encoder_plan_free(encoder_plan *plan)
{
    free(plan->layers);
    plan->layers = NULL;
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
