#include "base/checked.h"
#include "model/encoder_packed.h"
#include "model/encoder_shared.h"
#include "model/layer_norm.h"
#include "model/packed_levels.h"
#include "model/pooling.h"
#include "model/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Texts of up to so many tokens pass through all layers together: the rows of
 * one group stay in the second-level cache while a layer's weights go by, and
 * each weight that comes from further away is used for all of them. */
enum { GROUP_TOKENS = 256 };

/* Rows between which the feed-forward layer's wide activations are kept. */
enum { FEED_ROWS = 96 };

struct encoder {
    model_weights *weights; /* owned */
    encoder_plan plan;
    const float *params; /* [layout->total], the weights', without the layers' matrices */
    packed_layers packed;
    const attention_level *attention;
};

struct encoder_scratch {
    float_area area;
};

/* --- encoder */

/* Everything but the weights themselves. */
static sem_status prepare(encoder *e, const model_config *config, model_weights *w, const gemm *g, sem_error *err)
{
    sem_status status = encoder_plan_create(&e->plan, config, weights_layout(w), g, err);
    if (status == SEM_OK)
        status = packed_layers_create(&e->packed, &e->plan, err);
    if (status != SEM_OK)
        return status;
    e->params = weights_params(w);
    encoder_plan_bind(&e->plan, e->params);
    e->plan.embedding.table = weights_words(w);
    e->attention = attention_choose(e->plan.k->name, PACKED_FLOAT32);
    const encoder_precisions table = encoder_all_in(e, PACKED_FLOAT32);
    return packed_layers_fill(&e->packed, &e->plan, w, &table, err);
}

sem_status encoder_open(encoder **out, const model_config *config, model_weights *w, const gemm *g, sem_error *err)
{
    encoder *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sem_fail_memory(err, "an encoder");
    sem_status status = prepare(e, config, w, g, err);
    if (status != SEM_OK) {
        encoder_destroy(e);
        return status;
    }
    e->weights = w;
    *out = e;
    return SEM_OK;
}

sem_status encoder_create(encoder **out, const model_config *config, float *params, const gemm *g, sem_error *err)
{
    model_weights *w;
    sem_status status = weights_wrap(&w, config, params, err);
    if (status != SEM_OK)
        return status;
    status = encoder_open(out, config, w, g, err);
    if (status != SEM_OK)
        weights_unwrap(w); /* params stay the caller's */
    return status;
}

sem_status encoder_check(const model_config *config, sem_error *err)
{
    param_layout layout;
    encoder_plan plan;
    sem_status status = param_layout_create(&layout, config, err);
    if (status != SEM_OK)
        return status;
    status = encoder_plan_create(&plan, config, &layout, NULL, err);
    if (status == SEM_OK)
        encoder_plan_free(&plan);
    param_layout_free(&layout);
    return status;
}

size_t encoder_matrices(const encoder *e)
{
    return e->packed.count;
}

size_t encoder_matrix_size(const encoder *e, size_t matrix)
{
    return packed_layers_size(&e->plan, matrix);
}

encoder_precisions encoder_all_in(const encoder *e, packed_precision precision)
{
    encoder_precisions table = {0};
    memset(table.letters, packed_precision_name(precision)[0], e->packed.count);
    return table;
}

sem_status encoder_pack(encoder *e, const encoder_precisions *table, sem_error *err)
{
    packed_layers_untry(&e->packed);
    sem_status status = packed_layers_fill(&e->packed, &e->plan, e->weights, table, err);
    const bool exact = strspn(table->letters, "f") == e->packed.count;
    if (status == SEM_OK)
        e->attention = attention_choose(e->plan.k->name, exact ? PACKED_FLOAT32 : PACKED_BFLOAT16);
    return status;
}

sem_status encoder_try(encoder *e, size_t matrix, packed_precision precision, sem_error *err)
{
    return packed_layers_try(&e->packed, &e->plan, e->weights, matrix, precision, err);
}

void encoder_untry(encoder *e)
{
    packed_layers_untry(&e->packed);
}

sem_status encoder_record(encoder *e, sem_error *err)
{
    return packed_layers_record(&e->packed, e->plan.k, err);
}

void encoder_settle(encoder *e)
{
    packed_layers_settle(&e->packed);
}

void encoder_forget(encoder *e)
{
    packed_layers_forget(&e->packed);
}

void encoder_destroy(encoder *e)
{
    if (e == NULL)
        return;
    packed_layers_free(&e->packed);
    encoder_plan_free(&e->plan);
    weights_close(e->weights);
    free(e);
}

sem_status encoder_hold_rows(encoder *e, const int32_t *ids, size_t count, sem_error *err)
{
    sem_status status = weights_load_rows(e->weights, ids, count, err);
    if (status == SEM_OK)
        e->plan.embedding.table = NULL;
    else
        weights_drop_rows(e->weights);
    return status;
}

void encoder_release_rows(encoder *e)
{
    e->plan.embedding.table = weights_words(e->weights);
    weights_drop_rows(e->weights);
}

sem_status encoder_read_params(const encoder *e, float *out, sem_error *err)
{
    return weights_read(e->weights, out, err);
}

sem_status encoder_copy_params(const encoder *e, float **out, sem_error *err)
{
    const size_t total = encoder_layout(e)->total;
    *out = checked_alloc_aligned(total, sizeof **out);
    if (*out == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "out of memory for a copy of %zu parameters", total);
    sem_status status = encoder_read_params(e, *out, err);
    if (status != SEM_OK) {
        free(*out);
        *out = NULL;
    }
    return status;
}

size_t encoder_width(const encoder *e)
{
    return e->plan.config->dim;
}

bool encoder_is_fast(const encoder *e, packed_precision precision)
{
    const packed_kernels level = packed_choose(e->plan.k->name);
    return packed_is_fast(&level, precision);
}

const param_layout *encoder_layout(const encoder *e)
{
    return weights_layout(e->weights);
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
    float *wide;    /* [T, encoder_wide_columns] queries, keys and values, then the feed-forward layer */
    float *head;    /* what the Dense modules need for one text */
    float *attention;
    float *product; /* working space of the packed products */
    crew *crew;     /* or NULL: the caller's thread alone */
} activations;

static sem_status reserve(const encoder *e, encoder_scratch *s, size_t tokens, size_t longest, size_t members,
                          sem_error *err)
{
    const model_config *c = e->plan.config;
    size_t count, attention = members * attention_space(e->attention, &e->plan.attention, longest);
    if (!checked_mul(tokens, 3 * c->hidden + encoder_wide_columns(c), &count) ||
        !checked_add(count, dense_head_space(&e->plan.head), &count) || !checked_add(count, attention, &count) ||
        !checked_add(count, packed_layers_space(&e->plan), &count))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a batch of %zu tokens is too large", tokens);
    return float_area_reserve(&s->area, count, err);
}

static activations cut_scratch(const encoder *e, const encoder_scratch *s, size_t tokens, size_t longest, crew *team)
{
    const model_config *c = e->plan.config;
    size_t members = team != NULL ? crew_members(team) : 1;
    activations a = {.crew = team};
    a.x = s->area.data;
    a.y = a.x + tokens * c->hidden;
    a.context = a.y + tokens * c->hidden;
    a.wide = a.context + tokens * c->hidden;
    a.head = a.wide + tokens * encoder_wide_columns(c);
    a.attention = a.head + dense_head_space(&e->plan.head);
    a.product = a.attention + members * attention_space(e->attention, &e->plan.attention, longest);
    return a;
}

sem_status encoder_scratch_create(encoder_scratch **out, const encoder *e, size_t max_tokens, sem_error *err)
{
    encoder_scratch *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "an encoder's scratch space");
    size_t longest = e->plan.config->max_tokens, most = longest > GROUP_TOKENS ? longest : GROUP_TOKENS;
    sem_status status = reserve(e, s, max_tokens < most ? max_tokens : most, longest, 1, err);
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

static void attend(const encoder *e, const layer_params *l, const activations *a, const uint32_t *lengths,
                   const batch_size *size)
{
    const shared_texts t = {lengths, size->texts, size->longest};
    const attention_shape shape = encoder_layer_attention(&e->plan, l);
    const rotary_table *rotary = encoder_layer_rotary(&e->plan, l);
    float *qkv = a->wide;
    for (size_t b = 0; rotary != NULL && b < size->texts; b++) {
        rotary_forward(e->plan.k, rotary, shape.heads, lengths[b], qkv);
        qkv += lengths[b] * 3 * shape.hidden;
    }
    shared_attend(a->crew, e->attention, &shape, &t, a->wide, a->context, a->attention);
}

/* Matrix number i of a layer on rows of x. */
static void multiply(packed *const *layer, size_t i, const activations *a, size_t rows, float *x, packed_function *f,
                     float *y)
{
    shared_multiply(a->crew, layer[i], rows, x, f, y, a->product);
}

static void normalize(const encoder *e, const activations *a, size_t weight, size_t bias, size_t rows, const float *x,
                      const float *residual, float *y)
{
    const model_config *c = e->plan.config;
    const shared_norm n = {e->plan.k, c->hidden, e->params + weight, e->params + bias, c->layer_norm_eps};
    shared_normalize(a->crew, &n, rows, x, residual, y);
}

/* What rounds to bfloat16 or int8 next needs no exact GELU. */
static packed_function *activation(const encoder_plan *p, const packed *down)
{
    const bool rounds = packed_get_precision(down) != PACKED_FLOAT32;
    return rounds && p->activate == p->k->gelu ? p->k->gelu_quick : p->activate;
}

/* y[T, H] = the feed-forward layer of x[T, H], some rows at a time. */
static void feed_forward(const encoder *e, packed *const *m, const activations *a, size_t T, float *x, float *y)
{
    const encoder_plan *p = &e->plan;
    const size_t H = p->config->hidden;
    packed_function *f = activation(p, m[LAYER_DOWN]);
    for (size_t t = 0; t < T; t += FEED_ROWS) {
        size_t rows = T - t < FEED_ROWS ? T - t : FEED_ROWS;
        multiply(m, LAYER_UP, a, rows, x + t * H, NULL, a->wide);
        if (p->config->gated)
            encoder_gate(p, f, rows, a->wide);
        multiply(m, LAYER_DOWN, a, rows, a->wide, p->config->gated ? NULL : f, y + t * H);
    }
}

/* A layer that normalises its sums: y = norm(x + attention(x)), x = norm(y + feed(y)). */
static void run_post_norm(const encoder *e, const layer_params *l, packed *const *m, const activations *a,
                          const uint32_t *lengths, const batch_size *size)
{
    const size_t T = size->tokens;
    multiply(m, LAYER_QKV, a, T, a->x, NULL, a->wide);
    attend(e, l, a, lengths, size);
    multiply(m, LAYER_OUT, a, T, a->context, NULL, a->y);
    normalize(e, a, l->norm1_weight, l->norm1_bias, T, a->y, a->x, a->y);
    feed_forward(e, m, a, T, a->y, a->x);
    normalize(e, a, l->norm2_weight, l->norm2_bias, T, a->x, a->y, a->x);
}

/* A layer that normalises what it reads: x += attention(norm(x)), x += feed(norm(x)). */
static void run_pre_norm(const encoder *e, const layer_params *l, packed *const *m, const activations *a,
                         const uint32_t *lengths, const batch_size *size)
{
    const size_t T = size->tokens, H = e->plan.config->hidden;
    float *input = a->x;
    if (l->norm1_weight != PARAM_NOWHERE) {
        normalize(e, a, l->norm1_weight, l->norm1_bias, T, a->x, NULL, a->y);
        input = a->y;
    }
    multiply(m, LAYER_QKV, a, T, input, NULL, a->wide);
    attend(e, l, a, lengths, size);
    multiply(m, LAYER_OUT, a, T, a->context, NULL, a->y);
    e->plan.k->axpy(1, a->y, a->x, T * H);
    normalize(e, a, l->norm2_weight, l->norm2_bias, T, a->x, NULL, a->y);
    feed_forward(e, m, a, T, a->y, a->context);
    e->plan.k->axpy(1, a->context, a->x, T * H);
}

static void run_layers(const encoder *e, const activations *a, const uint32_t *lengths, const batch_size *size)
{
    const encoder_plan *p = &e->plan;
    for (size_t i = 0; i < p->config->layers; i++) {
        packed *const *m = e->packed.matrices + i * LAYER_MATRICES;
        if (p->config->prenorm)
            run_pre_norm(e, &p->layers[i], m, a, lengths, size);
        else
            run_post_norm(e, &p->layers[i], m, a, lengths, size);
    }
    if (p->config->prenorm)
        normalize(e, a, p->last_norm_weight, p->last_norm_bias, size->tokens, a->x, NULL, a->x);
}

static sem_status pool(const encoder *e, const activations *a, const uint32_t *lengths, size_t texts, size_t first,
                       float *out, sem_error *err)
{
    const model_config *c = e->plan.config;
    const float *x = a->x;
    for (size_t b = 0; b < texts; b++, out += c->dim) {
        pooling_forward(e->plan.k, c->pooling, c->hidden, x, lengths[b], dense_head_input(&e->plan.head, a->head, out));
        dense_head_forward(e->plan.k, &e->plan.head, e->params, a->head, out);
        float length = pooling_normalize(e->plan.k, out, c->dim);
        if (!(length > 0 && length < INFINITY))
            return encoder_fail_length(first + b, length, err);
        x += lengths[b] * c->hidden;
    }
    return SEM_OK;
}

/* The texts from the first on that go together: at least one. */
static batch_size next_group(const uint32_t *lengths, size_t texts)
{
    batch_size group = {0};
    while (group.texts < texts && (group.texts == 0 || group.tokens + lengths[group.texts] <= GROUP_TOKENS)) {
        group.tokens += lengths[group.texts];
        group.longest = lengths[group.texts] > group.longest ? lengths[group.texts] : group.longest;
        group.texts++;
    }
    return group;
}

static sem_status forward(const encoder *e, encoder_scratch *s, crew *c, const int32_t *ids, const uint32_t *lengths,
                          const batch_size *size, float *out, sem_error *err)
{
    size_t most = size->longest > GROUP_TOKENS ? size->longest : GROUP_TOKENS;
    sem_status status =
        reserve(e, s, size->tokens < most ? size->tokens : most, size->longest, c != NULL ? crew_members(c) : 1, err);
    for (size_t b = 0; b < size->texts && status == SEM_OK;) {
        batch_size group = next_group(lengths + b, size->texts - b);
        activations a = cut_scratch(e, s, group.tokens, group.longest, c);
        embed(e, &a, ids, lengths + b, &group);
        run_layers(e, &a, lengths + b, &group);
        status = pool(e, &a, lengths + b, group.texts, b, out + b * e->plan.config->dim, err);
        ids += group.tokens;
        b += group.texts;
    }
    return status;
}

sem_status encoder_forward(const encoder *e, encoder_scratch *s, const int32_t *ids, const uint32_t *lengths,
                           size_t texts, float *out, sem_error *err)
{
    return encoder_forward_shared(e, s, NULL, ids, lengths, texts, out, err);
}

sem_status encoder_forward_shared(const encoder *e, encoder_scratch *s, crew *c, const int32_t *ids,
                                  const uint32_t *lengths, size_t texts, float *out, sem_error *err)
{
    batch_size size = {0};
    sem_status status = encoder_batch_check(&e->plan, ids, lengths, texts, &size, err);
    if (status != SEM_OK)
        return status;
    return forward(e, s, size.tokens <= ENCODER_SHARED_TOKENS ? c : NULL, ids, lengths, &size, out, err);
}
