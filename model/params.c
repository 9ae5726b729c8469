#include "base/checked.h"
#include "model/encoder.h"
#include "model/encoder_plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- names */

/* What a checkpoint calls one tensor of a layer. Tensors of one role follow each
 * other, since the encoder reads them as one matrix: queries, keys and values as
 * [3H, H], and where the feed-forward layer is gated what is activated before
 * what it is multiplied with, as [2F, H]. */
typedef struct layer_part {
    param_role role;
    const char *name; /* NULL behind the last */
} layer_part;

typedef struct family_names {
    const char *words, *types; /* tables */
    const char *norm;          /* the embedding's LayerNorm */
    const char *stack;         /* before a layer's number */
    layer_part parts[LAYER_PARAMS + 1];
} family_names;

#define BERT_FAMILY                                                                                                    \
    {                                                                                                                  \
        "embeddings.word_embeddings", "embeddings.token_type_embeddings", "embeddings.LayerNorm", "encoder.layer",     \
        {                                                                                                              \
            {PARAM_QKV_WEIGHT, "attention.self.query.weight"}, {PARAM_QKV_WEIGHT, "attention.self.key.weight"},        \
                {PARAM_QKV_WEIGHT, "attention.self.value.weight"}, {PARAM_QKV_BIAS, "attention.self.query.bias"},      \
                {PARAM_QKV_BIAS, "attention.self.key.bias"}, {PARAM_QKV_BIAS, "attention.self.value.bias"},            \
                {PARAM_OUT_WEIGHT, "attention.output.dense.weight"}, {PARAM_OUT_BIAS, "attention.output.dense.bias"},  \
                {PARAM_NORM1_WEIGHT, "attention.output.LayerNorm.weight"},                                             \
                {PARAM_NORM1_BIAS, "attention.output.LayerNorm.bias"}, {PARAM_UP_WEIGHT, "intermediate.dense.weight"}, \
                {PARAM_UP_BIAS, "intermediate.dense.bias"}, {PARAM_DOWN_WEIGHT, "output.dense.weight"},                \
                {PARAM_DOWN_BIAS, "output.dense.bias"}, {PARAM_NORM2_WEIGHT, "output.LayerNorm.weight"},               \
            {                                                                                                          \
                PARAM_NORM2_BIAS, "output.LayerNorm.bias"                                                              \
            }                                                                                                          \
        }                                                                                                              \
    }

static const family_names FAMILIES[] = {
    [FAMILY_BERT] = BERT_FAMILY,
    [FAMILY_ROBERTA] = BERT_FAMILY,
    [FAMILY_DISTILBERT] = {"embeddings.word_embeddings",
                           NULL,
                           "embeddings.LayerNorm",
                           "transformer.layer",
                           {{PARAM_QKV_WEIGHT, "attention.q_lin.weight"},
                            {PARAM_QKV_WEIGHT, "attention.k_lin.weight"},
                            {PARAM_QKV_WEIGHT, "attention.v_lin.weight"},
                            {PARAM_QKV_BIAS, "attention.q_lin.bias"},
                            {PARAM_QKV_BIAS, "attention.k_lin.bias"},
                            {PARAM_QKV_BIAS, "attention.v_lin.bias"},
                            {PARAM_OUT_WEIGHT, "attention.out_lin.weight"},
                            {PARAM_OUT_BIAS, "attention.out_lin.bias"},
                            {PARAM_NORM1_WEIGHT, "sa_layer_norm.weight"},
                            {PARAM_NORM1_BIAS, "sa_layer_norm.bias"},
                            {PARAM_UP_WEIGHT, "ffn.lin1.weight"},
                            {PARAM_UP_BIAS, "ffn.lin1.bias"},
                            {PARAM_DOWN_WEIGHT, "ffn.lin2.weight"},
                            {PARAM_DOWN_BIAS, "ffn.lin2.bias"},
                            {PARAM_NORM2_WEIGHT, "output_layer_norm.weight"},
                            {PARAM_NORM2_BIAS, "output_layer_norm.bias"}}},
    [FAMILY_MPNET] = {"embeddings.word_embeddings",
                      NULL,
                      "embeddings.LayerNorm",
                      "encoder.layer",
                      {{PARAM_QKV_WEIGHT, "attention.attn.q.weight"},
                       {PARAM_QKV_WEIGHT, "attention.attn.k.weight"},
                       {PARAM_QKV_WEIGHT, "attention.attn.v.weight"},
                       {PARAM_QKV_BIAS, "attention.attn.q.bias"},
                       {PARAM_QKV_BIAS, "attention.attn.k.bias"},
                       {PARAM_QKV_BIAS, "attention.attn.v.bias"},
                       {PARAM_OUT_WEIGHT, "attention.attn.o.weight"},
                       {PARAM_OUT_BIAS, "attention.attn.o.bias"},
                       {PARAM_NORM1_WEIGHT, "attention.LayerNorm.weight"},
                       {PARAM_NORM1_BIAS, "attention.LayerNorm.bias"},
                       {PARAM_UP_WEIGHT, "intermediate.dense.weight"},
                       {PARAM_UP_BIAS, "intermediate.dense.bias"},
                       {PARAM_DOWN_WEIGHT, "output.dense.weight"},
                       {PARAM_DOWN_BIAS, "output.dense.bias"},
                       {PARAM_NORM2_WEIGHT, "output.LayerNorm.weight"},
                       {PARAM_NORM2_BIAS, "output.LayerNorm.bias"}}},
    [FAMILY_MODERNBERT] = {"embeddings.tok_embeddings",
                           NULL,
                           "embeddings.norm",
                           "layers",
                           {{PARAM_NORM1_WEIGHT, "attn_norm.weight"},
                            {PARAM_NORM1_BIAS, "attn_norm.bias"},
                            {PARAM_QKV_WEIGHT, "attn.Wqkv.weight"},
                            {PARAM_QKV_BIAS, "attn.Wqkv.bias"},
                            {PARAM_OUT_WEIGHT, "attn.Wo.weight"},
                            {PARAM_OUT_BIAS, "attn.Wo.bias"},
                            {PARAM_NORM2_WEIGHT, "mlp_norm.weight"},
                            {PARAM_NORM2_BIAS, "mlp_norm.bias"},
                            {PARAM_UP_WEIGHT, "mlp.Wi.weight"},
                            {PARAM_UP_BIAS, "mlp.Wi.bias"},
                            {PARAM_DOWN_WEIGHT, "mlp.Wo.weight"},
                            {PARAM_DOWN_BIAS, "mlp.Wo.bias"}}},
    [FAMILY_NOMIC] = {"embeddings.word_embeddings",
                      "embeddings.token_type_embeddings",
                      "emb_ln",
                      "encoder.layers",
                      {{PARAM_QKV_WEIGHT, "attn.Wqkv.weight"},
                       {PARAM_QKV_BIAS, "attn.Wqkv.bias"},
                       {PARAM_OUT_WEIGHT, "attn.out_proj.weight"},
                       {PARAM_OUT_BIAS, "attn.out_proj.bias"},
                       {PARAM_NORM1_WEIGHT, "norm1.weight"},
                       {PARAM_NORM1_BIAS, "norm1.bias"},
                       {PARAM_UP_WEIGHT, "mlp.fc12.weight"},
                       {PARAM_UP_WEIGHT, "mlp.fc11.weight"},
                       {PARAM_UP_BIAS, "mlp.fc12.bias"},
                       {PARAM_UP_BIAS, "mlp.fc11.bias"},
                       {PARAM_DOWN_WEIGHT, "mlp.fc2.weight"},
                       {PARAM_DOWN_BIAS, "mlp.fc2.bias"},
                       {PARAM_NORM2_WEIGHT, "norm2.weight"},
                       {PARAM_NORM2_BIAS, "norm2.bias"}}},
};

/* --- the layout */

/* Appends a matrix or, where vector says so, a vector of cols. False when the sizes overflow. */
static bool add_param(param_layout *layout, param_role role, bool vector, size_t rows, size_t cols, const char *format,
                      ...) __attribute__((format(printf, 6, 7)));

static bool add_param(param_layout *layout, param_role role, bool vector, size_t rows, size_t cols, const char *format,
                      ...)
{
    param *p = &layout->items[layout->count];
    va_list args;
    va_start(args, format);
    vsnprintf(p->name, sizeof p->name, format, args);
    va_end(args);
    p->role = role;
    p->part = 0;
    p->folder = 0;
    p->rows = rows;
    p->cols = cols;
    p->offset = layout->total;
    p->vector = vector;
    p->decay = !vector;
    p->rows_sparse = false;
    p->packed = false;
    size_t elements;
    if (!checked_mul(rows, cols, &elements) || !checked_add(layout->total, elements, &layout->total))
        return false;
    layout->count++;
    return true;
}

/* Whether the model has what this role is for. */
static bool is_there(const model_config *c, param_role role, size_t layer)
{
    switch (role) {
    case PARAM_QKV_BIAS:
    case PARAM_OUT_BIAS: return !c->no_attention_bias;
    case PARAM_UP_BIAS: return !c->no_up_bias;
    case PARAM_DOWN_BIAS: return !c->no_down_bias;
    case PARAM_NORM1_WEIGHT: return !c->prenorm || layer > 0; /* what the first layer reads is normalised already */
    case PARAM_NORM1_BIAS: return (!c->prenorm || layer > 0) && !c->no_norm_bias;
    case PARAM_NORM_BIAS:
    case PARAM_NORM2_BIAS:
    case PARAM_LAST_NORM_BIAS: return !c->no_norm_bias;
    default: return true;
    }
}

static bool add_norm(param_layout *l, const model_config *c, param_role weight, param_role bias, const char *name)
{
    return add_param(l, weight, true, 1, c->hidden, "%s.weight", name) &&
           (!is_there(c, bias, 0) || add_param(l, bias, true, 1, c->hidden, "%s.bias", name));
}

static bool add_embeddings(param_layout *l, const model_config *c)
{
    const family_names *names = &FAMILIES[c->family];
    bool fits = add_param(l, PARAM_WORDS, false, c->vocab, c->hidden, "%s.weight", names->words);
    l->items[0].rows_sparse = true;
    if (c->rotary_theta == 0)
        fits = fits &&
               add_param(l, PARAM_POSITIONS, false, c->positions, c->hidden, "embeddings.position_embeddings.weight");
    if (c->types > 0 && names->types != NULL)
        fits = fits && add_param(l, PARAM_TYPES, false, c->types, c->hidden, "%s.weight", names->types);
    fits = fits && add_norm(l, c, PARAM_NORM_WEIGHT, PARAM_NORM_BIAS, names->norm);
    if (!fits || c->relative_buckets == 0)
        return fits;
    fits = add_param(l, PARAM_RELATIVE_BIAS, false, c->relative_buckets, c->heads,
                     "encoder.relative_attention_bias.weight");
    l->items[l->count - 1].decay = false; /* a bias, if one in a table */
    return fits;
}

/* The shape of all tensors of a role together; a bias has no columns. */
static void role_shape(const model_config *c, param_role role, size_t *rows, size_t *cols)
{
    const size_t H = c->hidden, up = encoder_up_columns(c);
    const bool wide = role == PARAM_UP_WEIGHT || role == PARAM_UP_BIAS;
    const bool triple = role == PARAM_QKV_WEIGHT || role == PARAM_QKV_BIAS;
    *rows = wide ? up : triple ? 3 * H : H;
    *cols = role == PARAM_QKV_WEIGHT || role == PARAM_OUT_WEIGHT || role == PARAM_UP_WEIGHT ? H
            : role == PARAM_DOWN_WEIGHT                                                     ? c->intermediate
                                                                                            : 0;
}

static bool add_layer(param_layout *l, const model_config *c, size_t layer)
{
    const family_names *names = &FAMILIES[c->family];
    bool fits = true;
    for (const layer_part *part = names->parts; part->name != NULL && fits; part++) {
        size_t rows, cols, share = 1;
        if (!is_there(c, part->role, layer))
            continue;
        for (const layer_part *other = names->parts; other->name != NULL; other++)
            share += other != part && other->role == part->role;
        role_shape(c, part->role, &rows, &cols);
        rows /= share;
        fits = add_param(l, part->role, cols == 0, cols == 0 ? 1 : rows, cols == 0 ? rows : cols, "%s.%zu.%s",
                         names->stack, layer, part->name);
        l->items[l->count - 1].part = layer;
        l->items[l->count - 1].packed = cols != 0;
    }
    return fits;
}

/* The zeros that stand for the biases that the model does not have. */
static bool add_zeros(param_layout *l, const model_config *c)
{
    l->zeros = l->total;
    if (c->no_attention_bias || c->no_up_bias || c->no_down_bias || c->no_norm_bias)
        l->zeros_count = encoder_wide_columns(c);
    return checked_add(l->total, l->zeros_count, &l->total);
}

static bool add_dense(param_layout *l, const model_dense *d, size_t number)
{
    size_t first = l->count;
    bool fits = add_param(l, PARAM_DENSE_WEIGHT, false, d->out, d->in, "%s/linear.weight", d->folder) &&
                (!d->bias || add_param(l, PARAM_DENSE_BIAS, true, 1, d->out, "%s/linear.bias", d->folder));
    for (size_t i = first; i < l->count; i++) {
        l->items[i].folder = strlen(d->folder) + 1;
        l->items[i].part = number;
    }
    return fits;
}

sem_status param_layout_create(param_layout *out, const model_config *config, sem_error *err)
{
    param_layout layout = {0};
    size_t count;
    if (!checked_mul(config->layers, LAYER_PARAMS, &count) || !checked_add(count, OTHER_PARAMS_MAX, &count))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a model of %zu layers is too large", config->layers);
    layout.items = checked_realloc(NULL, count, sizeof *layout.items);
    if (layout.items == NULL)
        return sem_fail_memory(err, "the table of parameters");
    bool fits = add_embeddings(&layout, config);
    for (size_t i = 0; i < config->layers && fits; i++)
        fits = add_layer(&layout, config, i);
    if (fits && config->prenorm)
        fits = add_norm(&layout, config, PARAM_LAST_NORM_WEIGHT, PARAM_LAST_NORM_BIAS, "final_norm");
    for (size_t i = 0; i < config->dense_count && fits; i++)
        fits = add_dense(&layout, &config->dense[i], i);
    size_t bytes;
    if (!fits || !add_zeros(&layout, config) || !checked_mul(layout.total, sizeof(float), &bytes)) {
        param_layout_free(&layout);
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "a model of vocabulary %zu, hidden size %zu, intermediate size %zu and %zu layers does not fit "
                        "in memory",
                        config->vocab, config->hidden, config->intermediate, config->layers);
    }
    *out = layout;
    return SEM_OK;
}

void param_layout_free(param_layout *layout)
{
    free(layout->items);
    *layout = (param_layout){0};
}

const param *param_layout_find(const param_layout *layout, const char *name)
{
    for (size_t i = 0; i < layout->count; i++)
        if (strcmp(layout->items[i].name, name) == 0)
            return &layout->items[i];
    return NULL;
}

/* --- reading a checkpoint */

static const char *const PREFIXES[] = {
    "", "bert.", "roberta.", "distilbert.", "mpnet.", "0.auto_model.", "auto_model.", "model.", "nomic_bert."};

/* Parts of a checkpoint that an embedding does not depend on. */
static const char *const UNUSED[] = {"pooler.",
                                     "embeddings.position_ids",
                                     "embeddings.token_type_ids",
                                     "cls.",
                                     "classifier.",
                                     "qa_outputs.",
                                     "lm_head.",
                                     "head.",
                                     "decoder.",
                                     "vocab_transform.",
                                     "vocab_layer_norm.",
                                     "vocab_projector.",
                                     "pre_classifier."};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *find_prefix(const param_layout *layout, const safetensors *file)
{
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        char name[sizeof layout->items->name + 16];
        snprintf(name, sizeof name, "%s%s", PREFIXES[i], layout->items[0].name);
        if (safetensors_find(file, name) != NULL)
            return PREFIXES[i];
    }
    return "";
}

/* The oldest checkpoints call LayerNorm's weight gamma and its bias beta. */
static bool old_name(const char *name, char *out, size_t size)
{
    const char *norm = strstr(name, "LayerNorm.");
    if (norm == NULL)
        return false;
    norm += strlen("LayerNorm.");
    snprintf(out, size, "%.*s%s", (int)(norm - name), name, strcmp(norm, "weight") == 0 ? "gamma" : "beta");
    return true;
}

static const tensor_view *find_tensor(const safetensors *file, const char *prefix, const param *p)
{
    char old[sizeof p->name], name[sizeof p->name + 16];
    snprintf(name, sizeof name, "%s%s", prefix, p->name + p->folder);
    const tensor_view *view = safetensors_find(file, name);
    if (view != NULL || p->folder > 0 || !old_name(p->name, old, sizeof old))
        return view;
    snprintf(name, sizeof name, "%s%s", prefix, old);
    return safetensors_find(file, name);
}

static const char *shape_text(const tensor_view *view, char *buffer, size_t size)
{
    size_t used = (size_t)snprintf(buffer, size, "[");
    for (size_t i = 0; i < view->dims && used < size; i++)
        used += (size_t)snprintf(buffer + used, size - used, "%s%zu", i > 0 ? ", " : "", view->shape[i]);
    if (used < size)
        snprintf(buffer + used, size - used, "]");
    return buffer;
}

static sem_status check_param(const param *p, const tensor_view *view, const char *path, sem_error *err)
{
    const bool vector = p->vector;
    bool right = vector ? view->dims == 1 && view->shape[0] == p->cols
                        : view->dims == 2 && view->shape[0] == p->rows && view->shape[1] == p->cols;
    char found[TENSOR_DIMS_MAX * 24];
    if (!right && vector)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s has shape %s, config.json asks for [%zu]", path,
                        view->name, shape_text(view, found, sizeof found), p->cols);
    if (!right)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s has shape %s, config.json asks for [%zu, %zu]", path,
                        view->name, shape_text(view, found, sizeof found), p->rows, p->cols);
    if (view->dtype != TENSOR_F32 && view->dtype != TENSOR_F16 && view->dtype != TENSOR_BF16)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s is of a type that is not F32, F16 or BF16", path,
                        view->name);
    return SEM_OK;
}

/* In whole blocks without a branch, which the compiler turns into vector code. */
static bool all_finite(const float *x, size_t n)
{
    const uint32_t exponent = 0x7F800000;
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & exponent) == exponent;
    }
    return bad == 0;
}

sem_status params_read_some(const tensor_view *view, size_t first, size_t count, float *out, sem_error *err)
{
    sem_status status = tensor_read(view, first, count, out, err);
    if (status != SEM_OK || all_finite(out, count))
        return status;
    size_t i = 0;
    while (isfinite(out[i]))
        i++;
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s holds %f at position %zu, expected finite numbers",
                    safetensors_path(view->file), view->name, (double)out[i], first + i);
}

static bool is_unused(const char *name, const char *prefix)
{
    for (size_t i = 0; i < sizeof UNUSED / sizeof *UNUSED; i++)
        if (starts_with(name, UNUSED[i]) ||
            (starts_with(name, prefix) && starts_with(name + strlen(prefix), UNUSED[i])))
            return true;
    return false;
}

/* Whether the parameter lies in the folder's file. */
static bool belongs(const param *p, const char *folder)
{
    return strlen(folder) == p->folder && strncmp(p->name, folder, p->folder) == 0;
}

static bool is_param(const param_layout *layout, const char *folder, const safetensors *file, const char *prefix,
                     const tensor_view *view)
{
    for (size_t i = 0; i < layout->count; i++)
        if (belongs(&layout->items[i], folder) && find_tensor(file, prefix, &layout->items[i]) == view)
            return true;
    return false;
}

sem_status params_find(const param_layout *layout, const char *folder, const safetensors *file,
                       const tensor_view **views, sem_error *err)
{
    const char *path = safetensors_path(file), *prefix = folder[0] == '\0' ? find_prefix(layout, file) : "";
    size_t needless = safetensors_count(file);
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        if (!belongs(p, folder))
            continue;
        const tensor_view *view = find_tensor(file, prefix, p);
        if (view == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s%s is missing", path, prefix, p->name + p->folder);
        sem_status status = check_param(p, view, path, err);
        if (status != SEM_OK)
            return status;
        views[i] = view;
        needless--;
    }
    for (size_t i = 0; i < safetensors_count(file) && needless > 0; i++) {
        const tensor_view *view = safetensors_at(file, i);
        if (folder[0] == '\0' && is_unused(view->name, prefix))
            needless--;
        else if (!is_param(layout, folder, file, prefix, view))
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: tensor %s is not known: the checkpoint is not of the kind that config.json describes",
                            path, view->name);
    }
    return SEM_OK;
}

sem_status params_read(const param_layout *layout, const char *folder, const safetensors *file, float *out,
                       sem_error *err)
{
    const tensor_view **views = calloc(layout->count + 1, sizeof *views);
    if (views == NULL)
        return sem_fail_memory(err, "the table of parameters");
    memset(out + layout->zeros, 0, layout->zeros_count * sizeof *out);
    sem_status status = params_find(layout, folder, file, views, err);
    for (size_t i = 0; i < layout->count && status == SEM_OK; i++)
        if (views[i] != NULL)
            status = params_read_some(views[i], 0, views[i]->elements, out + layout->items[i].offset, err);
    free(views);
    return status;
}
