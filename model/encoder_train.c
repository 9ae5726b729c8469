/* Training keeps, for each token and layer, queries, keys, values, context, the
 * two normalised sums (or inputs) and the feed-forward layer before its activation:
 * 6 H + F floats, or 6 H + 2 F where it is gated. Everything else is computed again on the way back. */
#include "base/checked.h"
#include "model/encoder_plan.h"
#include "model/layer_norm.h"
#include "model/linear.h"
#include "model/pooling.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What is kept of one layer. */
typedef struct layer_tape {
    float *qkv;           /* [T, 3H] */
    float *context;       /* [T, H] */
    float *xhat1, *rstd1; /* [T, H], [T] */
    float *up;            /* [T, F] before the activation, or [T, 2F] */
    float *xhat2, *rstd2; /* [T, H], [T] */
    dropout_site drop_p, drop_out, drop_down;
} layer_tape;

struct encoder_tape {
    encoder_plan plan;
    layer_tape *layers; /* [L] */
    float_area kept;
    float *xhat, *rstd; /* the embedding's LayerNorm */
    float *last_xhat;   /* that behind the last layer, where config->prenorm */
    float *last_rstd;
    float *out, *lengths_out; /* [B, E] unit vectors and [B] their lengths before */
    float *head;              /* [B, dense_head_space] */
    dropout_site drop_embedding;
    float_area work;
    float *x, *y;       /* [T, H] a layer's input and middle */
    float *dx;          /* [T, H] */
    float *d;           /* [T, H] gradient behind a dropout */
    float *wide;        /* [T, max(3H, F)] */
    float *d_embedding; /* [2, max(E, dense_head_width)] */
    float *attention;
    int32_t *ids;      /* [T] */
    uint32_t *lengths; /* [B] */
    size_t ids_capacity, lengths_capacity;
    batch_size size;
    size_t frozen_layers; /* the lowest ones get no gradient */
    bool frozen_embeddings;
    bool ready; /* forward has filled the tape and backward has not used it up */
};

/* --- memory */

sem_status encoder_tape_create(encoder_tape **out, const model_config *config, const param_layout *layout,
                               const gemm *g, sem_error *err)
{
    encoder_tape *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a training tape");
    sem_status status = encoder_plan_create(&t->plan, config, layout, g, err);
    if (status == SEM_OK) {
        t->layers = calloc(config->layers, sizeof *t->layers);
        if (t->layers == NULL)
            status = sem_fail_memory(err, "a training tape");
    }
    if (status != SEM_OK) {
        encoder_tape_destroy(t);
        return status;
    }
    *out = t;
    return SEM_OK;
}

void encoder_tape_destroy(encoder_tape *t)
{
    if (t == NULL)
        return;
    encoder_plan_free(&t->plan);
    free(t->layers);
    free(t->kept.data);
    free(t->work.data);
    free(t->ids);
    free(t->lengths);
    free(t);
}

void encoder_tape_freeze(encoder_tape *t, bool embeddings, size_t layers)
{
    t->frozen_embeddings = embeddings;
    t->frozen_layers = layers < t->plan.config->layers ? layers : t->plan.config->layers;
    t->ready = false;
}

/* Layers from here on are passed on the way back. */
static size_t lowest_layer(const encoder_tape *t)
{
    return t->frozen_embeddings ? t->frozen_layers : 0;
}

/* Layers with a place of their own on the tape: those below the lowest share one. */
static size_t kept_layers(const encoder_tape *t)
{
    const size_t lowest = lowest_layer(t);
    return t->plan.config->layers - (lowest > 0 ? lowest - 1 : 0);
}

/* Floats that are kept of a layer for each token. */
static size_t layer_floats(const model_config *c)
{
    return 6 * c->hidden + encoder_up_columns(c) + 2;
}

size_t encoder_tape_token_bytes(const encoder_tape *t)
{
    const model_config *c = t->plan.config;
    /* Behind the layers come embedding and last LayerNorm, and what is worked in. */
    const size_t floats = kept_layers(t) * layer_floats(c) + 9 * c->hidden + encoder_up_columns(c);
    return sizeof(float) * (floats + floats / 8); /* as reserve_more takes it */
}

/* Floats of an embedding's gradient on its way through the Dense modules. */
static size_t gradient_width(const encoder_plan *p)
{
    size_t head = dense_head_width(&p->head);
    return head > p->config->dim ? head : p->config->dim;
}

/* Takes count floats from the front of *area. */
static float *cut(float **area, size_t count)
{
    float *part = *area;
    *area += count;
    return part;
}

static void cut_kept(encoder_tape *t)
{
    const model_config *c = t->plan.config;
    const size_t T = t->size.tokens, H = c->hidden;
    float *area = t->kept.data;
    t->xhat = cut(&area, T * H);
    t->rstd = cut(&area, T);
    for (size_t i = 0; i < c->layers; i++) {
        layer_tape *l = &t->layers[i];
        float *const place = area;
        l->qkv = cut(&area, T * 3 * H);
        l->context = cut(&area, T * H);
        l->xhat1 = cut(&area, T * H);
        l->up = cut(&area, T * encoder_up_columns(c));
        l->xhat2 = cut(&area, T * H);
        l->rstd1 = cut(&area, T);
        l->rstd2 = cut(&area, T);
        if (i + 1 < lowest_layer(t)) /* only the layer above reads what this one gave, and that on the way forward */
            area = place;
    }
    t->last_xhat = cut(&area, T * H);
    t->last_rstd = cut(&area, T);
    t->out = cut(&area, t->size.texts * c->dim);
    t->lengths_out = cut(&area, t->size.texts);
    t->head = cut(&area, t->size.texts * dense_head_space(&t->plan.head));
}

static void cut_work(encoder_tape *t)
{
    const size_t T = t->size.tokens, H = t->plan.config->hidden;
    float *area = t->work.data;
    t->x = cut(&area, T * H);
    t->y = cut(&area, T * H);
    t->dx = cut(&area, T * H);
    t->d = cut(&area, T * H);
    t->wide = cut(&area, T * encoder_wide_columns(t->plan.config));
    t->d_embedding = cut(&area, 2 * gradient_width(&t->plan));
    t->attention = area;
}

/* Copies what backward needs of the batch. */
static sem_status keep_batch(encoder_tape *t, const int32_t *ids, const uint32_t *lengths, sem_error *err)
{
    if (t->ids_capacity < t->size.tokens) {
        int32_t *grown = checked_realloc(t->ids, t->size.tokens, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "a batch's ids");
        t->ids = grown;
        t->ids_capacity = t->size.tokens;
    }
    if (t->lengths_capacity < t->size.texts) {
        uint32_t *grown = checked_realloc(t->lengths, t->size.texts, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "a batch's lengths");
        t->lengths = grown;
        t->lengths_capacity = t->size.texts;
    }
    memcpy(t->ids, ids, t->size.tokens * sizeof *ids);
    memcpy(t->lengths, lengths, t->size.texts * sizeof *lengths);
    return SEM_OK;
}

/* Batches differ a little in size: an eighth more saves most growing. */
static sem_status reserve_more(float_area *area, size_t count, sem_error *err)
{
    if (count <= area->capacity)
        return SEM_OK;
    return float_area_reserve(area, count + count / 8, err);
}

static sem_status reserve(encoder_tape *t, const int32_t *ids, const uint32_t *lengths, sem_error *err)
{
    const model_config *c = t->plan.config;
    const size_t T = t->size.tokens, H = c->hidden;
    size_t layers, kept, texts, work;
    bool fits = checked_mul(T, layer_floats(c), &layers) && checked_mul(layers, kept_layers(t), &kept) &&
                checked_add(kept, 2 * T * (H + 1), &kept) &&
                checked_mul(t->size.texts, c->dim + 1 + dense_head_space(&t->plan.head), &texts) &&
                checked_add(kept, texts, &kept) && checked_mul(T, 4 * H + encoder_wide_columns(c), &work) &&
                checked_add(work, 2 * gradient_width(&t->plan), &work) &&
                checked_add(work, attention_backward_space(&t->plan.attention, t->size.longest), &work);
    if (!fits)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch of %zu tokens is too large", T);
    sem_status status = reserve_more(&t->kept, kept, err);
    if (status == SEM_OK)
        status = reserve_more(&t->work, work, err);
    if (status == SEM_OK)
        status = keep_batch(t, ids, lengths, err);
    if (status != SEM_OK)
        return status;
    cut_kept(t);
    cut_work(t);
    return SEM_OK;
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
    linear_forward(p->g, p->k, T, H, 3 * H, x, w + at->qkv_weight, w + at->qkv_bias, l->qkv);
    attend(t, at, l);
    linear_forward(p->g, p->k, T, H, H, l->context, w + at->out_weight, w + at->out_bias, t->y);
    dropout_rows(p->k, &l->drop_out, t->y, T, H);
}

/* y[T, H] = the feed-forward layer of x[T, H]; y may be x. */
static void feed_part(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l, const float *x, float *y)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden, F = p->config->intermediate;
    const size_t U = encoder_up_columns(p->config);
    linear_forward(p->g, p->k, T, H, U, x, w + at->up_weight, w + at->up_bias, l->up);
    if (p->config->gated) {
        memcpy(t->wide, l->up, T * U * sizeof *t->wide);
        encoder_gate(p, p->activate, T, t->wide);
    } else {
        p->activate(l->up, T * F, t->wide);
    }
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, t->wide, T, F);
    linear_forward(p->g, p->k, T, F, H, t->wide, w + at->down_weight, w + at->down_bias, y);
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
    feed_part(t, w, at, l, t->y, t->x);
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
    feed_part(t, w, at, l, t->d, t->y);
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
        status = reserve(t, ids, lengths, err);
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

/* The gradients of one of the layer's matrices [out, in] and its bias, from its
 * input x[T, in] and the gradient dy[T, out] of its output. */
static void weight_backward(const encoder_tape *t, const layer_tape *l, size_t in, size_t out, const float *x,
                            const float *dy, float *d_weight, float *d_bias)
{
    if ((size_t)(l - t->layers) >= t->frozen_layers)
        linear_backward_weight(t->plan.g, t->plan.k, t->size.tokens, in, out, x, dy, d_weight, d_bias);
}

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
        dense_head_backward(t->plan.k, head, w, t->head + b * dense_head_space(head), d, d + gradient_width(&t->plan),
                            dw);
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
 * which is added to dx where beta is 1 and overwrites it where it is 0. */
static void feed_backward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l, const float *x,
                          float beta, float *dx, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden, F = p->config->intermediate;
    const size_t U = encoder_up_columns(p->config);
    linear_backward_input(p->g, T, F, H, w + at->down_weight, t->d, 0, t->wide);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, t->wide, T, F);
    if (p->config->gated)
        gate_backward(t, l);
    else
        p->activate_backward(l->up, t->wide, T * F);
    if (p->config->prenorm)
        dropout_rows(p->k, &l->drop_down, l->up, T, F);
    weight_backward(t, l, F, H, l->up, t->d, dw + at->down_weight, dw + at->down_bias);
    weight_backward(t, l, H, U, x, t->wide, dw + at->up_weight, dw + at->up_bias);
    linear_backward_input(p->g, T, H, U, w + at->up_weight, t->wide, beta, dx);
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
    weight_backward(t, l, H, H, l->context, t->d, dw + at->out_weight, dw + at->out_bias);
    linear_backward_input(p->g, T, H, H, w + at->out_weight, t->d, 0, l->context);
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
    feed_backward(t, w, at, l, t->y, 1, t->dx, dw);

    layer_norm_backward(p->k, T, H, l->xhat1, l->rstd1, w + at->norm1_weight, t->dx, dw + at->norm1_weight,
                        dw + at->norm1_bias);
    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    qkv_backward(t, w, at, l, dw);
    input_again(t, w, i);
    weight_backward(t, l, H, 3 * H, t->x, t->wide, dw + at->qkv_weight, dw + at->qkv_bias);
    if (i > lowest_layer(t) || !t->frozen_embeddings)
        linear_backward_input(p->g, T, H, 3 * H, w + at->qkv_weight, t->wide, 1, t->dx);
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
    feed_backward(t, w, at, l, t->y, 0, t->x, dw);
    layer_norm_backward(p->k, T, H, l->xhat2, l->rstd2, w + at->norm2_weight, t->x, dw + at->norm2_weight,
                        dw + at->norm2_bias);
    p->k->axpy(1, t->x, t->dx, T * H);

    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    qkv_backward(t, w, at, l, dw);
    if (at->norm1_weight == PARAM_NOWHERE) { /* the first layer, which reads the embedding */
        input_again(t, w, i);
        weight_backward(t, l, H, 3 * H, t->x, t->wide, dw + at->qkv_weight, dw + at->qkv_bias);
        if (!t->frozen_embeddings)
            linear_backward_input(p->g, T, H, 3 * H, w + at->qkv_weight, t->wide, 1, t->dx);
        return;
    }
    layer_norm_again(p->k, T, H, l->xhat1, w + at->norm1_weight, w + at->norm1_bias, t->y);
    weight_backward(t, l, H, 3 * H, t->y, t->wide, dw + at->qkv_weight, dw + at->qkv_bias);
    linear_backward_input(p->g, T, H, 3 * H, w + at->qkv_weight, t->wide, 0, t->x);
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
    for (size_t i = c->layers; i-- > lowest_layer(t);)
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
    for (size_t i = lowest_layer(t); i < t->frozen_layers; i++) {
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
