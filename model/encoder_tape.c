#include "model/encoder_tape.h"

#include "base/checked.h"
#include "base/pages.h"
#include "model/attention_products.h"

#include <stdlib.h>
#include <string.h>

/* Tokens from which on attention's products are quicker rounded: a shorter text's are too small for what it costs to
 * round and reorder their factors. */
enum { ROUNDED_LEAST = 65 };

static void area_free(tape_area *area)
{
    pages_free(area->data, area->capacity * sizeof *area->data);
    *area = (tape_area){0};
}

static void release_products(encoder_tape *t)
{
    pages_free(t->space, t->space_bytes);
    pages_free(t->gathered, t->gathered_bytes);
    t->space = NULL;
    t->gathered = NULL;
}

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
    release_products(t);
    area_free(&t->kept);
    area_free(&t->work);
    free(t->ids);
    free(t->lengths);
    free(t);
}

sem_status encoder_tape_use(encoder_tape *t, const train_weights *w, sem_error *err)
{
    release_products(t);
    t->weights = NULL;
    t->space_bytes = train_weights_space(w);
    t->gathered_bytes = train_weights_gradient_bytes(w);
    t->space = pages_alloc_huge(t->space_bytes);
    t->gathered = pages_alloc_huge(t->gathered_bytes);
    if (t->space == NULL || t->gathered == NULL)
        return sem_fail_memory(err, "the matrix products of training");
    train_weights_gradients(w, t->gathered, t->gradients);
    t->weights = w;
    return SEM_OK;
}

void encoder_tape_pack(encoder_tape *t, train_weights *w, const float *params, size_t part, size_t parts)
{
    train_weights_pack(w, params, part, parts, t->space);
}

void encoder_tape_freeze(encoder_tape *t, bool embeddings, size_t layers)
{
    t->frozen_embeddings = embeddings;
    t->frozen_layers = layers < t->plan.config->layers ? layers : t->plan.config->layers;
    t->ready = false;
}

size_t encoder_tape_lowest(const encoder_tape *t)
{
    return t->frozen_embeddings ? t->frozen_layers : 0;
}

/* Layers with a place of their own on the tape: those below the lowest share one. */
static size_t kept_layers(const encoder_tape *t)
{
    const size_t lowest = encoder_tape_lowest(t);
    return t->plan.config->layers - (lowest > 0 ? lowest - 1 : 0);
}

static bool keeps_halves(const encoder_tape *t)
{
    return t->weights != NULL && products_precision(train_weights_products(t->weights)) == PACKED_BFLOAT16;
}

const products *encoder_tape_attention(const encoder_tape *t, size_t n)
{
    const products *p = t->weights != NULL ? train_weights_products(t->weights) : NULL;
    return p != NULL && n >= ROUNDED_LEAST && products_beat_float32(p) ? p : NULL;
}

/* For texts of both kinds. */
static size_t attention_floats(const encoder_tape *t)
{
    const attention_shape *shape = &t->plan.attention;
    const size_t longest = t->size.longest;
    const products *p = encoder_tape_attention(t, longest);
    const size_t exact = p == NULL ? longest : ROUNDED_LEAST - 1;
    const size_t rounded = p != NULL ? attention_products_space(p, shape, longest) / sizeof(float) + 1 : 0;
    const size_t floats = attention_backward_space(shape, exact);
    return floats > rounded ? floats : rounded;
}

/* Floats that are kept of a layer for each token, about and at least. */
static size_t layer_floats(const encoder_tape *t)
{
    const size_t H = t->plan.config->hidden, values = 5 * H + encoder_up_columns(t->plan.config);
    return (keeps_halves(t) ? values / 2 + 4 : values) + 2;
}

size_t encoder_tape_token_bytes(const encoder_tape *t)
{
    const model_config *c = t->plan.config;
    /* Behind the layers come embedding and last LayerNorm, and what is worked in. */
    const size_t floats = kept_layers(t) * layer_floats(t) + (keeps_halves(t) ? 8 : 5) * c->hidden;
    return sizeof(float) * (floats + floats / 8); /* as reserve_more takes it */
}

size_t encoder_gradient_width(const encoder_plan *p)
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

static kept_rows cut_rows(const encoder_tape *t, float **area, size_t columns)
{
    const size_t count = t->size.tokens * columns;
    if (!keeps_halves(t))
        return (kept_rows){.floats = cut(area, count)};
    return (kept_rows){.halves = (uint32_t *)(void *)cut(area, (count + 1) / 2)};
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
        l->qkv = cut_rows(t, &area, 3 * H);
        l->xhat1 = cut_rows(t, &area, H);
        l->up = cut_rows(t, &area, encoder_up_columns(c));
        l->xhat2 = cut_rows(t, &area, H);
        l->rstd1 = cut(&area, T);
        l->rstd2 = cut(&area, T);
        /* Only the layer above reads what this one gave, and that on the way forward. */
        if (i + 1 < encoder_tape_lowest(t))
            area = place;
    }
    t->last_xhat = cut(&area, T * H);
    t->last_rstd = cut(&area, T);
    t->out = cut(&area, t->size.texts * c->dim);
    t->lengths_out = cut(&area, t->size.texts);
    t->head = cut(&area, t->size.texts * dense_head_space(&t->plan.head));
}

/* Floats of what is worked in beside attention's space. */
static bool work_floats(const encoder_tape *t, size_t *out)
{
    const model_config *c = t->plan.config;
    return checked_mul(t->size.tokens, (keeps_halves(t) ? 6 : 3) * c->hidden, out) &&
           checked_add(*out, TAPE_BLOCK * (4 * c->hidden + 2 * encoder_up_columns(c)), out) &&
           checked_add(*out, 2 * encoder_gradient_width(&t->plan), out);
}

static void cut_work(encoder_tape *t)
{
    const size_t T = t->size.tokens, H = t->plan.config->hidden, U = encoder_up_columns(t->plan.config);
    float *area = t->work.data;
    t->x = cut(&area, T * H);
    t->dx = cut(&area, T * H);
    t->context = cut(&area, T * H);
    t->qkv = keeps_halves(t) ? cut(&area, T * 3 * H) : NULL;
    t->y = cut(&area, TAPE_BLOCK * H);
    t->d = cut(&area, TAPE_BLOCK * H);
    t->spare = cut(&area, TAPE_BLOCK * H);
    t->xhat_block = cut(&area, TAPE_BLOCK * H);
    t->wide = cut(&area, TAPE_BLOCK * U);
    t->up = cut(&area, TAPE_BLOCK * U);
    t->d_embedding = cut(&area, 2 * encoder_gradient_width(&t->plan));
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
static sem_status reserve_more(tape_area *area, size_t count, sem_error *err)
{
    size_t more = 0, bytes = 0;
    if (count <= area->capacity)
        return SEM_OK;
    area_free(area);
    if (checked_add(count, count / 8, &more) && checked_mul(more, sizeof *area->data, &bytes))
        area->data = pages_alloc_huge(bytes);
    if (area->data == NULL)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED,
                        "out of memory for a batch's activations (%zu MB): use a smaller batch",
                        count / ((1024 * 1024) / sizeof(float)));
    area->capacity = more;
    return SEM_OK;
}

sem_status encoder_tape_reserve(encoder_tape *t, const int32_t *ids, const uint32_t *lengths, sem_error *err)
{
    const model_config *c = t->plan.config;
    const size_t T = t->size.tokens, H = c->hidden;
    size_t layers, kept, texts, work;
    bool fits = checked_mul(T, layer_floats(t), &layers) && checked_mul(layers, kept_layers(t), &kept) &&
                checked_add(kept, 2 * T * (H + 1), &kept) &&
                checked_mul(t->size.texts, c->dim + 1 + dense_head_space(&t->plan.head), &texts) &&
                checked_add(kept, texts, &kept) && work_floats(t, &work) &&
                checked_add(work, attention_floats(t), &work);
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

/* --- outlines */

struct encoder_outline {
    float *data; /* owned */
    size_t capacity;
    batch_size size; /* of the batch */
};

sem_status encoder_outline_create(encoder_outline **out, sem_error *err)
{
    *out = calloc(1, sizeof **out);
    return *out != NULL ? SEM_OK : sem_fail_memory(err, "the outline of a pass");
}

void encoder_outline_destroy(encoder_outline *o)
{
    if (o == NULL)
        return;
    free(o->data);
    free(o);
}

/* The lowest layer of which an outline has something: what it gave is read by the first that learns. */
static size_t outline_lowest(const encoder_tape *t)
{
    const size_t lowest = encoder_tape_lowest(t);
    return lowest > 0 ? lowest - 1 : 0;
}

size_t encoder_outline_token_bytes(const encoder_tape *t)
{
    const model_config *c = t->plan.config;
    const size_t H = c->hidden, rows = keeps_halves(t) ? H / 2 + 1 : H;
    const size_t layer = c->prenorm ? 2 * (rows + 1) : rows + 1;
    const size_t floats = (c->layers - outline_lowest(t)) * layer + (c->prenorm ? H + 1 : 0);
    return sizeof(float) * (floats + floats / 8);
}

typedef enum outline_way { OUTLINE_COUNT, OUTLINE_WRITE, OUTLINE_READ } outline_way;

/* One part of the tape, and where it goes or comes from: *at of data. */
static void move_part(outline_way way, float *part, size_t count, float *data, size_t *at)
{
    if (way == OUTLINE_WRITE)
        memcpy(data + *at, part, count * sizeof *part);
    else if (way == OUTLINE_READ)
        memcpy(part, data + *at, count * sizeof *part);
    *at += count;
}

static void move_norm(const encoder_tape *t, outline_way way, const kept_rows *xhat, float *rstd, float *data,
                      size_t *at)
{
    const size_t T = t->size.tokens, values = T * t->plan.config->hidden;
    if (xhat->floats != NULL)
        move_part(way, xhat->floats, values, data, at);
    else
        move_part(way, (float *)(void *)xhat->halves, (values + 1) / 2, data, at);
    move_part(way, rstd, T, data, at);
}

/* Moves all that an outline has; returns how many floats that is. Layers that normalise what they
 * read give a sum, which cannot be had from the normalised: of these what both matrices read is kept. */
static size_t move_outline(const encoder_tape *t, outline_way way, float *data)
{
    const model_config *c = t->plan.config;
    const size_t texts = t->size.texts;
    size_t at = 0;
    for (size_t i = outline_lowest(t); i < c->layers; i++) {
        const layer_tape *l = &t->layers[i];
        if (c->prenorm && t->plan.layers[i].norm1_weight != PARAM_NOWHERE)
            move_norm(t, way, &l->xhat1, l->rstd1, data, &at);
        move_norm(t, way, &l->xhat2, l->rstd2, data, &at);
    }
    if (c->prenorm) {
        move_part(way, t->last_xhat, t->size.tokens * c->hidden, data, &at);
        move_part(way, t->last_rstd, t->size.tokens, data, &at);
    }
    move_part(way, t->out, texts * c->dim, data, &at);
    move_part(way, t->lengths_out, texts, data, &at);
    move_part(way, t->head, texts * dense_head_space(&t->plan.head), data, &at);
    return at;
}

sem_status encoder_train_note(const encoder_tape *t, encoder_outline *o, sem_error *err)
{
    if (!t->ready || t->again)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "an outline needs a forward pass of its own before it");
    const size_t count = move_outline(t, OUTLINE_COUNT, NULL);
    if (count > o->capacity) {
        free(o->data);
        o->capacity = count + count / 8;
        o->data = checked_realloc(NULL, o->capacity, sizeof *o->data);
        if (o->data == NULL) {
            o->capacity = 0;
            return sem_fail_memory(err, "the outline of a pass");
        }
    }
    o->size = t->size;
    move_outline(t, OUTLINE_WRITE, o->data);
    return SEM_OK;
}

sem_status encoder_outline_read(const encoder_outline *o, encoder_tape *t, sem_error *err)
{
    if (o->size.tokens != t->size.tokens || o->size.texts != t->size.texts)
        return sem_fail(err, SEM_FAILED_PRECONDITION,
                        "an outline of %zu texts and %zu tokens, resumed with %zu and %zu", o->size.texts,
                        o->size.tokens, t->size.texts, t->size.tokens);
    move_outline(t, OUTLINE_READ, o->data);
    return SEM_OK;
}
