/* The passes of training: forward with everything kept that backward needs, and backward. */
#include "model/encoder_tape.h"
#include "model/layer_norm.h"
#include "model/linear.h"
#include "model/pooling.h"

#include <math.h>
#include <string.h>

/* --- products with a layer's matrices */

static size_t number_of(const encoder_tape *t, const layer_tape *l)
{
    return (size_t)(l - t->layers);
}

static layer_matrix_shape shape_of(const encoder_tape *t, const layer_tape *l, layer_matrix which)
{
    return layer_matrix_shape_of(&t->plan, &t->plan.layers[number_of(t, l)], which);
}

/* y[T, out] = x[T, in] W^T + bias, for one of the layer's matrices W[out, in]. */
static void multiply(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, const float *x,
                     float *y)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (t->weights != NULL)
        products_forward(train_weights_products(t->weights), train_weights_at(t->weights, number_of(t, l), which),
                         t->size.tokens, x, w + s.bias, y, t->space);
    else
        linear_forward(t->plan.g, t->plan.k, t->size.tokens, s.inputs, s.outputs, x, w + s.weight, w + s.bias, y);
}

/* dx[T, in] = dy[T, out] W, or dx += that. */
static void input_backward(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which,
                           const float *dy, bool add, float *dx)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (t->weights != NULL)
        products_backward_input(train_weights_products(t->weights),
                                train_weights_at(t->weights, number_of(t, l), which), t->size.tokens, dy, add, dx,
                                t->space);
    else
        linear_backward_input(t->plan.g, t->size.tokens, s.inputs, s.outputs, w + s.weight, dy, add ? 1 : 0, dx);
}

/* The gradients of W and its bias, from its input x[T, in] and the gradient dy[T, out] of its output. */
static void weight_backward(const encoder_tape *t, const layer_tape *l, layer_matrix which, const float *x,
                            const float *dy, float *dw)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (number_of(t, l) < t->frozen_layers)
        return;
    if (t->weights != NULL)
        products_backward_weight(train_weights_products(t->weights), t->size.tokens, s.inputs, s.outputs, x, dy,
                                 dw + s.weight, dw + s.bias, t->space);
    else
        linear_backward_weight(t->plan.g, t->plan.k, t->size.tokens, s.inputs, s.outputs, x, dy, dw + s.weight,
                               dw + s.bias);
}

/* --- forward */

static sem_status set_dropout(encoder_tape *t, const dropout *drop, sem_error *err)
{
    static const dropout off;
    if (drop == NULL)
        drop = &off;
    if (!(drop->hidden >= 0 && drop->hidden < 1 && drop->attention >= 0 && drop->attention < 1))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "dropout is %f and %f (attention), expected 0 to below 1",
                        (double)drop->hidden, (double)drop->attention);
    /* ModernBERT drops the attention's output as it drops probabilities. */
    const float out = t->plan.config->prenorm ? drop->attention : t->plan.drops_attention_output ? drop->hidden : 0;
    t->drop_embedding = dropout_make_site(drop->hidden, drop->seed, 0);
    for (size_t i = 0; i < t->plan.config->layers; i++) {
        layer_tape *l = &t->layers[i];
        l->drop_p = dropout_make_site(drop->attention, drop->seed, 3 * i + 1);
        l->drop_out = dropout_make_site(out, drop->seed, 3 * i + 2);
        l->drop_down = dropout_make_site(drop->hidden, drop->seed, 3 * i + 3);
    }
    return SEM_OK;
}

static void embed(encoder_tape *t, const float *w)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        embedding_forward(p->k, &p->embedding, t->ids + first, t->lengths[b], w, t->x + first * H);
        first += t->lengths[b];
    }
    layer_norm_forward(p->k, T, H, t->x, NULL, w + p->norm_weight, w + p->norm_bias, p->config->layer_norm_eps, t->xhat,
                       t->rstd, t->x);
    dropout_rows(p->k, &t->drop_embedding, t->x, T, H);
}

static void attend(encoder_tape *t, const layer_params *at, const layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t H = p->config->hidden;
    const attention_shape shape = encoder_layer_attention(p, at);
    const rotary_table *rotary = encoder_layer_rotary(p, at);
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        if (rotary != NULL)
            rotary_forward(p->k, rotary, shape.heads, t->lengths[b], l->qkv + first * 3 * H);
        attention_forward(p->k, &shape, l->qkv + first * 3 * H, t->lengths[b], &l->drop_p, first,
                          l->context + first * H, t->attention);
        first += t->lengths[b];
    }
}

/* y[T, H] = the attention of x[T, H]. */
static void attention_part(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l, const float *x)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    multiply(t, w, l, MATRIX_QKV, x, l->qkv);
    attend(t, at, l);
    multiply(t, w, l, MATRIX_OUT, l->context, t->y);
    dropout_rows(p->k, &l->drop_out, t->y, T, H);
}

/* y[T, H] = the feed-forward layer of x[T, H]; y may be x. */
static void feed_part(encoder_tape *t, const float *w, layer_tape *l, const float *x, float *y)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden, F = p->config->intermediate;
    const size_t U = encoder_up_columns(p->config);
    multiply(t, w, l, MATRIX_UP, x, l->up);
    if (p->config->gated) {
        memcpy(t->wide, l->up, T * U * sizeof *t->wide);
        encoder_gate(p, p->activate, T, t->wide);
    } else {
        p->activate(l->up, T * F, t->wide);
    }
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, t->wide, T, F);
    multiply(t, w, l, MATRIX_DOWN, t->wide, y);
    if (!p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, y, T, H);
}

static void post_norm_forward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    const float eps = p->config->layer_norm_eps;

    attention_part(t, w, at, l, t->x);
    layer_norm_forward(p->k, T, H, t->y, t->x, w + at->norm1_weight, w + at->norm1_bias, eps, l->xhat1, l->rstd1, t->y);
    feed_part(t, w, l, t->y, t->x);
    layer_norm_forward(p->k, T, H, t->x, t->y, w + at->norm2_weight, w + at->norm2_bias, eps, l->xhat2, l->rstd2, t->x);
}

static void pre_norm_forward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    const float eps = p->config->layer_norm_eps, *input = t->x;

    if (at->norm1_weight != PARAM_NOWHERE) {
        layer_norm_forward(p->k, T, H, t->x, NULL, w + at->norm1_weight, w + at->norm1_bias, eps, l->xhat1, l->rstd1,
                           t->d);
        input = t->d;
    }
    attention_part(t, w, at, l, input);
    p->k->axpy(1, t->y, t->x, T * H);
    layer_norm_forward(p->k, T, H, t->x, NULL, w + at->norm2_weight, w + at->norm2_bias, eps, l->xhat2, l->rstd2, t->d);
    feed_part(t, w, l, t->d, t->y);
    p->k->axpy(1, t->y, t->x, T * H);
}

static void layers_forward(encoder_tape *t, const float *w)
{
    const encoder_plan *p = &t->plan;
    const model_config *c = p->config;
    for (size_t i = 0; i < c->layers; i++)
        (c->prenorm ? pre_norm_forward : post_norm_forward)(t, w, &p->layers[i], &t->layers[i]);
    if (c->prenorm)
        layer_norm_forward(p->k, t->size.tokens, c->hidden, t->x, NULL, w + p->last_norm_weight, w + p->last_norm_bias,
                           c->layer_norm_eps, t->last_xhat, t->last_rstd, t->x);
}

static sem_status pool(encoder_tape *t, const float *w, float *out, sem_error *err)
{
    const model_config *c = t->plan.config;
    const dense_head *head = &t->plan.head;
    const float *x = t->x;
    for (size_t b = 0; b < t->size.texts; b++) {
        float *y = t->out + b * c->dim;
        float *kept = t->head + b * dense_head_space(head);
        pooling_forward(t->plan.k, c->pooling, c->hidden, x, t->lengths[b], dense_head_input(head, kept, y));
        dense_head_forward(t->plan.k, head, w, kept, y);
        t->lengths_out[b] = pooling_normalize(t->plan.k, y, c->dim);
        if (!(t->lengths_out[b] > 0 && t->lengths_out[b] < INFINITY))
            return encoder_fail_length(b, t->lengths_out[b], err);
        x += t->lengths[b] * c->hidden;
    }
    memcpy(out, t->out, t->size.texts * c->dim * sizeof *out);
    return SEM_OK;
}

sem_status encoder_train_forward(encoder_tape *t, const float *params, const int32_t *ids, const uint32_t *lengths,
                                 size_t texts, const dropout *drop, float *out, sem_error *err)
{
    t->ready = false;
    sem_status status = encoder_batch_check(&t->plan, ids, lengths, texts, &t->size, err);
    if (status == SEM_OK && texts == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "a training batch has no text, expected at least one");
    if (status == SEM_OK)
        status = encoder_tape_reserve(t, ids, lengths, err);
    if (status == SEM_OK)
        status = set_dropout(t, drop, err);
    if (status != SEM_OK)
        return status;
    encoder_plan_bind(&t->plan, params);
    embed(t, params);
    layers_forward(t, params);
    status = pool(t, params, out, err);
    t->ready = status == SEM_OK;
    return status;
}

/* --- backward */

/* dx[T, H] from the gradient of the embeddings; x still holds the last layer's output. */
static void pool_backward(encoder_tape *t, const float *w, const float *d_out, float *dw)
{
    const model_config *c = t->plan.config;
    const dense_head *head = &t->plan.head;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        float *d = t->d_embedding;
        memcpy(d, d_out + b * c->dim, c->dim * sizeof *d);
        pooling_normalize_backward(t->plan.k, t->out + b * c->dim, t->lengths_out[b], d, c->dim);
        dense_head_backward(t->plan.k, head, w, t->head + b * dense_head_space(head), d,
                            d + encoder_gradient_width(&t->plan), dw);
        pooling_backward(t->plan.k, c->pooling, c->hidden, t->x + first * c->hidden, t->lengths[b], d,
                         t->dx + first * c->hidden);
        first += t->lengths[b];
    }
}

/* From u[T, 2F] = l->up and d[T, F] = the first half of t->wide, the gradient of
 * f(u[, F]) * u[, F ..), to that product in l->up[T, F] and u's gradient in t->wide[T, 2F]. */
static void gate_backward(encoder_tape *t, layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, F = p->config->intermediate;
    for (size_t r = T; r-- > 0;) { /* backwards: what is written lies behind all that is still to be read */
        float *u = l->up + r * 2 * F, *d = t->wide + r * 2 * F;
        memmove(d, t->wide + r * F, F * sizeof *d);
        memcpy(d + F, d, F * sizeof *d);
        p->k->times(u + F, d, F);
        p->activate_backward(u, d, F);
        p->k->times(u, d + F, F);
    }
    for (size_t r = 0; r < T; r++) {
        float *product = l->up + r * F;
        memmove(product, l->up + r * 2 * F, F * sizeof *product);
        p->k->times(l->up + r * 2 * F + F, product, F);
    }
}

/* From d, the gradient of the feed-forward layer's output, to that of its input x,
 * which is added to dx, or overwrites it. */
static void feed_backward(encoder_tape *t, const float *w, layer_tape *l, const float *x, bool add, float *dx,
                          float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, F = p->config->intermediate;
    input_backward(t, w, l, MATRIX_DOWN, t->d, false, t->wide);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, t->wide, T, F);
    if (p->config->gated)
        gate_backward(t, l);
    else
        p->activate_backward(l->up, t->wide, T * F);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, l->up, T, F);
    weight_backward(t, l, MATRIX_DOWN, l->up, t->d, dw);
    weight_backward(t, l, MATRIX_UP, x, t->wide, dw);
    input_backward(t, w, l, MATRIX_UP, t->wide, add, dx);
}

/* From d, the gradient of the attention's output, to that of its queries, keys and
 * values in t->wide[T, 3H]. */
static void qkv_backward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    const attention_shape shape = encoder_layer_attention(p, at);
    const rotary_table *rotary = encoder_layer_rotary(p, at);
    dropout_rows(p->k, &l->drop_out, t->d, T, H);
    weight_backward(t, l, MATRIX_OUT, l->context, t->d, dw);
    input_backward(t, w, l, MATRIX_OUT, t->d, false, l->context);
    float *d_bias = p->buckets != NULL && !t->frozen_embeddings ? dw + p->relative_bias : NULL;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        float *d_qkv = t->wide + first * 3 * H;
        attention_backward(p->k, &shape, l->qkv + first * 3 * H, l->context + first * H, t->lengths[b], &l->drop_p,
                           first, d_qkv, d_bias, t->attention);
        if (rotary != NULL)
            rotary_backward(p->k, rotary, shape.heads, t->lengths[b], d_qkv);
        first += t->lengths[b];
    }
}

/* x = the input of layer i, which is the output of the one before or of the embedding
 * (where layers normalise what they read, only for the first). */
static void input_again(encoder_tape *t, const float *w, size_t i)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    if (i > 0) {
        const layer_params *before = &p->layers[i - 1];
        layer_norm_again(p->k, T, H, t->layers[i - 1].xhat2, w + before->norm2_weight, w + before->norm2_bias, t->x);
        return;
    }
    layer_norm_again(p->k, T, H, t->xhat, w + p->norm_weight, w + p->norm_bias, t->x);
    dropout_rows(p->k, &t->drop_embedding, t->x, T, H);
}

/* dx, the gradient of the layer's output, becomes that of its input. */
static void post_norm_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const encoder_plan *p = &t->plan;
    const layer_params *at = &p->layers[i];
    layer_tape *l = &t->layers[i];
    const size_t T = t->size.tokens, H = p->config->hidden;

    layer_norm_backward(p->k, T, H, l->xhat2, l->rstd2, w + at->norm2_weight, t->dx, dw + at->norm2_weight,
                        dw + at->norm2_bias);
    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    dropout_rows(p->k, &l->drop_down, t->d, T, H);
    layer_norm_again(p->k, T, H, l->xhat1, w + at->norm1_weight, w + at->norm1_bias, t->y);
    feed_backward(t, w, l, t->y, true, t->dx, dw);

    layer_norm_backward(p->k, T, H, l->xhat1, l->rstd1, w + at->norm1_weight, t->dx, dw + at->norm1_weight,
                        dw + at->norm1_bias);
    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    qkv_backward(t, w, at, l, dw);
    input_again(t, w, i);
    weight_backward(t, l, MATRIX_QKV, t->x, t->wide, dw);
    if (i > encoder_tape_lowest(t) || !t->frozen_embeddings)
        input_backward(t, w, l, MATRIX_QKV, t->wide, true, t->dx);
}

/* The same where the layer normalises what it reads. */
static void pre_norm_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const encoder_plan *p = &t->plan;
    const layer_params *at = &p->layers[i];
    layer_tape *l = &t->layers[i];
    const size_t T = t->size.tokens, H = p->config->hidden;

    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    layer_norm_again(p->k, T, H, l->xhat2, w + at->norm2_weight, w + at->norm2_bias, t->y);
    feed_backward(t, w, l, t->y, false, t->x, dw);
    layer_norm_backward(p->k, T, H, l->xhat2, l->rstd2, w + at->norm2_weight, t->x, dw + at->norm2_weight,
                        dw + at->norm2_bias);
    p->k->axpy(1, t->x, t->dx, T * H);

    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    qkv_backward(t, w, at, l, dw);
    if (at->norm1_weight == PARAM_NOWHERE) { /* the first layer, which reads the embedding */
        input_again(t, w, i);
        weight_backward(t, l, MATRIX_QKV, t->x, t->wide, dw);
        if (!t->frozen_embeddings)
            input_backward(t, w, l, MATRIX_QKV, t->wide, true, t->dx);
        return;
    }
    layer_norm_again(p->k, T, H, l->xhat1, w + at->norm1_weight, w + at->norm1_bias, t->y);
    weight_backward(t, l, MATRIX_QKV, t->y, t->wide, dw);
    input_backward(t, w, l, MATRIX_QKV, t->wide, false, t->x);
    layer_norm_backward(p->k, T, H, l->xhat1, l->rstd1, w + at->norm1_weight, t->x, dw + at->norm1_weight,
                        dw + at->norm1_bias);
    p->k->axpy(1, t->x, t->dx, T * H);
}

static void layers_backward(encoder_tape *t, const float *w, float *dw)
{
    const encoder_plan *p = &t->plan;
    const model_config *c = p->config;
    if (c->prenorm)
        layer_norm_backward(p->k, t->size.tokens, c->hidden, t->last_xhat, t->last_rstd, w + p->last_norm_weight, t->dx,
                            dw + p->last_norm_weight, dw + p->last_norm_bias);
    for (size_t i = c->layers; i-- > encoder_tape_lowest(t);)
        (c->prenorm ? pre_norm_backward : post_norm_backward)(t, w, i, dw);
}

static void embed_backward(encoder_tape *t, const float *w, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    dropout_rows(p->k, &t->drop_embedding, t->dx, T, H);
    layer_norm_backward(p->k, T, H, t->xhat, t->rstd, w + p->norm_weight, t->dx, dw + p->norm_weight,
                        dw + p->norm_bias);
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        embedding_backward(p->k, &p->embedding, t->ids + first, t->lengths[b], t->dx + first * H, dw);
        first += t->lengths[b];
    }
}

/* A LayerNorm's gradients come with that of its input: frozen layers that were
 * passed have some. */
static void clear_frozen_norms(const encoder_tape *t, float *dw)
{
    const size_t bytes = t->plan.config->hidden * sizeof *dw;
    for (size_t i = encoder_tape_lowest(t); i < t->frozen_layers; i++) {
        const layer_params *at = &t->plan.layers[i];
        if (at->norm1_weight != PARAM_NOWHERE) {
            memset(dw + at->norm1_weight, 0, bytes);
            memset(dw + at->norm1_bias, 0, bytes);
        }
        memset(dw + at->norm2_weight, 0, bytes);
        memset(dw + at->norm2_bias, 0, bytes);
    }
}

sem_status encoder_train_backward(encoder_tape *t, const float *params, const float *d_out, float *grads,
                                  sem_error *err)
{
    if (!t->ready)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "a backward pass needs a forward pass of its own before it");
    t->ready = false;
    encoder_plan_bind(&t->plan, params);
    pool_backward(t, params, d_out, grads);
    layers_backward(t, params, grads);
    if (!t->frozen_embeddings)
        embed_backward(t, params, grads);
    clear_frozen_norms(t, grads);
    /* Gradients of biases that the model does not have were added here. */
    memset(grads + t->plan.zeros, 0, t->plan.zeros_count * sizeof *grads);
    return SEM_OK;
}
