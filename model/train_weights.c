#include "model/train_weights.h"

#include "base/pages.h"

#include <stdlib.h>

struct train_weights {
    const products *products; /* borrowed */
    encoder_plan plan;
    product_weights *matrices; /* [L, LAYER_MATRICES] */
    char *memory;              /* of all of them */
    size_t bytes, space;
};

layer_matrix_shape layer_matrix_shape_of(const encoder_plan *plan, const layer_params *at, layer_matrix which)
{
    const size_t H = plan->config->hidden, F = plan->config->intermediate;
    switch (which) {
    case MATRIX_QKV: return (layer_matrix_shape){H, 3 * H, at->qkv_weight, at->qkv_bias};
    case MATRIX_OUT: return (layer_matrix_shape){H, H, at->out_weight, at->out_bias};
    case MATRIX_UP: return (layer_matrix_shape){H, encoder_up_columns(plan->config), at->up_weight, at->up_bias};
    default: return (layer_matrix_shape){F, H, at->down_weight, at->down_bias};
    }
}

static layer_matrix_shape shape_of(const train_weights *w, size_t layer, size_t which)
{
    return layer_matrix_shape_of(&w->plan, &w->plan.layers[layer], (layer_matrix)which);
}

/* All layers have the same shapes. */
static sem_status allocate(train_weights *w, size_t layers, sem_error *err)
{
    size_t layer_bytes = 0;
    for (size_t i = 0; i < LAYER_MATRICES; i++) {
        const layer_matrix_shape s = shape_of(w, 0, i);
        const size_t space = products_space(w->products, s.inputs, s.outputs);
        layer_bytes += product_weights_bytes(w->products, s.outputs, s.inputs);
        w->space = space > w->space ? space : w->space;
    }
    w->bytes = layers * layer_bytes;
    w->matrices = calloc(layers * LAYER_MATRICES, sizeof *w->matrices);
    w->memory = pages_alloc_huge(w->bytes);
    if (w->matrices == NULL || w->memory == NULL)
        return sem_fail_memory(err, "the packed matrices of training");
    char *next = w->memory;
    for (size_t i = 0; i < layers * LAYER_MATRICES; i++) {
        const layer_matrix_shape s = shape_of(w, i / LAYER_MATRICES, i % LAYER_MATRICES);
        product_weights_create(&w->matrices[i], w->products, s.outputs, s.inputs, next);
        next += product_weights_bytes(w->products, s.outputs, s.inputs);
    }
    return SEM_OK;
}

sem_status train_weights_create(train_weights **out, const model_config *config, const param_layout *layout,
                                const gemm *g, const products *p, sem_error *err)
{
    *out = NULL;
    train_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "the packed matrices of training");
    w->products = p;
    sem_status status = encoder_plan_create(&w->plan, config, layout, g, err);
    if (status == SEM_OK)
        status = allocate(w, config->layers, err);
    if (status == SEM_OK)
        *out = w;
    else
        train_weights_destroy(w);
    return status;
}

void train_weights_destroy(train_weights *w)
{
    if (w == NULL)
        return;
    encoder_plan_free(&w->plan);
    pages_free(w->memory, w->bytes);
    free(w->matrices);
    free(w);
}

void train_weights_pack(train_weights *w, const float *params, size_t part, size_t parts, void *space)
{
    for (size_t i = 0; i < w->plan.config->layers * LAYER_MATRICES; i++) {
        const layer_matrix_shape s = shape_of(w, i / LAYER_MATRICES, i % LAYER_MATRICES);
        product_weights_pack(&w->matrices[i], w->products, params + s.weight, part, parts, space);
    }
}

const products *train_weights_products(const train_weights *w)
{
    return w->products;
}

const product_weights *train_weights_at(const train_weights *w, size_t layer, layer_matrix which)
{
    return &w->matrices[layer * LAYER_MATRICES + which];
}

size_t train_weights_space(const train_weights *w)
{
    return w->space;
}

size_t train_weights_gradient_bytes(const train_weights *w)
{
    size_t bytes = 0;
    for (size_t i = 0; i < LAYER_MATRICES; i++) {
        const layer_matrix_shape s = shape_of(w, 0, i);
        bytes += product_gradient_bytes(w->products, s.inputs, s.outputs);
    }
    return bytes;
}

void train_weights_gradients(const train_weights *w, char *memory, product_gradient out[LAYER_MATRICES])
{
    for (size_t i = 0; i < LAYER_MATRICES; i++) {
        const layer_matrix_shape s = shape_of(w, 0, i);
        product_gradient_create(&out[i], w->products, s.inputs, s.outputs, memory);
        memory += product_gradient_bytes(w->products, s.inputs, s.outputs);
    }
}
