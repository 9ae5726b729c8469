#include "base/checked.h"
#include "model/encoder.h"
#include "model/encoder_plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- names */

/* What one layer consists of, in the layout's order: query, key and value
 * weights follow each other, and so do their biases, since the encoder reads
 * them as one matrix [3H, H] and one vector [3H]. */
typedef struct layer_part {
    bool bias_or_norm; /* a vector, without weight decay */
    bool tall;         /* F rows instead of H */
    bool wide;         /* F columns instead of H */
} layer_part;

static const layer_part PARTS[LAYER_PARAMS] = {
    {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, {1, 0, 0}, {1, 0, 0}, {1, 0, 0}, /* query, key, value */
    {0, 0, 0}, {1, 0, 0},                                             /* attention's output */
    {1, 0, 0}, {1, 0, 0},                                             /* LayerNorm */
    {0, 1, 0}, {1, 1, 0},                                             /* up */
    {0, 0, 1}, {1, 0, 0},                                             /* down */
    {1, 0, 0}, {1, 0, 0},                                             /* LayerNorm */
};

#define BERT_LAYER                                                                                                     \
    {                                                                                                                  \
        "attention.self.query.weight", "attention.self.key.weight", "attention.self.value.weight",                     \
            "attention.self.query.bias", "attention.self.key.bias", "attention.self.value.bias",                       \
            "attention.output.dense.weight", "attention.output.dense.bias", "attention.output.LayerNorm.weight",       \
            "attention.output.LayerNorm.bias", "intermediate.dense.weight", "intermediate.dense.bias",                 \
            "output.dense.weight", "output.dense.bias", "output.LayerNorm.weight", "output.LayerNorm.bias"             \
    }

typedef struct family_names {
    const char *stack; /* before a layer's number */
    const char *parts[LAYER_PARAMS];
} family_names;

static const family_names FAMILIES[] = {
    [FAMILY_BERT] = {"encoder.layer", BERT_LAYER},
    [FAMILY_ROBERTA] = {"encoder.layer", BERT_LAYER},
    [FAMILY_DISTILBERT] = {"transformer.layer",
                           {"attention.q_lin.weight", "attention.k_lin.weight", "attention.v_lin.weight",
                            "attention.q_lin.bias", "attention.k_lin.bias", "attention.v_lin.bias",
                            "attention.out_lin.weight", "attention.out_lin.bias", "sa_layer_norm.weight",
                            "sa_layer_norm.bias", "ffn.lin1.weight", "ffn.lin1.bias", "ffn.lin2.weight",
                            "ffn.lin2.bias", "output_layer_norm.weight", "output_layer_norm.bias"}},
    [FAMILY_MPNET] = {"encoder.layer",
                      {"attention.attn.q.weight", "attention.attn.k.weight", "attention.attn.v.weight",
                       "attention.attn.q.bias", "attention.attn.k.bias", "attention.attn.v.bias",
                       "attention.attn.o.weight", "attention.attn.o.bias", "attention.LayerNorm.weight",
                       "attention.LayerNorm.bias", "intermediate.dense.weight", "intermediate.dense.bias",
                       "output.dense.weight", "output.dense.bias", "output.LayerNorm.weight", "output.LayerNorm.bias"}},
};

/* --- the layout */

/* Appends a matrix or, where vector says so, a vector of cols. False when the sizes overflow. */
static bool add_param(param_layout *layout, bool vector, size_t rows, size_t cols, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static bool add_param(param_layout *layout, bool vector, size_t rows, size_t cols, const char *format, ...)
{
    param *p = &layout->items[layout->count];
    va_list args;
    va_start(args, format);
    vsnprintf(p->name, sizeof p->name, format, args);
    va_end(args);
    p->folder = 0;
    p->rows = rows;
    p->cols = cols;
    p->offset = layout->total;
    p->vector = vector;
    p->decay = !vector;
    p->rows_sparse = false;
    size_t elements;
    if (!checked_mul(rows, cols, &elements) || !checked_add(layout->total, elements, &layout->total))
        return false;
    layout->count++;
    return true;
}

static bool add_embeddings(param_layout *l, const model_config *c)
{
    bool fits = add_param(l, false, c->vocab, c->hidden, "embeddings.word_embeddings.weight") &&
                add_param(l, false, c->positions, c->hidden, "embeddings.position_embeddings.weight");
    l->items[0].rows_sparse = true;
    if (c->types > 0)
        fits = fits && add_param(l, false, c->types, c->hidden, "embeddings.token_type_embeddings.weight");
    fits = fits && add_param(l, true, 1, c->hidden, "embeddings.LayerNorm.weight") &&
           add_param(l, true, 1, c->hidden, "embeddings.LayerNorm.bias");
    if (!fits || c->relative_buckets == 0)
        return fits;
    fits = add_param(l, false, c->relative_buckets, c->heads, "encoder.relative_attention_bias.weight");
    l->items[l->count - 1].decay = false; /* a bias, if one in a table */
    return fits;
}

static bool add_layer(param_layout *l, const model_config *c, size_t layer)
{
    const family_names *names = &FAMILIES[c->family];
    bool fits = true;
    for (size_t i = 0; i < LAYER_PARAMS && fits; i++) {
        const layer_part *part = &PARTS[i];
        size_t height = part->tall ? c->intermediate : c->hidden, width = part->wide ? c->intermediate : c->hidden;
        fits = add_param(l, part->bias_or_norm, part->bias_or_norm ? 1 : height, part->bias_or_norm ? height : width,
                         "%s.%zu.%s", names->stack, layer, names->parts[i]);
    }
    return fits;
}

static bool add_dense(param_layout *l, const model_dense *d)
{
    size_t first = l->count;
    bool fits = add_param(l, false, d->out, d->in, "%s/linear.weight", d->folder) &&
                (!d->bias || add_param(l, true, 1, d->out, "%s/linear.bias", d->folder));
    for (size_t i = first; i < l->count; i++)
        l->items[i].folder = strlen(d->folder) + 1;
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
    for (size_t i = 0; i < config->dense_count && fits; i++)
        fits = add_dense(&layout, &config->dense[i]);
    size_t bytes;
    if (!fits || !checked_mul(layout.total, sizeof(float), &bytes)) {
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

static const char *const PREFIXES[] = {"",       "bert.",         "roberta.",    "distilbert.",
                                       "mpnet.", "0.auto_model.", "auto_model.", "model."};

/* Parts of a checkpoint that an embedding does not depend on. */
static const char *const UNUSED[] = {"pooler.",
                                     "embeddings.position_ids",
                                     "embeddings.token_type_ids",
                                     "cls.",
                                     "classifier.",
                                     "qa_outputs.",
                                     "lm_head.",
                                     "vocab_transform.",
                                     "vocab_layer_norm.",
                                     "vocab_projector.",
                                     "pre_classifier."};

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *find_prefix(const safetensors *file)
{
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        char name[64];
        snprintf(name, sizeof name, "%sembeddings.word_embeddings.weight", PREFIXES[i]);
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

static sem_status read_param(const param *p, const tensor_view *view, const char *path, float *out, sem_error *err)
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
    if (!tensor_to_float(view, out))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s is of a type that is not F32, F16 or BF16", path,
                        view->name);
    for (size_t i = 0; i < p->rows * p->cols; i++)
        if (!isfinite(out[i]))
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: tensor %s holds %f at position %zu, expected finite numbers", path, view->name,
                            (double)out[i], i);
    return SEM_OK;
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

sem_status params_read(const param_layout *layout, const char *folder, const safetensors *file, float *out,
                       sem_error *err)
{
    const char *path = safetensors_path(file), *prefix = folder[0] == '\0' ? find_prefix(file) : "";
    size_t needless = safetensors_count(file);
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        if (!belongs(p, folder))
            continue;
        const tensor_view *view = find_tensor(file, prefix, p);
        if (view == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s%s is missing", path, prefix, p->name + p->folder);
        sem_status status = read_param(p, view, path, out + p->offset, err);
        if (status != SEM_OK)
            return status;
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
