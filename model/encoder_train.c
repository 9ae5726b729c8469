/* The passes of training: forward with everything kept that backward needs, and backward. */
#include "model/encoder_tape.h"
#include "model/layer_norm.h"
#include "model/linear.h"
#include "model/pooling.h"

#include <math.h>
#include <string.h>

/* --- blocks */

/* Tokens that follow each other, at most TAPE_BLOCK. */
typedef struct block {
    size_t first, count;
} block;

static block next_block(const encoder_tape *t, size_t first)
{
    const size_t rest = t->size.tokens - first;
    return (block){first, rest < TAPE_BLOCK ? rest : TAPE_BLOCK};
}

/* Where the block's rows of width n begin. */
static float *rows_of(block b, float *x, size_t n)
{
    return x + b.first * n;
}

static size_t number_of(const encoder_tape *t, const layer_tape *l)
{
    return (size_t)(l - t->layers);
}

static layer_matrix_shape shape_of(const encoder_tape *t, const layer_tape *l, layer_matrix which)
{
    return layer_matrix_shape_of(&t->plan, &t->plan.layers[number_of(t, l)], which);
}

/* y[n, out] = x[n, in] W^T + bias, for one of the layer's matrices W[out, in]. */
static void multiply(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, size_t n,
                     const float *x, float *y)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (t->weights != NULL)
        products_forward(train_weights_products(t->weights), train_weights_at(t->weights, number_of(t, l), which), n, x,
                         w + s.bias, y, t->space);
    else
        linear_forward(t->plan.g, t->plan.k, n, s.inputs, s.outputs, x, w + s.weight, w + s.bias, y);
}

/* dx[n, in] = dy[n, out] W, or dx += that. */
static void input_backward(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, size_t n,
                           const float *dy, bool add, float *dx)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (t->weights != NULL)
        products_backward_input(train_weights_products(t->weights),
                                train_weights_at(t->weights, number_of(t, l), which), n, dy, add, dx, t->space);
    else
        linear_backward_input(t->plan.g, n, s.inputs, s.outputs, w + s.weight, dy, add ? 1 : 0, dx);
}

/* The gradients of W and its bias, from its input x[n, in] and the gradient dy[n, out] of its output. */
static void weight_backward(const encoder_tape *t, const layer_tape *l, layer_matrix which, size_t n, const float *x,
                            const float *dy, float *dw)
{
    const layer_matrix_shape s = shape_of(t, l, which);
    if (number_of(t, l) < t->frozen_layers)
        return;
    if (t->weights != NULL)
        products_backward_weight(train_weights_products(t->weights), n, s.inputs, s.outputs, x, dy, dw + s.weight,
                                 dw + s.bias, t->space);
    else
        linear_backward_weight(t->plan.g, t->plan.k, n, s.inputs, s.outputs, x, dy, dw + s.weight, dw + s.bias);
}

/* Where count values from number `first` (even) on are written and read: on the tape itself where it
 * keeps floats, else in `room`. */
static float *kept_at(const kept_rows *kept, size_t first, float *room)
{
    return kept->floats != NULL ? kept->floats + first : room;
}

/* Rounds what was written in room; keep_again widens it there. */
static void keep(const encoder_tape *t, const kept_rows *kept, size_t first, size_t count, const float *room)
{
    const size_t half = (count + 1) / 2;
    if (kept->floats != NULL)
        return;
    uint32_t *to = kept->halves + first / 2;
    t->plan.k->pair_rows(room, room + half, count - half, to);
    if (count % 2 == 1)
        t->plan.k->pair_rows(room + half - 1, NULL, 1, to + half - 1);
}

static float *keep_again(const encoder_tape *t, const kept_rows *kept, size_t first, size_t count, float *room)
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

/* A LayerNorm: where it is among the parameters and on the tape. */
typedef struct norm {
    size_t weight, bias;
    const kept_rows *xhat; /* [T, H] */
    float *rstd;           /* [T] */
} norm;

static norm norm1_of(const layer_params *at, const layer_tape *l)
{
    return (norm){at->norm1_weight, at->norm1_bias, &l->xhat1, l->rstd1};
}

static norm norm2_of(const layer_params *at, const layer_tape *l)
{
    return (norm){at->norm2_weight, at->norm2_bias, &l->xhat2, l->rstd2};
}

/* y[n, H] from a block of x (and of the residual, which may be NULL). */
static void norm_forward(const encoder_tape *t, const float *w, norm n, block b, const float *x, const float *residual,
                         float *y)
{
    const size_t H = t->plan.config->hidden;
    layer_norm_forward(t->plan.k, b.count, H, x, residual, w + n.weight, w + n.bias, t->plan.config->layer_norm_eps,
                       kept_at(n.xhat, b.first * H, t->xhat_block), n.rstd + b.first, y);
    keep(t, n.xhat, b.first * H, b.count * H, t->xhat_block);
}

/* d[n, H] from the gradient of what norm_forward gave to that of what it read. */
static void norm_backward(const encoder_tape *t, const float *w, norm n, block b, float *d, float *dw)
{
    const size_t H = t->plan.config->hidden;
    const float *xhat = keep_again(t, n.xhat, b.first * H, b.count * H, t->xhat_block);
    layer_norm_backward(t->plan.k, b.count, H, xhat, n.rstd + b.first, w + n.weight, d, dw + n.weight, dw + n.bias);
}

/* What norm_forward gave. */
static void norm_again(const encoder_tape *t, const float *w, norm n, block b, float *y)
{
    const size_t H = t->plan.config->hidden;
    const float *xhat = keep_again(t, n.xhat, b.first * H, b.count * H, t->xhat_block);
    layer_norm_again(t->plan.k, b.count, H, xhat, w + n.weight, w + n.bias, y);
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
    dropout_rows(p->k, &t->drop_embedding, 0, t->x, T, H);
}

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
    keep(t, &l->qkv, 0, t->size.tokens * 3 * H, t->qkv);
}

/* context[T, H] from the layer's queries, keys and values. */
static void attend(encoder_tape *t, const layer_params *at, const layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t H = p->config->hidden;
    const attention_shape shape = encoder_layer_attention(p, at);
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        attention_forward(p->k, &shape, t->qkv + first * 3 * H, t->lengths[b], &l->drop_p, first,
                          t->context + first * H, t->attention);
        first += t->lengths[b];
    }
}

/* y[n, H] = what attention gave for the block, through its matrix. */
static void attention_out(const encoder_tape *t, const float *w, const layer_tape *l, block b, float *y)
{
    const size_t H = t->plan.config->hidden;
    multiply(t, w, l, MATRIX_OUT, b.count, rows_of(b, t->context, H), y);
    dropout_rows(t->plan.k, &l->drop_out, b.first, y, b.count, H);
}

/* The first half of the feed-forward layer of x[n, H], which is kept. */
static float *feed_up(const encoder_tape *t, const float *w, const layer_tape *l, block b, const float *x)
{
    const size_t U = encoder_up_columns(t->plan.config);
    float *up = kept_at(&l->up, b.first * U, t->up);
    multiply(t, w, l, MATRIX_UP, b.count, x, up);
    keep(t, &l->up, b.first * U, b.count * U, up);
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
    multiply(t, w, l, MATRIX_DOWN, n, t->wide, y);
    if (!p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, y, n, H);
}

static void post_norm_forward(encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l)
{
    const size_t T = t->size.tokens, H = t->plan.config->hidden;
    take_qkv(t, l);
    for (size_t first = 0; first < T; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        multiply(t, w, l, MATRIX_QKV, b.count, rows_of(b, t->x, H), rows_of(b, t->qkv, 3 * H));
    }
    finish_qkv(t, at, l);
    attend(t, at, l);
    for (size_t first = 0; first < T; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        float *x = rows_of(b, t->x, H);
        attention_out(t, w, l, b, t->y);
        norm_forward(t, w, norm1_of(at, l), b, t->y, x, t->y);
        feed(t, w, l, b, t->y, x);
        norm_forward(t, w, norm2_of(at, l), b, x, t->y, x);
    }
}

static void pre_norm_forward(encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l)
{
    const size_t T = t->size.tokens, H = t->plan.config->hidden;
    take_qkv(t, l);
    for (size_t first = 0; first < T; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        const float *input = rows_of(b, t->x, H);
        if (at->norm1_weight != PARAM_NOWHERE) {
            norm_forward(t, w, norm1_of(at, l), b, input, NULL, t->y);
            input = t->y;
        }
        multiply(t, w, l, MATRIX_QKV, b.count, input, rows_of(b, t->qkv, 3 * H));
    }
    finish_qkv(t, at, l);
    attend(t, at, l);
    for (size_t first = 0; first < T; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        float *x = rows_of(b, t->x, H);
        attention_out(t, w, l, b, t->y);
        t->plan.k->axpy(1, t->y, x, b.count * H);
        norm_forward(t, w, norm2_of(at, l), b, x, NULL, t->d);
        feed(t, w, l, b, t->d, t->y);
        t->plan.k->axpy(1, t->y, x, b.count * H);
    }
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

/* Checks the batch, makes room for it and keeps it. */
static sem_status begin(encoder_tape *t, const int32_t *ids, const uint32_t *lengths, size_t texts, const dropout *drop,
                        sem_error *err)
{
    t->ready = t->again = false;
    sem_status status = encoder_batch_check(&t->plan, ids, lengths, texts, &t->size, err);
    if (status == SEM_OK && texts == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "a training batch has no text, expected at least one");
    if (status == SEM_OK)
        status = encoder_tape_reserve(t, ids, lengths, err);
    if (status == SEM_OK)
        status = set_dropout(t, drop, err);
    return status;
}

sem_status encoder_train_forward(encoder_tape *t, const float *params, const int32_t *ids, const uint32_t *lengths,
                                 size_t texts, const dropout *drop, float *out, sem_error *err)
{
    sem_status status = begin(t, ids, lengths, texts, drop, err);
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
static void feed_backward(const encoder_tape *t, const float *w, const layer_tape *l, block b, const float *x, bool add,
                          float *dx, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t n = b.count, F = p->config->intermediate;
    float *up =
        keep_again(t, &l->up, b.first * encoder_up_columns(p->config), n * encoder_up_columns(p->config), t->up);
    input_backward(t, w, l, MATRIX_DOWN, n, t->d, false, t->wide);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, t->wide, n, F);
    if (p->config->gated)
        gate_backward(t, n, up);
    else
        p->activate_backward(up, t->wide, n * F);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, b.first, up, n, F);
    weight_backward(t, l, MATRIX_DOWN, n, up, t->d, dw);
    weight_backward(t, l, MATRIX_UP, n, x, t->wide, dw);
    input_backward(t, w, l, MATRIX_UP, n, t->wide, add, dx);
}

/* d[n, H], of what attention's matrix gave, from the gradient behind its dropout. */
static void out_gradient(const encoder_tape *t, const layer_tape *l, block b)
{
    const size_t H = t->plan.config->hidden;
    memcpy(t->d, rows_of(b, t->dx, H), b.count * H * sizeof *t->d);
    dropout_rows(t->plan.k, &l->drop_out, b.first, t->d, b.count, H);
}

/* From dx, the gradient of what attention's matrix gave, to that of what it read, in t->context. */
static void out_input_backward(const encoder_tape *t, const float *w, const layer_tape *l, block b)
{
    out_gradient(t, l, b);
    input_backward(t, w, l, MATRIX_OUT, b.count, t->d, false, rows_of(b, t->context, t->plan.config->hidden));
}

/* Of that matrix: only attend_backward computes again what it read. Until then dx stays as it is. */
static void out_weight_backward(const encoder_tape *t, const layer_tape *l, block b, float *dw)
{
    out_gradient(t, l, b);
    weight_backward(t, l, MATRIX_OUT, b.count, rows_of(b, t->context, t->plan.config->hidden), t->d, dw);
}

/* From the gradient of attention's output in t->context to that of queries, keys and values in t->qkv, and
 * to the output itself. */
static void attend_backward(encoder_tape *t, const layer_params *at, const layer_tape *l, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t H = p->config->hidden;
    t->qkv = keep_again(t, &l->qkv, 0, t->size.tokens * 3 * H, t->qkv);
    const attention_shape shape = encoder_layer_attention(p, at);
    const rotary_table *rotary = encoder_layer_rotary(p, at);
    float *d_bias = p->buckets != NULL && !t->frozen_embeddings ? dw + p->relative_bias : NULL;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        float *qkv = t->qkv + first * 3 * H;
        attention_backward(p->k, &shape, qkv, t->context + first * H, t->lengths[b], &l->drop_p, first, qkv, d_bias,
                           t->attention);
        if (rotary != NULL)
            rotary_backward(p->k, rotary, shape.heads, t->lengths[b], qkv);
        first += t->lengths[b];
    }
}

/* y[n, H] = the block of what layer i read, which is the output of the one before or of the embedding
 * (where layers normalise what they read, only for the first). */
static void input_again(const encoder_tape *t, const float *w, size_t i, block b)
{
    const encoder_plan *p = &t->plan;
    if (i > 0) {
        norm_again(t, w, norm2_of(&p->layers[i - 1], &t->layers[i - 1]), b, t->y);
        return;
    }
    const kept_rows xhat = {.floats = t->xhat};
    norm_again(t, w, (norm){p->norm_weight, p->norm_bias, &xhat, t->rstd}, b, t->y);
    dropout_rows(p->k, &t->drop_embedding, b.first, t->y, b.count, p->config->hidden);
}

/* --- forward again, from an outline */

/* t->x = what the last layer gave, or the LayerNorm behind it. */
static void output_again(encoder_tape *t, const float *w)
{
    const encoder_plan *p = &t->plan;
    const size_t last = p->config->layers - 1, H = p->config->hidden;
    if (p->config->prenorm) {
        layer_norm_again(p->k, t->size.tokens, H, t->last_xhat, w + p->last_norm_weight, w + p->last_norm_bias, t->x);
        return;
    }
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        norm_again(t, w, norm2_of(&p->layers[last], &t->layers[last]), b, rows_of(b, t->x, H));
    }
}

/* What layer i keeps and an outline does not, as the forward pass had it. */
static void layer_again(encoder_tape *t, const float *w, size_t i)
{
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    const size_t H = t->plan.config->hidden;
    const bool prenorm = t->plan.config->prenorm;
    take_qkv(t, l);
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        if (prenorm && at->norm1_weight != PARAM_NOWHERE)
            norm_again(t, w, norm1_of(at, l), b, t->y);
        else
            input_again(t, w, i, b);
        multiply(t, w, l, MATRIX_QKV, b.count, t->y, rows_of(b, t->qkv, 3 * H));
    }
    finish_qkv(t, at, l);
    if (!prenorm)
        attend(t, at, l);
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        if (prenorm) {
            norm_again(t, w, norm2_of(at, l), b, t->d);
        } else {
            input_again(t, w, i, b);
            attention_out(t, w, l, b, t->d);
            norm_forward(t, w, norm1_of(at, l), b, t->d, t->y, t->d);
        }
        feed_up(t, w, l, b, t->d);
    }
}

sem_status encoder_train_resume(encoder_tape *t, const float *params, const int32_t *ids, const uint32_t *lengths,
                                size_t texts, const dropout *drop, const encoder_outline *o, sem_error *err)
{
    sem_status status = begin(t, ids, lengths, texts, drop, err);
    if (status == SEM_OK)
        status = encoder_outline_read(o, t, err);
    if (status != SEM_OK)
        return status;
    encoder_plan_bind(&t->plan, params);
    if (encoder_tape_lowest(t) == 0)
        embed(t, params);
    output_again(t, params);
    t->ready = t->again = true;
    return SEM_OK;
}

/* --- backward of layers */

/* From the gradient of queries, keys and values, for a layer that reads what the one before gave:
 * adds to dx that of what it reads. */
static void qkv_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const size_t H = t->plan.config->hidden;
    const layer_tape *l = &t->layers[i];
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        const float *d = rows_of(b, t->qkv, 3 * H);
        out_weight_backward(t, l, b, dw);
        input_again(t, w, i, b);
        weight_backward(t, l, MATRIX_QKV, b.count, t->y, d, dw);
        if (i > encoder_tape_lowest(t) || !t->frozen_embeddings)
            input_backward(t, w, l, MATRIX_QKV, b.count, d, true, rows_of(b, t->dx, H));
    }
}

/* dx, the gradient of the layer's output, becomes that of its input. */
static void post_norm_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    const size_t H = t->plan.config->hidden;

    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        float *dx = rows_of(b, t->dx, H);
        norm_backward(t, w, norm2_of(at, l), b, dx, dw);
        memcpy(t->d, dx, b.count * H * sizeof *dx);
        dropout_rows(t->plan.k, &l->drop_down, b.first, t->d, b.count, H);
        norm_again(t, w, norm1_of(at, l), b, t->y);
        feed_backward(t, w, l, b, t->y, true, dx, dw);
        norm_backward(t, w, norm1_of(at, l), b, dx, dw);
        out_input_backward(t, w, l, b);
    }
    attend_backward(t, at, l, dw);
    qkv_backward(t, w, i, dw);
}

/* qkv_backward for a layer that normalises what it reads. */
static void normed_qkv_backward(encoder_tape *t, const float *w, const layer_params *at, const layer_tape *l, float *dw)
{
    const size_t H = t->plan.config->hidden;
    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        const float *d = rows_of(b, t->qkv, 3 * H);
        out_weight_backward(t, l, b, dw);
        norm_again(t, w, norm1_of(at, l), b, t->y);
        weight_backward(t, l, MATRIX_QKV, b.count, t->y, d, dw);
        input_backward(t, w, l, MATRIX_QKV, b.count, d, false, t->spare);
        norm_backward(t, w, norm1_of(at, l), b, t->spare, dw);
        t->plan.k->axpy(1, t->spare, rows_of(b, t->dx, H), b.count * H);
    }
}

/* The same as post_norm_backward where layers normalise what they read. */
static void pre_norm_backward(encoder_tape *t, const float *w, size_t i, float *dw)
{
    const layer_params *at = &t->plan.layers[i];
    const layer_tape *l = &t->layers[i];
    const size_t H = t->plan.config->hidden;

    for (size_t first = 0; first < t->size.tokens; first += TAPE_BLOCK) {
        const block b = next_block(t, first);
        float *dx = rows_of(b, t->dx, H);
        memcpy(t->d, dx, b.count * H * sizeof *dx);
        norm_again(t, w, norm2_of(at, l), b, t->y);
        feed_backward(t, w, l, b, t->y, false, t->spare, dw);
        norm_backward(t, w, norm2_of(at, l), b, t->spare, dw);
        t->plan.k->axpy(1, t->spare, dx, b.count * H);
        out_input_backward(t, w, l, b);
    }
    attend_backward(t, at, l, dw);
    if (at->norm1_weight == PARAM_NOWHERE) /* the first layer, which reads the embedding */
        qkv_backward(t, w, i, dw);
    else
        normed_qkv_backward(t, w, at, l, dw);
}

static void layers_backward(encoder_tape *t, const float *w, float *dw)
{
    const encoder_plan *p = &t->plan;
    const model_config *c = p->config;
    if (c->prenorm)
        layer_norm_backward(p->k, t->size.tokens, c->hidden, t->last_xhat, t->last_rstd, w + p->last_norm_weight, t->dx,
                            dw + p->last_norm_weight, dw + p->last_norm_bias);
    for (size_t i = c->layers; i-- > encoder_tape_lowest(t);) {
        if (t->again)
            layer_again(t, w, i);
        (c->prenorm ? pre_norm_backward : post_norm_backward)(t, w, i, dw);
    }
}

static void embed_backward(encoder_tape *t, const float *w, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;
    dropout_rows(p->k, &t->drop_embedding, 0, t->dx, T, H);
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
