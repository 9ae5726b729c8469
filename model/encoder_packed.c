#include "model/encoder_packed.h"

#include <stdlib.h>

/* A matrix [n, k] and its bias [n] among the parameters. */
typedef struct matrix {
    size_t n, k, weight, bias;
} matrix;

sem_status packed_layers_create(packed_layers *out, const encoder_plan *plan, sem_error *err)
{
    packed_layers layers = {.count = plan->config->layers * LAYER_MATRICES};
    layers.matrices = calloc(layers.count, sizeof(packed *));
    if (layers.matrices == NULL)
        return sem_fail_memory(err, "the packed matrices");
    *out = layers;
    return SEM_OK;
}

/* Puts the matrix into *at in place of what is there. record: what it was seen to
 * multiply, or NULL. */
static sem_status replace(packed **at, const packed_kernels *k, packed_precision precision, const matrix *m,
                          model_weights *w, covariance *record, sem_error *err)
{
    packed *next;
    if (*at != NULL && packed_get_precision(*at) == precision)
        return SEM_OK;
    sem_status status = weights_load(w, m->weight, m->n * m->k, err);
    if (status != SEM_OK)
        return status;
    const float *params = weights_params(w);
    status = packed_create_recorded(&next, k, precision, m->n, m->k, params + m->weight, params + m->bias, record, err);
    weights_drop(w, m->weight, m->n * m->k);
    if (status != SEM_OK)
        return status;
    packed_destroy(*at);
    *at = next;
    return SEM_OK;
}

sem_status packed_layers_fill(packed_layers *layers, const encoder_plan *plan, model_weights *w,
                              packed_precision precision, packed_precision projections, sem_error *err)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    const packed_kernels *k = packed_choose(plan->k->name);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < layers->count && status == SEM_OK; i++) {
        const layer_params *l = &plan->layers[i / LAYER_MATRICES];
        const matrix all[LAYER_MATRICES] = {
            [LAYER_QKV] = {3 * H, H, l->qkv_weight, l->qkv_bias},
            [LAYER_OUT] = {H, H, l->out_weight, l->out_bias},
            [LAYER_UP] = {encoder_up_columns(plan->config), H, l->up_weight, l->up_bias},
            [LAYER_DOWN] = {H, F, l->down_weight, l->down_bias},
        };
        const size_t kind = i % LAYER_MATRICES;
        status = replace(&layers->matrices[i], k, kind == LAYER_QKV ? projections : precision, &all[kind], w,
                         layers->records != NULL ? layers->records[i] : NULL, err);
    }
    return status;
}

sem_status packed_layers_record(packed_layers *layers, const kernels *k, sem_error *err)
{
    packed_layers_forget(layers);
    layers->records = calloc(layers->count, sizeof(covariance *));
    if (layers->records == NULL)
        return sem_fail_memory(err, "the recorded covariances");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < layers->count && status == SEM_OK; i++) {
        status = covariance_create(&layers->records[i], k, packed_width(layers->matrices[i]), err);
        if (status == SEM_OK)
            packed_record(layers->matrices[i], layers->records[i]);
    }
    if (status != SEM_OK)
        packed_layers_forget(layers);
    return status;
}

void packed_layers_forget(packed_layers *layers)
{
    for (size_t i = 0; layers->records != NULL && i < layers->count; i++) {
        packed_record(layers->matrices[i], NULL);
        covariance_destroy(layers->records[i]);
    }
    free(layers->records);
    layers->records = NULL;
}

void packed_layers_free(packed_layers *layers)
{
    for (size_t i = 0; layers->records != NULL && i < layers->count; i++)
        covariance_destroy(layers->records[i]);
    free(layers->records);
    for (size_t i = 0; layers->matrices != NULL && i < layers->count; i++)
        packed_destroy(layers->matrices[i]);
    free(layers->matrices);
    *layers = (packed_layers){0};
}

size_t packed_layers_space(const encoder_plan *plan)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    return packed_space(F > H ? F : H);
}
