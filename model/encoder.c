#include "base/checked.h"
#include "model/encoder_plan.h"
#include "model/layer_norm.h"
#include "model/linear.h"
#include "model/pooling.h"

#include <math.h>
#include <stdlib.h>

struct encoder {
    param_layout layout;
    encoder_plan plan;
    float *params; /* [layout.total], owned */
};

struct encoder_scratch {
    float_area area;
};

/* --- encoder */

sem_status encoder_create(encoder **out, const model_config *config, float *params, const gemm *g, sem_error *err)
{
    encoder *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sem_fail_memory(err, "an encoder");
    sem_status status = param_layout_create(&e->layout, config, err);
    if (status == SEM_OK)
        status = encoder_plan_create(&e->plan, config, &e->layout, g, err);
    if (status != SEM_OK) {
        encoder_destroy(e);
        return status;
    }
    e->params = params;
    encoder_plan_bind(&e->plan, params);
    *out = e;
    return SEM_OK;
}

void encoder_destroy(encoder *e)
{
    if (e == NULL)
        return;
    encoder_plan_free(&e->plan);
    param_layout_free(&e->layout);
    free(e->params);
    free(e);
}

const float *encoder_params(const encoder *e)
{
    return e->params;
}

const param_layout *encoder_layout(const encoder *e)
{
    return &e->layout;
}

const char *encoder_simd(const encoder *e)
{
    return e->plan.k->name;
}

/* --- scratch */

/* Where the parts of a batch lie in the scratch area. */
typedef struct activations {
    float *x;       /* [T, H] the layer's input and output */
    float *y;       /* [T, H] */
    float *context; /* [T, H] */
    float *wide;    /* [T, max(3H, F)] queries, keys and values, then the feed-forward layer */
    float *head;    /* what the Dense modules need for one text */
    float *attention;
} activations;

static sem_status reserve(const encoder *e, encoder_scratch *s, size_t tokens, size_t longest, sem_error *err)
{
    const model_config *c = e->plan.config;
    size_t count;
    if (!checked_mul(tokens, 3 * c->hidden + encoder_wide_columns(c), &count) ||
        !checked_add(count, dense_head_space(&e->plan.head), &count) ||
        !checked_add(count, attention_forward_space(&e->plan.attention, longest), &count))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch of %zu tokens is too large", tokens);
    return float_area_reserve(&s->area, count, err);
}

static activations cut_scratch(const encoder *e, const encoder_scratch *s, size_t tokens)
{
    const model_config *c = e->plan.config;
    activations a;
    a.x = s->area.data;
    a.y = a.x + tokens * c->hidden;
    a.context = a.y + tokens * c->hidden;
    a.wide = a.context + tokens * c->hidden;
    a.head = a.wide + tokens * encoder_wide_columns(c);
    a.attention = a.head + dense_head_space(&e->plan.head);
    return a;
}

sem_status encoder_scratch_create(encoder_scratch **out, const encoder *e, size_t max_tokens, sem_error *err)
{
    encoder_scratch *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "an encoder's scratch space");
    sem_status status = reserve(e, s, max_tokens, e->plan.config->max_tokens, err);
    if (status != SEM_OK) {
        encoder_scratch_destroy(s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

void encoder_scratch_destroy(encoder_scratch *s)
{
    if (s == NULL)
        return;
    free(s->area.data);
    free(s);
}

/* --- forward */

static void embed(const encoder *e, const activations *a, const int32_t *ids, const uint32_t *lengths,
                  const batch_size *size)
{
    const encoder_plan *p = &e->plan;
    const size_t H = p->config->hidden;
    size_t first = 0;
    for (size_t b = 0; b < size->texts; b++) {
        embedding_forward(p->k, &p->embedding, ids + first, lengths[b], e->params, a->x + first * H);
        first += lengths[b];
    }
    layer_norm_forward(p->k, size->tokens, H, a->x, NULL, e->params + p->norm_weight, e->params + p->norm_bias,
                       p->config->layer_norm_eps, NULL, NULL, a->x);
}

static void attend(const encoder *e, const activations *a, const uint32_t *lengths, size_t texts)
{
    static const dropout_site none;
    const size_t H = e->plan.config->hidden;
    size_t first = 0;
    for (size_t b = 0; b < texts; b++) {
        attention_forward(e->plan.k, &e->plan.attention, a->wide + first * 3 * H, lengths[b], &none, first,
                          a->context + first * H, a->attention);
        first += lengths[b];
    }
}

static void run_layer(const encoder *e, const layer_params *l, const activations *a, const uint32_t *lengths,
                      const batch_size *size)
{
    const encoder_plan *p = &e->plan;
    const float *w = e->params, eps = p->config->layer_norm_eps;
    const size_t T = size->tokens, H = p->config->hidden, F = p->config->intermediate;

    linear_forward(p->g, p->k, T, H, 3 * H, a->x, w + l->qkv_weight, w + l->qkv_bias, a->wide);
    attend(e, a, lengths, size->texts);
    linear_forward(p->g, p->k, T, H, H, a->context, w + l->out_weight, w + l->out_bias, a->y);
    layer_norm_forward(p->k, T, H, a->y, a->x, w + l->norm1_weight, w + l->norm1_bias, eps, NULL, NULL, a->y);

    linear_forward(p->g, p->k, T, H, F, a->y, w + l->up_weight, w + l->up_bias, a->wide);
    p->activate(a->wide, T * F, a->wide);
    linear_forward(p->g, p->k, T, F, H, a->wide, w + l->down_weight, w + l->down_bias, a->x);
    layer_norm_forward(p->k, T, H, a->x, a->y, w + l->norm2_weight, w + l->norm2_bias, eps, NULL, NULL, a->x);
}

static sem_status pool(const encoder *e, const activations *a, const uint32_t *lengths, size_t texts, float *out,
                       sem_error *err)
{
    const model_config *c = e->plan.config;
    const float *x = a->x;
    for (size_t b = 0; b < texts; b++, out += c->dim) {
        pooling_forward(e->plan.k, c->pooling, c->hidden, x, lengths[b], dense_head_input(&e->plan.head, a->head, out));
        dense_head_forward(e->plan.k, &e->plan.head, e->params, a->head, out);
        float length = pooling_normalize(e->plan.k, out, c->dim);
        if (!(length > 0 && length < INFINITY))
            return encoder_fail_length(b, length, err);
        x += lengths[b] * c->hidden;
    }
    return SEM_OK;
}

sem_status encoder_forward(const encoder *e, encoder_scratch *s, const int32_t *ids, const uint32_t *lengths,
                           size_t texts, float *out, sem_error *err)
{
    batch_size size;
    sem_status status = encoder_batch_check(&e->plan, ids, lengths, texts, &size, err);
    if (status == SEM_OK)
        status = reserve(e, s, size.tokens, size.longest, err);
    if (status != SEM_OK || texts == 0)
        return status;
    activations a = cut_scratch(e, s, size.tokens);
    embed(e, &a, ids, lengths, &size);
    for (size_t i = 0; i < e->plan.config->layers; i++)
        run_layer(e, &e->plan.layers[i], &a, lengths, &size);
    return pool(e, &a, lengths, texts, out, err);
}
