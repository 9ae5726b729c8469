#include "model/encoder_packed.h"

#include <stdlib.h>

static sem_status pack_layer(packed **out, const encoder_plan *plan, const layer_params *l, const float *params,
                             const packed_precision *precisions, sem_error *err)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    const packed_kernels *k = packed_choose(plan->k->name);
    const struct {
        size_t n, k, weight, bias;
    } rows[LAYER_MATRICES] = {
        [LAYER_QKV] = {3 * H, H, l->qkv_weight, l->qkv_bias},
        [LAYER_OUT] = {H, H, l->out_weight, l->out_bias},
        [LAYER_UP] = {encoder_up_columns(plan->config), H, l->up_weight, l->up_bias},
        [LAYER_DOWN] = {H, F, l->down_weight, l->down_bias},
    };
    sem_status status = SEM_OK;
    for (size_t i = 0; i < LAYER_MATRICES && status == SEM_OK; i++)
        status = packed_create(&out[i], k, precisions[i], rows[i].n, rows[i].k, params + rows[i].weight,
                               params + rows[i].bias, err);
    return status;
}

sem_status packed_layers_create(packed_layers *out, const encoder_plan *plan, const float *params,
                                const packed_precision precisions[LAYER_MATRICES], sem_error *err)
{
    packed_layers layers = {.count = plan->config->layers * LAYER_MATRICES};
    layers.matrices = calloc(layers.count, sizeof(packed *));
    if (layers.matrices == NULL)
        return sem_fail_memory(err, "the packed matrices");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < plan->config->layers && status == SEM_OK; i++)
        status = pack_layer(layers.matrices + i * LAYER_MATRICES, plan, &plan->layers[i], params, precisions, err);
    if (status != SEM_OK) {
        packed_layers_free(&layers);
        return status;
    }
    *out = layers;
    return SEM_OK;
}

void packed_layers_free(packed_layers *layers)
{
    for (size_t i = 0; layers->matrices != NULL && i < layers->count; i++)
        packed_destroy(layers->matrices[i]);
    free(layers->matrices);
    *layers = (packed_layers){0};
}

size_t packed_layers_bytes(const packed_layers *layers)
{
    size_t bytes = 0;
    for (size_t i = 0; i < layers->count; i++)
        bytes += packed_bytes(layers->matrices[i]);
    return bytes;
}

size_t packed_layers_space(const encoder_plan *plan)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    return packed_space(F > H ? F : H);
}
