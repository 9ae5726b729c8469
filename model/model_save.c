#include "base/crash.h"
#include "base/files.h"
#include "model/json.h"
#include "model/model.h"
#include "model/model_card.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SMALL_FILE_MAX = 256 << 20, /* bytes of a file that is no weights */
    FOLDER_DEPTH_MAX = 8
};

/* --- what is copied */

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcasecmp(name + n - m, end) == 0;
}

/* Weights in any format, what belongs to version control, and what is written anew. */
static bool is_left_out(const char *name, int depth)
{
    static const char *const ENDS[] = {".safetensors", ".safetensors.index.json",
                                       ".bin",         ".bin.index.json",
                                       ".onnx",        ".onnx_data",
                                       ".h5",          ".msgpack",
                                       ".ot",          ".ckpt",
                                       ".pt",          ".pth",
                                       ".gguf",        ".tflite"};
    static const char *const FOLDERS[] = {"onnx", "openvino", "coreml", "tf_model"};
    if (name[0] == '.')
        return true;
    for (size_t i = 0; i < sizeof ENDS / sizeof ENDS[0]; i++)
        if (ends_with(name, ENDS[i]))
            return true;
    for (size_t i = 0; depth == 0 && i < sizeof FOLDERS / sizeof FOLDERS[0]; i++)
        if (strcmp(name, FOLDERS[i]) == 0)
            return true;
    return depth == 0 && (strncmp(name, "semd_", 5) == 0 || strcmp(name, "README.md") == 0);
}

static sem_status io_error(sem_error *err, const char *what, const char *path)
{
    sem_status code = errno == ENOENT   ? SEM_NOT_FOUND
                      : errno == EEXIST ? SEM_ALREADY_EXISTS
                      : errno == ENOSPC ? SEM_RESOURCE_EXHAUSTED
                                        : SEM_INTERNAL;
    return sem_fail(err, code, "cannot %s %s: %s", what, path, strerror(errno));
}

static sem_status copy_file(const char *from, const char *to, sem_error *err)
{
    char *data;
    size_t size;
    sem_status status = files_read(from, SMALL_FILE_MAX, &data, &size, err);
    if (status != SEM_OK)
        return status;
    status = files_write(to, data, size, err);
    free(data);
    return status;
}

static sem_status copy_folder(const char *from, const char *to, int depth, sem_error *err);

static sem_status copy_entry(const char *from, const char *to, const char *name, int depth, sem_error *err)
{
    if (is_left_out(name, depth))
        return SEM_OK;
    char source[FILES_PATH_MAX], target[FILES_PATH_MAX];
    sem_status status = files_join(source, err, "%s/%s", from, name);
    if (status == SEM_OK)
        status = files_join(target, err, "%s/%s", to, name);
    if (status != SEM_OK)
        return status;
    struct stat st;
    if (stat(source, &st) != 0)
        return io_error(err, "stat", source);
    if (S_ISDIR(st.st_mode))
        return copy_folder(source, target, depth + 1, err);
    return copy_file(source, target, err);
}

/* Creates `to`, which must not exist, and copies into it all that is no weights. */
static sem_status copy_folder(const char *from, const char *to, int depth, sem_error *err)
{
    if (depth > FOLDER_DEPTH_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: folders nested deeper than %d", from, FOLDER_DEPTH_MAX);
    DIR *folder = opendir(from);
    if (folder == NULL)
        return io_error(err, "open folder", from);
    sem_status status = mkdir(to, 0700) == 0 ? SEM_OK : io_error(err, "create folder", to);
    while (status == SEM_OK) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            if (errno != 0)
                status = io_error(err, "read folder", from);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = copy_entry(from, to, entry->d_name, depth, err);
    }
    closedir(folder);
    return status != SEM_OK ? status : files_sync_folder(to, err);
}

/* --- weights */

static tensor_source describe(const param *p, const float *params)
{
    tensor_source t = {.name = p->name + p->folder, .data = params + p->offset};
    if (!p->vector)
        t.shape[t.dims++] = p->rows;
    t.shape[t.dims++] = p->cols;
    return t;
}

/* The pooler is not used by embeddings and not trained, but a BERT checkpoint
 * without it makes transformers warn: it is carried along. */
static bool is_pooler(const tensor_view *view)
{
    const char *at = strstr(view->name, "pooler.");
    return at != NULL && (at == view->name || at[-1] == '.') &&
           (view->dtype == TENSOR_F32 || view->dtype == TENSOR_F16 || view->dtype == TENSOR_BF16);
}

static sem_status carry_pooler(const safetensors *from, tensor_source *tensors, float **copies, size_t *count,
                               sem_error *err)
{
    for (size_t i = 0; i < safetensors_count(from); i++) {
        const tensor_view *view = safetensors_at(from, i);
        if (!is_pooler(view))
            continue;
        float *copy = malloc(view->elements * sizeof *copy + 1);
        if (copy == NULL)
            return sem_fail_memory(err, "the pooler's weights");
        tensor_source *t = &tensors[*count];
        *t = (tensor_source){.name = strstr(view->name, "pooler."), .dims = view->dims, .data = copy};
        memcpy(t->shape, view->shape, sizeof t->shape);
        copies[(*count)++] = copy;
        sem_status status = tensor_read(view, 0, view->elements, copy, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* from's weights, or NULL in *out where they lie elsewhere. */
static sem_status open_parent(safetensors **out, const char *from, sem_error *err)
{
    *out = NULL;
    sem_status status = safetensors_open_folder(out, from, err);
    return status == SEM_NOT_FOUND ? SEM_OK : status;
}

static sem_status write_weights(const char *from, const char *to, const param_layout *layout, const float *params,
                                sem_error *err)
{
    char path[FILES_PATH_MAX];
    safetensors *parent = NULL;
    sem_status status = files_join(path, err, "%s/model.safetensors", to);
    if (status == SEM_OK)
        status = open_parent(&parent, from, err);
    if (status != SEM_OK)
        return status;
    size_t most = layout->count + (parent != NULL ? safetensors_count(parent) : 0) + 1;
    tensor_source *tensors = calloc(most, sizeof *tensors);
    float **copies = calloc(most, sizeof *copies);
    size_t count = 0;
    if (tensors == NULL || copies == NULL)
        status = sem_fail_memory(err, "the weights' header");
    for (size_t i = 0; status == SEM_OK && i < layout->count; i++)
        if (layout->items[i].folder == 0)
            tensors[count++] = describe(&layout->items[i], params);
    if (status == SEM_OK && parent != NULL)
        status = carry_pooler(parent, tensors, copies, &count, err);
    if (status == SEM_OK)
        status = safetensors_write(path, tensors, count, err);
    for (size_t i = 0; copies != NULL && i < count; i++)
        free(copies[i]);
    free(copies);
    free(tensors);
    safetensors_close(parent);
    return status;
}

/* A Dense module's weights, to the file of its own. */
static sem_status write_dense(const char *to, const model_dense *dense, const param_layout *layout, const float *params,
                              sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s/model.safetensors", to, dense->folder);
    if (status != SEM_OK)
        return status;
    const size_t length = strlen(dense->folder);
    tensor_source tensors[2];
    size_t count = 0;
    for (size_t i = 0; i < layout->count && count < 2; i++) {
        const param *p = &layout->items[i];
        if (p->folder == length + 1 && strncmp(p->name, dense->folder, length) == 0)
            tensors[count++] = describe(p, params);
    }
    return safetensors_write(path, tensors, count, err);
}

/* --- the whole directory */

static sem_status write_text(const char *to, const char *name, const char *text, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", to, name);
    return status != SEM_OK ? status : files_write(path, text, strlen(text), err);
}

static sem_status fill_folder(const char *from, const char *to, const param_layout *layout, const float *params,
                              const char *generation_json, sem_error *err)
{
    model_config config;
    sem_status status = model_config_read(&config, from, err);
    if (status != SEM_OK)
        return status;
    crash_point("save.copied");
    status = write_weights(from, to, layout, params, err);
    crash_point("save.weights");
    for (size_t i = 0; status == SEM_OK && i < config.dense_count; i++)
        status = write_dense(to, &config.dense[i], layout, params, err);
    if (status == SEM_OK)
        status = model_card_write_configs(to, &config, err);
    crash_point("save.configs");
    if (status == SEM_OK)
        status = model_card_write_readme(from, to, &config, generation_json != NULL, err);
    crash_point("save.readme");
    if (status == SEM_OK && generation_json != NULL)
        status = write_text(to, "semd_generation.json", generation_json, err);
    if (status == SEM_OK)
        status = files_sync_folder(to, err);
    model_config_free(&config);
    return status;
}

sem_status model_save(const char *from, const char *to, const param_layout *layout, const float *params,
                      const char *generation_json, sem_error *err)
{
    struct stat st;
    if (lstat(to, &st) == 0)
        return sem_fail(err, SEM_ALREADY_EXISTS, "%s exists: a model is saved to a new folder", to);
    sem_status status = copy_folder(from, to, 0, err);
    if (status == SEM_OK)
        status = fill_folder(from, to, layout, params, generation_json, err);
    if (status == SEM_OK)
        status = files_sync_parent(to, err);
    crash_point("save.done");
    if (status != SEM_OK)
        files_remove_folder(to, NULL);
    return status;
}
