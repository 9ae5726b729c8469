/* The passes of training: forward with everything kept that backward needs, and backward. */
#include "model/encoder_block.h"
#include "model/encoder_layer.h"
#include "model/layer_norm.h"
#include "model/pooling.h"

#include <math.h>
#include <string.h>

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

static void layers_forward(encoder_tape *t, const float *w)
{
    const encoder_plan *p = &t->plan;
    const model_config *c = p->config;
    for (size_t i = 0; i < c->layers; i++)
        layer_forward(t, w, i);
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
        const block b = block_next(t, first);
        block_norm_again(t, w, block_norm2(&p->layers[last], &t->layers[last]), b, block_rows(b, t->x, H));
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
        layer_backward(t, w, i, dw);
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
