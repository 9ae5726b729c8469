#include "model/encoder_block.h"

#include "model/layer_norm.h"
#include "model/linear.h"

static size_t number_of(const encoder_tape *t, const layer_tape *l)
{
    return (size_t)(l - t->layers);
}

static layer_matrix_shape shape_of(const encoder_tape *t, const layer_tape *l, layer_matrix which)
{
    return layer_matrix_shape_of(&t->plan, &t->plan.layers[number_of(t, l)], which);
}

void block_multiply(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, size_t n,
                    const float *x, float *y)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (t->weights != NULL)
        products_forward(train_weights_products(t->weights), train_weights_at(t->weights, number_of(t, l), which), n, x,
                         w + s.bias, y, t->space);
    else
        linear_forward(t->plan.g, t->plan.k, n, s.inputs, s.outputs, x, w + s.weight, w + s.bias, y);
}

void block_input_backward(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, size_t n,
                          const float *dy, bool add, float *dx)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (t->weights != NULL)
        products_backward_input(train_weights_products(t->weights),
                                train_weights_at(t->weights, number_of(t, l), which), n, dy, add, dx, t->space);
    else
        linear_backward_input(t->plan.g, n, s.inputs, s.outputs, w + s.weight, dy, add ? 1 : 0, dx);
}

void block_weight_backward(encoder_tape *t, const layer_tape *l, layer_matrix which, size_t n, const float *x,
                           const float *dy, float *dw)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (number_of(t, l) < t->frozen_layers)
        return;
    if (t->weights == NULL) {
        linear_backward_weight(t->plan.g, t->plan.k, n, s.inputs, s.outputs, x, dy, dw + s.weight, dw + s.bias);
        return;
    }
    product_gradient_add(&t->gradients[which], train_weights_products(t->weights), n, x, dy, dw + s.weight, dw + s.bias,
                         t->space);
}

void block_weights_finish(encoder_tape *t, const layer_tape *l, float *dw)
{
    for (layer_matrix which = 0; t->weights != NULL && which < LAYER_MATRICES; which++)
        product_gradient_finish(&t->gradients[which], train_weights_products(t->weights),
                                dw + shape_of(t, l, which).weight);
}

float *block_kept_at(const kept_rows *kept, size_t first, float *room)
{
    return kept->floats != NULL ? kept->floats + first : room;
}

void block_keep(const encoder_tape *t, const kept_rows *kept, size_t first, size_t count, const float *room)
{
    const size_t half = (count + 1) / 2;
    if (kept->floats != NULL)
        return;
    uint32_t *to = kept->halves + first / 2;
    t->plan.k->pair_rows(room, room + half, count - half, to);
    if (count % 2 == 1)
        t->plan.k->pair_rows(room + half - 1, NULL, 1, to + half - 1);
}

float *block_keep_again(const encoder_tape *t, const kept_rows *kept, size_t first, size_t count, float *room)
{
    const size_t half = (count + 1) / 2;
    if (kept->floats != NULL)
        return kept->floats + first;
    const uint32_t *from = kept->halves + first / 2;
    t->plan.k->part_rows(from, count - half, room, room + half);
    if (count % 2 == 1)
        t->plan.k->part_rows(from + half - 1, 1, room + half - 1, NULL);
    return room;
}

block_norm block_norm1(const layer_params *at, const layer_tape *l)
{
    return (block_norm){at->norm1_weight, at->norm1_bias, &l->xhat1, l->rstd1};
}

block_norm block_norm2(const layer_params *at, const layer_tape *l)
{
    return (block_norm){at->norm2_weight, at->norm2_bias, &l->xhat2, l->rstd2};
}

void block_norm_forward(const encoder_tape *t, const float *w, block_norm n, block b, const float *x,
                        const float *residual, float *y)
{
    const size_t H = t->plan.config->hidden;
    layer_norm_forward(t->plan.k, b.count, H, x, residual, w + n.weight, w + n.bias, t->plan.config->layer_norm_eps,
                       block_kept_at(n.xhat, b.first * H, t->xhat_block), n.rstd + b.first, y);
    block_keep(t, n.xhat, b.first * H, b.count * H, t->xhat_block);
}

void block_norm_backward(const encoder_tape *t, const float *w, block_norm n, block b, float *d, float *dw)
{
    const size_t H = t->plan.config->hidden;
    const float *xhat = block_keep_again(t, n.xhat, b.first * H, b.count * H, t->xhat_block);
    layer_norm_backward(t->plan.k, b.count, H, xhat, n.rstd + b.first, w + n.weight, d, dw + n.weight, dw + n.bias);
}

void block_norm_again(const encoder_tape *t, const float *w, block_norm n, block b, float *y)
{
    const size_t H = t->plan.config->hidden;
    const float *xhat = block_keep_again(t, n.xhat, b.first * H, b.count * H, t->xhat_block);
    layer_norm_again(t->plan.k, b.count, H, xhat, w + n.weight, w + n.bias, y);
}
