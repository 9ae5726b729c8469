#include "base/checked.h"
#include "model/encoder.h"
#include "model/encoder_plan.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the layout */

/* Appends a matrix, or a vector where rows is 1. False when the sizes overflow. */
static bool add_param(param_layout *layout, size_t rows, size_t cols, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool add_param(param_layout *layout, size_t rows, size_t cols, const char *format, ...)
{
    param *p = &layout->items[layout->count];
    va_list args;
    va_start(args, format);
    vsnprintf(p->name, sizeof p->name, format, args);
    va_end(args);
    p->rows = rows;
    p->cols = cols;
    p->offset = layout->total;
    p->decay = rows > 1;
    p->rows_sparse = false;
    size_t elements;
    if (!checked_mul(rows, cols, &elements) || !checked_add(layout->total, elements, &layout->total))
        return false;
    layout->count++;
    return true;
}

static bool add_embeddings(param_layout *l, const model_config *c)
{
    bool fits = add_param(l, c->vocab, c->hidden, "embeddings.word_embeddings.weight") &&
                add_param(l, c->positions, c->hidden, "embeddings.position_embeddings.weight") &&
                add_param(l, c->types, c->hidden, "embeddings.token_type_embeddings.weight") &&
                add_param(l, 1, c->hidden, "embeddings.LayerNorm.weight") &&
                add_param(l, 1, c->hidden, "embeddings.LayerNorm.bias");
    if (!fits)
        return false;
    /* A table is a matrix even if it has one row. */
    for (size_t i = 0; i < 3; i++)
        l->items[i].decay = true;
    l->items[0].rows_sparse = true;
    return true;
}

/* Query, key and value weights follow each other, and so do their biases: the
 * encoder reads them as one matrix [3H, H] and one vector [3H]. */
static bool add_layer(param_layout *l, const model_config *c, size_t layer)
{
    static const char *const projections[] = {"query", "key", "value"};
    const size_t H = c->hidden, F = c->intermediate, first = l->count;
    bool fits = true;
    for (int i = 0; i < 3; i++)
        fits = fits && add_param(l, H, H, "encoder.layer.%zu.attention.self.%s.weight", layer, projections[i]);
    for (int i = 0; i < 3; i++)
        fits = fits && add_param(l, 1, H, "encoder.layer.%zu.attention.self.%s.bias", layer, projections[i]);
    fits = fits && add_param(l, H, H, "encoder.layer.%zu.attention.output.dense.weight", layer) &&
           add_param(l, 1, H, "encoder.layer.%zu.attention.output.dense.bias", layer) &&
           add_param(l, 1, H, "encoder.layer.%zu.attention.output.LayerNorm.weight", layer) &&
           add_param(l, 1, H, "encoder.layer.%zu.attention.output.LayerNorm.bias", layer) &&
           add_param(l, F, H, "encoder.layer.%zu.intermediate.dense.weight", layer) &&
           add_param(l, 1, F, "encoder.layer.%zu.intermediate.dense.bias", layer) &&
           add_param(l, H, F, "encoder.layer.%zu.output.dense.weight", layer) &&
           add_param(l, 1, H, "encoder.layer.%zu.output.dense.bias", layer) &&
           add_param(l, 1, H, "encoder.layer.%zu.output.LayerNorm.weight", layer) &&
           add_param(l, 1, H, "encoder.layer.%zu.output.LayerNorm.bias", layer);
    /* A weight is a matrix even if it has one row. */
    for (size_t i = first; i < l->count; i++)
        l->items[i].decay = i - first < 3 || i - first == 6 || i - first == 10 || i - first == 12;
    return fits;
}

sem_status param_layout_create(param_layout *out, const model_config *config, sem_error *err)
{
    param_layout layout = {0};
    size_t count;
    if (!checked_mul(config->layers, LAYER_PARAMS, &count) || !checked_add(count, EMBEDDING_PARAMS, &count))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a model of %zu layers is too large", config->layers);
    layout.items = checked_realloc(NULL, count, sizeof *layout.items);
    if (layout.items == NULL)
        return sem_fail_memory(err, "the table of parameters");
    bool fits = add_embeddings(&layout, config);
    for (size_t i = 0; i < config->layers && fits; i++)
        fits = add_layer(&layout, config, i);
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

static const char *const PREFIXES[] = {"", "bert.", "0.auto_model.", "auto_model.", "model."};

/* Parts of a checkpoint that an embedding does not depend on. */
static const char *const UNUSED[] = {
    "pooler.", "embeddings.position_ids", "embeddings.token_type_ids", "cls.", "classifier.", "qa_outputs.",
    "lm_head."};

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
    snprintf(name, sizeof name, "%s%s", prefix, p->name);
    const tensor_view *view = safetensors_find(file, name);
    if (view != NULL || !old_name(p->name, old, sizeof old))
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
    /* A vector has one dimension; only weights and tables have two. */
    bool vector = !p->decay;
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

static bool is_param(const param_layout *layout, const safetensors *file, const char *prefix, const tensor_view *view)
{
    for (size_t i = 0; i < layout->count; i++)
        if (find_tensor(file, prefix, &layout->items[i]) == view)
            return true;
    return false;
}

sem_status params_read(const param_layout *layout, const safetensors *file, float *out, sem_error *err)
{
    const char *path = safetensors_path(file), *prefix = find_prefix(file);
    size_t needless = safetensors_count(file) - layout->count;
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        const tensor_view *view = find_tensor(file, prefix, p);
        if (view == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %s%s is missing", path, prefix, p->name);
        sem_status status = read_param(p, view, path, out + p->offset, err);
        if (status != SEM_OK)
            return status;
    }
    for (size_t i = 0; i < safetensors_count(file) && needless > 0; i++) {
        const tensor_view *view = safetensors_at(file, i);
        if (is_unused(view->name, prefix))
            needless--;
        else if (!is_param(layout, file, prefix, view))
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: tensor %s is not known: the checkpoint is not of the kind that config.json describes",
                            path, view->name);
    }
    return SEM_OK;
}
