#include "model/encoder_packed.h"

#include "base/pages.h"
#include "model/packed_levels.h"

#include <stdlib.h>

enum { SETTLED_LEAST = 2 << 20 }; /* bytes: one huge page */

/* A matrix [n, k] and its bias [n] among the parameters. */
typedef struct shape {
    size_t n, k, weight, bias;
} shape;

sem_status packed_layers_create(packed_layers *out, const encoder_plan *plan, sem_error *err)
{
    packed_layers layers = {.count = plan->config->layers * LAYER_MATRICES};
    layers.matrices = calloc(layers.count, sizeof(packed *));
    if (layers.matrices == NULL)
        return sem_fail_memory(err, "the packed matrices");
    *out = layers;
    return SEM_OK;
}

static shape find_matrix(const encoder_plan *plan, size_t i)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    const layer_params *l = &plan->layers[i / LAYER_MATRICES];
    const shape all[LAYER_MATRICES] = {
        [LAYER_QKV] = {3 * H, H, l->qkv_weight, l->qkv_bias},
        [LAYER_OUT] = {H, H, l->out_weight, l->out_bias},
        [LAYER_UP] = {encoder_up_columns(plan->config), H, l->up_weight, l->up_bias},
        [LAYER_DOWN] = {H, F, l->down_weight, l->down_bias},
    };
    return all[i % LAYER_MATRICES];
}

/* Packs matrix number i, rounded by what is recorded. */
static sem_status pack_one(packed **out, const packed_layers *layers, const encoder_plan *plan, model_weights *w,
                           size_t i, packed_precision precision, sem_error *err)
{
    const shape found = find_matrix(plan, i), *m = &found;
    sem_status status = weights_load(w, m->weight, m->n * m->k, err);
    if (status != SEM_OK)
        return status;
    const float *params = weights_params(w);
    const packed_kernels level = packed_choose(plan->k->name);
    status = packed_create_recorded(out, &level, precision, m->n, m->k, params + m->weight, params + m->bias,
                                    layers->records != NULL ? layers->records[i] : NULL, err);
    weights_drop(w, m->weight, m->n * m->k);
    return status;
}

static packed_precision precision_of(char letter)
{
    packed_precision precision = 0;
    while (precision < PACKED_PRECISIONS && packed_precision_name(precision)[0] != letter)
        precision++;
    return precision;
}

sem_status packed_layers_fill(packed_layers *layers, const encoder_plan *plan, model_weights *w,
                              const encoder_precisions *table, sem_error *err)
{
    for (size_t i = 0; i < layers->count; i++) {
        const packed_precision precision = precision_of(table->letters[i]);
        packed *next, **at = &layers->matrices[i];
        if (precision == PACKED_PRECISIONS)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "a table of precisions does not fit %zu matrices",
                            layers->count);
        if (*at != NULL && packed_get_precision(*at) == precision)
            continue;
        sem_status status = pack_one(&next, layers, plan, w, i, precision, err);
        if (status != SEM_OK)
            return status;
        packed_destroy(*at);
        *at = next;
    }
    return SEM_OK;
}

sem_status packed_layers_try(packed_layers *layers, const encoder_plan *plan, model_weights *w, size_t matrix,
                             packed_precision precision, sem_error *err)
{
    packed *next;
    packed_layers_untry(layers);
    sem_status status = pack_one(&next, layers, plan, w, matrix, precision, err);
    if (status != SEM_OK)
        return status;
    layers->aside = layers->matrices[matrix];
    layers->tried = matrix;
    layers->matrices[matrix] = next;
    return SEM_OK;
}

void packed_layers_untry(packed_layers *layers)
{
    if (layers->aside == NULL)
        return;
    packed_destroy(layers->matrices[layers->tried]);
    layers->matrices[layers->tried] = layers->aside;
    layers->aside = NULL;
}

void packed_layers_settle(packed_layers *layers)
{
    size_t bytes = 0;
    for (size_t i = 0; i < layers->count; i++)
        bytes += packed_weight_bytes(layers->matrices[i]);
    char *to = bytes >= SETTLED_LEAST ? pages_alloc_huge(bytes) : NULL;
    if (to == NULL)
        return;
    void *const settled = to;
    for (size_t i = 0; i < layers->count; i++) {
        size_t moved = packed_weight_bytes(layers->matrices[i]);
        packed_move(layers->matrices[i], to);
        to += moved;
    }
    pages_free(layers->settled, layers->settled_bytes);
    layers->settled = settled;
    layers->settled_bytes = bytes;
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
    packed_destroy(layers->aside);
    for (size_t i = 0; layers->matrices != NULL && i < layers->count; i++)
        packed_destroy(layers->matrices[i]);
    pages_free(layers->settled, layers->settled_bytes);
    free(layers->matrices);
    *layers = (packed_layers){0};
}

size_t packed_layers_size(const encoder_plan *plan, size_t matrix)
{
    const shape m = find_matrix(plan, matrix);
    return m.n * m.k;
}

size_t packed_layers_space(const encoder_plan *plan)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    return packed_space(F > H ? F : H);
}
