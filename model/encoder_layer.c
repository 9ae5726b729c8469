#include "model/encoder_layer.h"

#include "model/attention_products.h"
#include "model/encoder_block.h"

#include <string.h>

/* --- forward */

/* From here on t->qkv is the layer's, empty. */
static void take_qkv(encoder_tape *t, const layer_tape *l)
{
    if (l->qkv.floats != NULL)
        t->qkv = l->qkv.floats;
}

/* Turns the layer's queries and keys where there are rotary positions, and keeps them. */
static void finish_qkv(const encoder_tape *t, const layer_params *at, const layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t H = p->config->hidden;
    const rotary_table *rotary = encoder_layer_rotary(p, at);
    size_t first = 0;
    for (size_t b = 0; rotary != NULL && b < t->size.texts; b++) {
        rotary_forward(p->k, rotary, p->config->heads, t->lengths[b], t->qkv + first * 3 * H);
        first += t->lengths[b];
    }
    block_keep(t, &l->qkv, 0, t->size.tokens * 3 * H, t->qkv);
}

/* context[T, H] from the layer's queries, keys and values. */
static void attend(encoder_tape *t, const layer_params *at, const layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t H = p->config->hidden;
    const attention_shape shape = encoder_layer_attention(p, at);
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        const float *qkv = t->qkv + first * 3 * H;
        float *context = t->context + first * H;
        const products *rounded = encoder_tape_attention(t, t->lengths[b]);
        if (rounded != NULL)
            attention_products_forward(rounded, p->k, &shape, qkv, t->lengths[b], &l->drop_p, first, context,
                                       t->attention);
        else
            attention_forward(p->k, &shape, qkv, t->lengths[b], &l->drop_p, first, context, t->attention);
        first += t->lengths[b];
    }
}

/* y[n, H] = what attention gave for the block, through its matrix. */
static void attention_out(const encoder_tape *t, const float *w, const layer_tape *l, block b, float *y)
{
    const size_t H = t->plan.config->hidden;
    block_multiply(t, w, l, MATRIX_OUT, b.count, block_rows(b, t->context, H), y);
    dropout_rows(t->plan.k, &l->drop_out, b.first, y, b.count, H);
}

/* The first half of the feed-forward layer of x[n, H], which is kept. */
static float *feed_up(const encoder_tape *t, const float *w, const layer_tape *l, block b, const float *x)
{
    const size_t U = encoder_up_columns(t->plan.config);
    float *up = block_kept_at(&l->up, b.first * U, t->up);
    block_multiply(t, w, l, MATRIX_UP, b.count, x, up);
    block_keep(t, &l->up, b.first * U, b.count * U, up);
    return up;
}

/* y[n, H] = the feed-forward layer of x[n, H]. */
static void feed(const encoder_tape *t, const float *w, const layer_tape *l, block b, const float *x, float *y)
{
    const encoder_plan *p = &t->plan;
    const size_t n = b.count, H = p->config->hidden, F = p->config->intermediate, U = encoder_up_columns(p->config);
    const float *up = feed_up(t, w, l, b, x);
    if (p->config->gated) {
        memcpy(t->wide, up, n * U * sizeof *t->wide);
        encoder_gate(p, p->activate, n, t->wide);
    } else {
        p->activate(up, n * F, t->wide);
    }
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, t->wide, n, F);
    block_multiply(t, w, l, MATRIX_DOWN, n, t->wide, y);
    if (!p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, y, n, H);
}

/* Whether the layer's queries, keys and values are computed from what a LayerNorm of its own gives. */
static bool norms_input(const encoder_tape *t, const layer_params *at)
{
    return t->plan.config->prenorm && at->norm1_weight != PARAM_NOWHERE;
}

/* From context to the layer's output, where LayerNorms stand behind the sums. */
static void post_norm_rest(const encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l, block b)
{
    float *x = block_rows(b, t->x, t->plan.config->hidden);
    attention_out(t, w, l, b, t->y);
    block_norm_forward(t, w, block_norm1(at, l), b, t->y, x, t->y);
    feed(t, w, l, b, t->y, x);
    block_norm_forward(t, w, block_norm2(at, l), b, x, t->y, x);
}

/* The same where they stand before. */
static void pre_norm_rest(const encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l, block b)
{
    const size_t H = t->plan.config->hidden;
    float *x = block_rows(b, t->x, H);
    attention_out(t, w, l, b, t->y);
    t->plan.k->axpy(1, t->y, x, b.count * H);
    block_norm_forward(t, w, block_norm2(at, l), b, x, NULL, t->d);
    feed(t, w, l, b, t->d, t->y);
    t->plan.k->axpy(1, t->y, x, b.count * H);
}

void layer_forward(encoder_tape *t, const float *w, size_t i)
{
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    const size_t T = t->size.tokens, H = t->plan.config->hidden;
    take_qkv(t, l);
    for (size_t first = 0; first < T; first += TAPE_BLOCK) {
        const block b = block_next(t, first);
        const float *input = block_rows(b, t->x, H);
        if (norms_input(t, at)) {
            block_norm_forward(t, w, block_norm1(at, l), b, input, NULL, t->y);
            input = t->y;
        }
        block_multiply(t, w, l, MATRIX_QKV, b.count, input, block_rows(b, t->qkv, 3 * H));
    }
    finish_qkv(t, at, l);
    attend(t, at, l);
    for (size_t first = 0; first < T; first += TAPE_BLOCK)
        (t->plan.config->prenorm ? pre_norm_rest : post_norm_rest)(t, w, at, l, block_next(t, first));
}

/* --- forward again, from an outline */

/* y[n, H] = the block of what layer i read, which is the output of the one before or of the embedding
 * (where layers normalise what they read, only for the first). */
static void input_again(const encoder_tape *t, const float *w, size_t i, block b)
{
    const encoder_plan *p = &t->plan;
    if (i > 0) {
        block_norm_again(t, w, block_norm2(&p->layers[i - 1], &t->layers[i - 1]), b, t->y);
        return;
    }
    const kept_rows xhat = {.floats = t->xhat};
    block_norm_again(t, w, (block_norm){p->norm_weight, p->norm_bias, &xhat, t->rstd}, b, t->y);
    dropout_rows(p->k, &t->drop_embedding, b.first, t->y, b.count, p->config->hidden);
}

/* y[n, H] = what the layer's queries, keys and values are computed from. */
static void qkv_input_again(const encoder_tape *t, const float *w, size_t i, block b)
{
    const layer_params *at = &t->plan.layers[i];
    if (norms_input(t, at))
        block_norm_again(t, w, block_norm1(at, &t->layers[i]), b, t->y);
    else
        input_again(t, w, i, b);
}

void layer_again(encoder_tape *t, const float *w, size_t i)
{
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    const size_t H = t->plan.config->hidden;
    const bool prenorm = t->plan.config->prenorm;
    take_qkv(t, l);
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = block_next(t, first);
        qkv_input_again(t, w, i, b);
        block_multiply(t, w, l, MATRIX_QKV, b.count, t->y, block_rows(b, t->qkv, 3 * H));
    }
    finish_qkv(t, at, l);
    if (!prenorm)
        attend(t, at, l);
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = block_next(t, first);
        if (prenorm) {
            block_norm_again(t, w, block_norm2(at, l), b, t->d);
        } else {
            input_again(t, w, i, b);
            attention_out(t, w, l, b, t->d);
            block_norm_forward(t, w, block_norm1(at, l), b, t->d, t->y, t->d);
        }
        feed_up(t, w, l, b, t->d);
    }
}

/* --- backward */

/* From u[n, 2F] and d[n, F] = the first half of t->wide, the gradient of f(u[, F]) * u[, F ..),
 * to that product in u's first half and u's gradient in t->wide[n, 2F]. */
static void gate_backward(const encoder_tape *t, size_t n, float *u)
{
    const encoder_plan *p = &t->plan;
    const size_t F = p->config->intermediate;
    for (size_t r = n; r-- > 0;) { /* backwards: what is written lies behind all that is still to be read */
        float *row = u + r * 2 * F, *d = t->wide + r * 2 * F;
        memmove(d, t->wide + r * F, F * sizeof *d);
        memcpy(d + F, d, F * sizeof *d);
        p->k->times(row + F, d, F);
        p->activate_backward(row, d, F);
        p->k->times(row, d + F, F);
    }
    for (size_t r = 0; r < n; r++) {
        float *product = u + r * F;
        memmove(product, u + r * 2 * F, F * sizeof *product);
        p->k->times(u + r * 2 * F + F, product, F);
    }
}

/* From d, the gradient of the feed-forward layer's output, to that of its input x[n, H],
 * which is added to dx, or overwrites it. */
static void feed_backward(encoder_tape *t, const float *w, const layer_tape *l, block b, const float *x, bool add,
                          float *dx, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t n = b.count, F = p->config->intermediate;
    float *up =
        block_keep_again(t, &l->up, b.first * encoder_up_columns(p->config), n * encoder_up_columns(p->config), t->up);
    block_input_backward(t, w, l, MATRIX_DOWN, n, t->d, false, t->wide);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, t->wide, n, F);
    if (p->config->gated)
        gate_backward(t, n, up);
    else
        p->activate_backward(up, t->wide, n * F);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, up, n, F);
    block_weight_backward(t, l, MATRIX_DOWN, n, up, t->d, dw);
    block_weight_backward(t, l, MATRIX_UP, n, x, t->wide, dw);
    block_input_backward(t, w, l, MATRIX_UP, n, t->wide, add, dx);
}

/* d[n, H], of what attention's matrix gave, from the gradient behind its dropout. */
static void out_gradient(const encoder_tape *t, const layer_tape *l, block b)
{
    const size_t H = t->plan.config->hidden;
    memcpy(t->d, block_rows(b, t->dx, H), b.count * H * sizeof *t->d);
    dropout_rows(t->plan.k, &l->drop_out, b.first, t->d, b.count, H);
}

/* From dx, the gradient of what attention's matrix gave, to that of what it read, in t->context. */
static void out_input_backward(const encoder_tape *t, const float *w, const layer_tape *l, block b)
{
    out_gradient(t, l, b);
    block_input_backward(t, w, l, MATRIX_OUT, b.count, t->d, false, block_rows(b, t->context, t->plan.config->hidden));
}

/* Of that matrix: only attend_backward computes again what it read. Until then dx stays as it is. */
static void out_weight_backward(encoder_tape *t, const layer_tape *l, block b, float *dw)
{
    out_gradient(t, l, b);
    block_weight_backward(t, l, MATRIX_OUT, b.count, block_rows(b, t->context, t->plan.config->hidden), t->d, dw);
}

/* From the gradient of attention's output in t->context to that of queries, keys and values in t->qkv, and
 * to the output itself. */
static void attend_backward(encoder_tape *t, const layer_params *at, const layer_tape *l, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t H = p->config->hidden;
    t->qkv = block_keep_again(t, &l->qkv, 0, t->size.tokens * 3 * H, t->qkv);
    const attention_shape shape = encoder_layer_attention(p, at);
    const rotary_table *rotary = encoder_layer_rotary(p, at);
    float *d_bias = p->buckets != NULL && !t->frozen_embeddings ? dw + p->relative_bias : NULL;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        float *qkv = t->qkv + first * 3 * H, *context = t->context + first * H;
        const products *rounded = encoder_tape_attention(t, t->lengths[b]);
        if (rounded != NULL)
            attention_products_backward(rounded, p->k, &shape, qkv, context, t->lengths[b], &l->drop_p, first, qkv,
                                        d_bias, t->attention);
        else
            attention_backward(p->k, &shape, qkv, context, t->lengths[b], &l->drop_p, first, qkv, d_bias, t->attention);
        if (rotary != NULL)
            rotary_backward(p->k, rotary, shape.heads, t->lengths[b], qkv);
        first += t->lengths[b];
    }
}

/* From the gradient of queries, keys and values: adds to dx that of what the layer reads. */
static void qkv_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const size_t H = t->plan.config->hidden;
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = block_next(t, first);
        const float *d = block_rows(b, t->qkv, 3 * H);
        float *dx = block_rows(b, t->dx, H);
        out_weight_backward(t, l, b, dw);
        qkv_input_again(t, w, i, b);
        block_weight_backward(t, l, MATRIX_QKV, b.count, t->y, d, dw);
        if (norms_input(t, at)) {
            block_input_backward(t, w, l, MATRIX_QKV, b.count, d, false, t->spare);
            block_norm_backward(t, w, block_norm1(at, l), b, t->spare, dw);
            t->plan.k->axpy(1, t->spare, dx, b.count * H);
        } else if (i > encoder_tape_lowest(t) || !t->frozen_embeddings) {
            block_input_backward(t, w, l, MATRIX_QKV, b.count, d, true, dx);
        }
    }
}

/* From dx, the gradient of the layer's output, to that of what attention's matrix gave, where LayerNorms stand
 * behind the sums. */
static void post_norm_back(encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l, block b,
                           float *dw)
{
    const size_t H = t->plan.config->hidden;
    float *dx = block_rows(b, t->dx, H);
    block_norm_backward(t, w, block_norm2(at, l), b, dx, dw);
    memcpy(t->d, dx, b.count * H * sizeof *dx);
    dropout_rows(t->plan.k, &l->drop_down, b.first, t->d, b.count, H);
    block_norm_again(t, w, block_norm1(at, l), b, t->y);
    feed_backward(t, w, l, b, t->y, true, dx, dw);
    block_norm_backward(t, w, block_norm1(at, l), b, dx, dw);
}

/* The same where they stand before. */
static void pre_norm_back(encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l, block b,
                          float *dw)
{
    const size_t H = t->plan.config->hidden;
    float *dx = block_rows(b, t->dx, H);
    memcpy(t->d, dx, b.count * H * sizeof *dx);
    block_norm_again(t, w, block_norm2(at, l), b, t->y);
    feed_backward(t, w, l, b, t->y, false, t->spare, dw);
    block_norm_backward(t, w, block_norm2(at, l), b, t->spare, dw);
    t->plan.k->axpy(1, t->spare, dx, b.count * H);
}

void layer_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = block_next(t, first);
        (t->plan.config->prenorm ? pre_norm_back : post_norm_back)(t, w, at, l, b, dw);
        out_input_backward(t, w, l, b);
    }
    attend_backward(t, at, l, dw);
    qkv_backward(t, w, i, dw);
    block_weights_finish(t, l, dw);
}
