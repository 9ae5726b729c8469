/* Training keeps, for each token and layer, queries, keys, values, context, the
 * two normalised sums and the feed-forward layer before its activation: 6 H + F
 * floats. Everything else is computed again on the way back. */
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
    float *up;            /* [T, F] before the activation */
    float *xhat2, *rstd2; /* [T, H], [T] */
    dropout_site drop_p, drop_out, drop_down;
} layer_tape;

struct encoder_tape {
    encoder_plan plan;
    layer_tape *layers; /* [L] */
    float_area kept;
    float *xhat, *rstd;       /* the embedding's LayerNorm */
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
    bool ready; /* forward has filled the tape and backward has not used it up */
};

/* --- memory */

sem_status encoder_tape_create(encoder_tape **out, const model_config *config, const param_layout *layout,
                               const gemm *g, sem_error *err)
{
    encoder_tape *t = calloc(1, sizeof *t);
    if (t == NULL)
        return sem_fail_memory(err, "a training tape");
    sem_status status =
        config->rotary_theta > 0
            ? sem_fail(err, SEM_INVALID_ARGUMENT, "fine-tuning a %s model is not supported", config->family_name)
            : encoder_plan_create(&t->plan, config, layout, g, err);
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
        l->qkv = cut(&area, T * 3 * H);
        l->context = cut(&area, T * H);
        l->xhat1 = cut(&area, T * H);
        l->up = cut(&area, T * c->intermediate);
        l->xhat2 = cut(&area, T * H);
        l->rstd1 = cut(&area, T);
        l->rstd2 = cut(&area, T);
    }
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
    bool fits = checked_mul(T, 6 * H + c->intermediate + 2, &layers) && checked_mul(layers, c->layers, &kept) &&
                checked_add(kept, T * (H + 1), &kept) &&
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
    t->drop_embedding = dropout_make_site(drop->hidden, drop->seed, 0);
    for (size_t i = 0; i < t->plan.config->layers; i++) {
        layer_tape *l = &t->layers[i];
        l->drop_p = dropout_make_site(drop->attention, drop->seed, 3 * i + 1);
        l->drop_out = dropout_make_site(t->plan.drops_attention_output ? drop->hidden : 0, drop->seed, 3 * i + 2);
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

static void attend(encoder_tape *t, const layer_tape *l)
{
    const size_t H = t->plan.config->hidden;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        attention_forward(t->plan.k, &t->plan.attention, l->qkv + first * 3 * H, t->lengths[b], &l->drop_p, first,
                          l->context + first * H, t->attention);
        first += t->lengths[b];
    }
}

static void layer_forward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden, F = p->config->intermediate;
    const float eps = p->config->layer_norm_eps;

    linear_forward(p->g, p->k, T, H, 3 * H, t->x, w + at->qkv_weight, w + at->qkv_bias, l->qkv);
    attend(t, l);
    linear_forward(p->g, p->k, T, H, H, l->context, w + at->out_weight, w + at->out_bias, t->y);
    dropout_rows(p->k, &l->drop_out, t->y, T, H);
    layer_norm_forward(p->k, T, H, t->y, t->x, w + at->norm1_weight, w + at->norm1_bias, eps, l->xhat1, l->rstd1, t->y);

    linear_forward(p->g, p->k, T, H, F, t->y, w + at->up_weight, w + at->up_bias, l->up);
    p->activate(l->up, T * F, t->wide);
    linear_forward(p->g, p->k, T, F, H, t->wide, w + at->down_weight, w + at->down_bias, t->x);
    dropout_rows(p->k, &l->drop_down, t->x, T, H);
    layer_norm_forward(p->k, T, H, t->x, t->y, w + at->norm2_weight, w + at->norm2_bias, eps, l->xhat2, l->rstd2, t->x);
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
    for (size_t i = 0; i < t->plan.config->layers; i++)
        layer_forward(t, params, &t->plan.layers[i], &t->layers[i]);
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
        dense_head_backward(t->plan.k, head, w, t->head + b * dense_head_space(head), d, d + gradient_width(&t->plan),
                            dw);
        pooling_backward(t->plan.k, c->pooling, c->hidden, t->x + first * c->hidden, t->lengths[b], d,
                         t->dx + first * c->hidden);
        first += t->lengths[b];
    }
}

/* dx, the gradient of the layer's output, becomes that of the feed-forward part's input y. */
static void feed_forward_backward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden, F = p->config->intermediate;

    layer_norm_backward(p->k, T, H, l->xhat2, l->rstd2, w + at->norm2_weight, t->dx, dw + at->norm2_weight,
                        dw + at->norm2_bias);
    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    dropout_rows(p->k, &l->drop_down, t->d, T, H);
    linear_backward_input(p->g, T, F, H, w + at->down_weight, t->d, 0, t->wide);
    p->activate_backward(l->up, t->wide, T * F);
    linear_backward_weight(p->g, p->k, T, F, H, l->up, t->d, dw + at->down_weight, dw + at->down_bias);
    layer_norm_again(p->k, T, H, l->xhat1, w + at->norm1_weight, w + at->norm1_bias, t->y);
    linear_backward(p->g, p->k, T, H, F, t->y, w + at->up_weight, t->wide, t->dx, dw + at->up_weight, dw + at->up_bias);
}

/* dx, the gradient of y, becomes that of the layer's input x. */
static void self_attention_backward(encoder_tape *t, const float *w, const layer_params *at, layer_tape *l, float *dw)
{
    const encoder_plan *p = &t->plan;
    const size_t T = t->size.tokens, H = p->config->hidden;

    layer_norm_backward(p->k, T, H, l->xhat1, l->rstd1, w + at->norm1_weight, t->dx, dw + at->norm1_weight,
                        dw + at->norm1_bias);
    memcpy(t->d, t->dx, T * H * sizeof *t->d);
    dropout_rows(p->k, &l->drop_out, t->d, T, H);
    linear_backward_weight(p->g, p->k, T, H, H, l->context, t->d, dw + at->out_weight, dw + at->out_bias);
    linear_backward_input(p->g, T, H, H, w + at->out_weight, t->d, 0, l->context);
    float *d_bias = p->buckets != NULL ? dw + p->relative_bias : NULL;
    size_t first = 0;
    for (size_t b = 0; b < t->size.texts; b++) {
        attention_backward(p->k, &p->attention, l->qkv + first * 3 * H, l->context + first * H, t->lengths[b],
                           &l->drop_p, first, t->wide + first * 3 * H, d_bias, t->attention);
        first += t->lengths[b];
    }
    linear_backward(p->g, p->k, T, H, 3 * H, t->x, w + at->qkv_weight, t->wide, t->dx, dw + at->qkv_weight,
                    dw + at->qkv_bias);
}

/* x = the input of layer i, which is the output of the one before or of the embedding. */
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

sem_status encoder_train_backward(encoder_tape *t, const float *params, const float *d_out, float *grads,
                                  sem_error *err)
{
    if (!t->ready)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "a backward pass needs a forward pass of its own before it");
    t->ready = false;
    encoder_plan_bind(&t->plan, params);
    pool_backward(t, params, d_out, grads);
    for (size_t i = t->plan.config->layers; i-- > 0;) {
        feed_forward_backward(t, params, &t->plan.layers[i], &t->layers[i], grads);
        input_again(t, params, i);
        self_attention_backward(t, params, &t->plan.layers[i], &t->layers[i], grads);
    }
    embed_backward(t, params, grads);
    return SEM_OK;
}
