#include "model/weights.h"

#include "base/files.h"
#include "base/pages.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_FLOATS = 1 << 16 /* of a tensor that are read at a time where none is kept */ };

struct model_weights {
    param_layout layout;
    const tensor_view **views; /* [layout.count], owned; NULL: all is in params */
    safetensors *files[1 + MODEL_DENSE_MAX];
    size_t file_count;
    float *params; /* [layout.total]; malloc'd where views is NULL, else reserved pages */
    const float *words;
    size_t table; /* its number in the layout, where words is not NULL */
};

/* --- the files */

/* folder is "" or a name with a slash. */
static sem_status find_folder(model_weights *w, const char *dir, const char *folder, sem_error *err)
{
    char path[FILES_PATH_MAX];
    const int length = (int)strlen(folder);
    sem_status status = length == 0 ? files_join(path, err, "%s", dir)
                                    : files_join(path, err, "%s/%.*s", dir, length - 1, folder);
    if (status == SEM_OK)
        status = safetensors_open_folder(&w->files[w->file_count], path, err);
    if (status != SEM_OK)
        return status;
    return params_find(&w->layout, folder, w->files[w->file_count++], w->views, err);
}

/* All but what is in memory. */
static sem_status find_all(model_weights *w, const model_config *config, const char *dir, sem_error *err)
{
    sem_status status = param_layout_create(&w->layout, config, err);
    if (status != SEM_OK)
        return status;
    w->views = calloc(w->layout.count, sizeof *w->views);
    if (w->views == NULL)
        return sem_fail_memory(err, "the table of parameters");
    status = find_folder(w, dir, "", err);
    for (size_t i = 0; status == SEM_OK && i < config->dense_count; i++) {
        char folder[sizeof config->dense[i].folder + 1];
        snprintf(folder, sizeof folder, "%s/", config->dense[i].folder);
        status = find_folder(w, dir, folder, err);
    }
    return status;
}

/* --- values */

static size_t elements(const param *p)
{
    return p->rows * p->cols;
}

static sem_status check_values(const tensor_view *view, float *space, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t at = 0; at < view->elements && status == SEM_OK; at += CHECK_FLOATS) {
        size_t left = view->elements - at;
        status = params_read_some(view, at, left < CHECK_FLOATS ? left : CHECK_FLOATS, space, err);
    }
    return status;
}

/* Checks the token table, or all. */
static sem_status check_each(const model_weights *w, bool all, sem_error *err)
{
    float *space = malloc(CHECK_FLOATS * sizeof *space);
    if (space == NULL)
        return sem_fail_memory(err, "a part of a model's weights");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < w->layout.count && status == SEM_OK; i++)
        if (all || i == w->table)
            status = check_values(w->views[i], space, err);
    free(space);
    return status;
}

static sem_status read_param(model_weights *w, size_t i, sem_error *err)
{
    const param *p = &w->layout.items[i];
    if (!pages_open(w->params, p->offset * sizeof(float), (p->offset + elements(p)) * sizeof(float)))
        return sem_fail_memory(err, "a model's weights");
    return params_read_some(w->views[i], 0, elements(p), w->params + p->offset, err);
}

/* The token table is used as it lies in the file where that is possible. */
static void map_words(model_weights *w)
{
    for (size_t i = 0; i < w->layout.count && w->words == NULL; i++) {
        const tensor_view *view = w->views[i];
        if (w->layout.items[i].rows_sparse && view->dtype == TENSOR_F32 && (uintptr_t)view->data % sizeof(float) == 0) {
            w->words = view->data;
            w->table = i;
        }
    }
}

static sem_status read_kept(model_weights *w, weights_place place, sem_error *err)
{
    const size_t zeros = w->layout.zeros * sizeof(float), end = zeros + w->layout.zeros_count * sizeof(float);
    w->params = pages_reserve(w->layout.total * sizeof(float));
    if (w->params == NULL || (end > zeros && !pages_open(w->params, zeros, end)))
        return sem_fail_memory(err, "a model's weights");
    if (place == WEIGHTS_MAPPED)
        map_words(w);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < w->layout.count && status == SEM_OK; i++) {
        const param *p = &w->layout.items[i];
        if (!p->packed && (w->words == NULL || i != w->table))
            status = read_param(w, i, err);
    }
    /* The table is read once here, by reads and not through the map: its values are
     * checked, and the first queries find its pages in the system's cache. */
    return status == SEM_OK && w->words != NULL ? check_each(w, false, err) : status;
}

/* --- */

sem_status weights_open(model_weights **out, const model_config *config, const char *dir, weights_place place,
                        sem_error *err)
{
    model_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "a model's weights");
    sem_status status = find_all(w, config, dir, err);
    if (status == SEM_OK)
        status = read_kept(w, place, err);
    if (status != SEM_OK) {
        weights_close(w);
        return status;
    }
    *out = w;
    return SEM_OK;
}

sem_status weights_check(const model_config *config, const char *dir, sem_error *err)
{
    model_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "a model's weights");
    sem_status status = find_all(w, config, dir, err);
    if (status == SEM_OK)
        status = check_each(w, true, err);
    weights_close(w);
    return status;
}

sem_status weights_wrap(model_weights **out, const model_config *config, float *params, sem_error *err)
{
    model_weights *w = calloc(1, sizeof *w);
    if (w == NULL)
        return sem_fail_memory(err, "a model's weights");
    sem_status status = param_layout_create(&w->layout, config, err);
    if (status != SEM_OK) {
        weights_close(w);
        return status;
    }
    w->params = params;
    *out = w;
    return SEM_OK;
}

void weights_close(model_weights *w)
{
    if (w == NULL)
        return;
    if (w->views != NULL)
        pages_release(w->params, w->layout.total * sizeof(float));
    else
        free(w->params);
    for (size_t i = 0; i < w->file_count; i++)
        safetensors_close(w->files[i]);
    free(w->views);
    param_layout_free(&w->layout);
    free(w);
}

void weights_unwrap(model_weights *w)
{
    w->params = NULL;
    weights_close(w);
}

const param_layout *weights_layout(const model_weights *w)
{
    return &w->layout;
}

const float *weights_params(const model_weights *w)
{
    return w->params;
}

const float *weights_words(const model_weights *w)
{
    return w->words;
}

sem_status weights_load(model_weights *w, size_t offset, size_t count, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < w->layout.count && w->views != NULL && status == SEM_OK; i++) {
        const param *p = &w->layout.items[i];
        if (p->packed && p->offset >= offset && p->offset < offset + count)
            status = read_param(w, i, err);
    }
    return status;
}

void weights_drop(model_weights *w, size_t offset, size_t count)
{
    if (w->views != NULL)
        pages_drop(w->params, offset * sizeof(float), (offset + count) * sizeof(float));
}

sem_status weights_load_rows(model_weights *w, const int32_t *ids, size_t count, sem_error *err)
{
    if (w->words == NULL)
        return SEM_OK;
    const param *p = &w->layout.items[w->table];
    if (!pages_open(w->params, p->offset * sizeof(float), (p->offset + elements(p)) * sizeof(float)))
        return sem_fail_memory(err, "rows of the token table");
    sem_status status = SEM_OK;
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        size_t row = (size_t)ids[i];
        if (row < p->rows)
            status =
                tensor_read(w->views[w->table], row * p->cols, p->cols, w->params + p->offset + row * p->cols, err);
    }
    return status;
}

void weights_drop_rows(model_weights *w)
{
    if (w->words != NULL)
        weights_drop(w, w->layout.items[w->table].offset, elements(&w->layout.items[w->table]));
}

sem_status weights_read(const model_weights *w, float *out, sem_error *err)
{
    if (w->views == NULL) {
        memcpy(out, w->params, w->layout.total * sizeof *out);
        return SEM_OK;
    }
    memset(out + w->layout.zeros, 0, w->layout.zeros_count * sizeof *out);
    sem_status status = SEM_OK;
    for (size_t i = 0; i < w->layout.count && status == SEM_OK; i++)
        status = params_read_some(w->views[i], 0, w->views[i]->elements, out + w->layout.items[i].offset, err);
    return status;
}
