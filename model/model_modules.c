#include "model/model_modules.h"

#include "base/files.h"
#include "model/json.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MODULES_FILE_MAX = 1 << 20 /* bytes */, DENSE_WIDTH_MAX = 1 << 16 };

typedef struct pooling_row {
    model_pooling bit;
    const char *name;       /* ours */
    const char *mode;       /* in pooling_mode */
    const char *other_mode; /* another spelling of it */
    const char *flag;       /* in the old form */
} pooling_row;

/* In the order in which they are concatenated. */
static const pooling_row POOLINGS[] = {
    {POOL_CLS, "cls", "cls", "cls_token", "pooling_mode_cls_token"},
    {POOL_MAX, "max", "max", "max_tokens", "pooling_mode_max_tokens"},
    {POOL_MEAN, "mean", "mean", "mean_tokens", "pooling_mode_mean_tokens"},
    {POOL_MEAN_SQRT_LEN, "mean_sqrt_len", "mean_sqrt_len_tokens", "mean_sqrt_len", "pooling_mode_mean_sqrt_len_tokens"},
    {POOL_WEIGHTED_MEAN, "weightedmean", "weightedmean", "weightedmean_tokens", "pooling_mode_weightedmean_tokens"},
    {POOL_LAST_TOKEN, "lasttoken", "lasttoken", "last_token", "pooling_mode_lasttoken"},
};

enum { POOLING_COUNT = sizeof POOLINGS / sizeof POOLINGS[0] };

static sem_status add_mode(unsigned *pooling, const json_t *mode, const char *where, sem_error *err)
{
    const char *name = json_is_string(mode) ? json_string_value(mode) : json_type_name(mode);
    for (size_t i = 0; json_is_string(mode) && i < POOLING_COUNT; i++)
        if (strcmp(name, POOLINGS[i].mode) == 0 || strcmp(name, POOLINGS[i].other_mode) == 0) {
            *pooling |= POOLINGS[i].bit;
            return SEM_OK;
        }
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "%s: pooling_mode %.64s is not supported; cls, max, mean, mean_sqrt_len_tokens, weightedmean and "
                    "lasttoken are",
                    where, name);
}

/* The new form: one name or a list of names. */
static sem_status read_modes(unsigned *pooling, const json_t *modes, const char *where, sem_error *err)
{
    if (!json_is_array(modes))
        return add_mode(pooling, modes, where, err);
    sem_status status = SEM_OK;
    for (size_t i = 0; status == SEM_OK && i < json_array_size(modes); i++)
        status = add_mode(pooling, json_array_get(modes, i), where, err);
    return status;
}

/* The old form: a flag a mode. A flag that is set and unknown is refused. */
static sem_status read_flags(unsigned *pooling, const json_t *c, const char *where, sem_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)c, key, value)
    {
        if (strncmp(key, "pooling_mode_", 13) != 0)
            continue;
        bool set = false;
        sem_status status = json_get_bool(c, where, key, false, &set, err);
        if (status != SEM_OK)
            return status;
        size_t i = 0;
        while (i < POOLING_COUNT && strcmp(key, POOLINGS[i].flag) != 0)
            i++;
        if (set && i == POOLING_COUNT)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %.64s is true, which is not supported", where, key);
        if (set)
            *pooling |= POOLINGS[i].bit;
    }
    return SEM_OK;
}

static sem_status read_pooling(model_config *config, const char *dir, const char *module, bool *include_prompt,
                               sem_error *err)
{
    char path[FILES_PATH_MAX];
    json_t *c;
    sem_status status = files_join(path, err, "%s/%s/config.json", dir, module);
    if (status == SEM_OK)
        status = json_load_path(&c, path, MODULES_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    size_t width = config->hidden;
    status = json_get_size(c, path, "word_embedding_dimension", false, 1, SIZE_MAX >> 1, &width, err);
    if (status == SEM_OK)
        status = json_get_size(c, path, "embedding_dimension", false, 1, SIZE_MAX >> 1, &width, err);
    if (status == SEM_OK && width != config->hidden)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the embedding dimension is %zu, expected the model's %zu",
                          path, width, config->hidden);
    if (status == SEM_OK)
        status = json_get_bool(c, path, "include_prompt", false, include_prompt, err);
    config->pooling = 0;
    const json_t *modes = json_object_get(c, "pooling_mode");
    if (status == SEM_OK && modes != NULL && !json_is_null(modes))
        status = read_modes(&config->pooling, modes, path, err);
    else if (status == SEM_OK)
        status = read_flags(&config->pooling, c, path, err);
    if (config->pooling == 0)
        config->pooling = POOL_MEAN;
    json_decref(c);
    return status;
}

/* --- Dense */

static const struct {
    dense_activation activation;
    const char *name; /* the last part of its Python path */
} DENSE_ACTIVATIONS[] = {
    {DENSE_TANH, "Tanh"}, {DENSE_IDENTITY, "Identity"}, {DENSE_RELU, "ReLU"},
    {DENSE_GELU, "GELU"}, {DENSE_SILU, "SiLU"},         {DENSE_SIGMOID, "Sigmoid"},
};

enum { DENSE_ACTIVATION_COUNT = sizeof DENSE_ACTIVATIONS / sizeof DENSE_ACTIVATIONS[0] };

const char *model_config_dense_activation_name(dense_activation activation)
{
    for (size_t i = 0; i < DENSE_ACTIVATION_COUNT; i++)
        if (DENSE_ACTIVATIONS[i].activation == activation)
            return DENSE_ACTIVATIONS[i].name;
    return "unknown";
}

/* A class of torch's own; one of the same name from elsewhere may be anything. */
static sem_status read_dense_activation(dense_activation *out, const json_t *c, const char *where, sem_error *err)
{
    const char *path = "torch.nn.modules.activation.Tanh";
    sem_status status = json_get_string(c, where, "activation_function", false, &path, err);
    if (status != SEM_OK)
        return status;
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && strncmp(path, "torch.nn.", 9) == 0 && i < DENSE_ACTIVATION_COUNT; i++)
        if (strcmp(dot + 1, DENSE_ACTIVATIONS[i].name) == 0) {
            *out = DENSE_ACTIVATIONS[i].activation;
            return SEM_OK;
        }
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "%s: activation_function %.128s is not supported; torch.nn's Tanh, Identity, ReLU, GELU, SiLU and "
                    "Sigmoid are",
                    where, path);
}

/* What would make it something else than a layer from one embedding to the next. */
static sem_status check_dense(const json_t *c, const char *where, sem_error *err)
{
    static const char *const NAMES[] = {"module_input_name", "module_output_name"};
    bool residual = false;
    sem_status status = json_get_bool(c, where, "use_residual", false, &residual, err);
    if (status == SEM_OK && residual)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: use_residual is true, which is not supported", where);
    for (size_t i = 0; status == SEM_OK && i < 2; i++) {
        const char *name = "sentence_embedding";
        status = json_get_string(c, where, NAMES[i], false, &name, err);
        if (status == SEM_OK && strcmp(name, "sentence_embedding") != 0)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s %.64s is not supported; sentence_embedding is", where,
                              NAMES[i], name);
    }
    return status;
}

static sem_status read_dense(model_config *config, const char *dir, const char *module, sem_error *err)
{
    char path[FILES_PATH_MAX];
    json_t *c;
    sem_status status = files_join(path, err, "%s/%s/config.json", dir, module);
    if (status == SEM_OK)
        status = json_load_path(&c, path, MODULES_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    model_dense dense = {.bias = true};
    if (module[0] == '\0' || snprintf(dense.folder, sizeof dense.folder, "%s", module) >= (int)sizeof dense.folder)
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "%s: a Dense needs a folder of its own with a name below %zu bytes", path,
                          sizeof dense.folder);
    if (status == SEM_OK)
        status = json_get_size(c, path, "in_features", true, 1, DENSE_WIDTH_MAX, &dense.in, err);
    if (status == SEM_OK)
        status = json_get_size(c, path, "out_features", true, 1, DENSE_WIDTH_MAX, &dense.out, err);
    if (status == SEM_OK)
        status = json_get_bool(c, path, "bias", false, &dense.bias, err);
    if (status == SEM_OK)
        status = read_dense_activation(&dense.activation, c, path, err);
    if (status == SEM_OK)
        status = check_dense(c, path, err);
    if (status == SEM_OK && dense.in != config->dim)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: in_features is %zu, expected %zu from the module before it",
                          path, dense.in, config->dim);
    json_decref(c);
    if (status != SEM_OK)
        return status;
    config->dense[config->dense_count++] = dense;
    config->dim = dense.out;
    return SEM_OK;
}

/* --- modules.json */

/* Paths are folders below the model's: never up, never elsewhere. */
static sem_status check_path(const char *where, const char *path, sem_error *err)
{
    bool up = strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 || strstr(path, "/../") != NULL ||
              (strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0);
    if (path[0] == '/' || up)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: path %.128s leads out of the model's folder", where, path);
    return SEM_OK;
}

/* One module; place is its number in the list. */
static sem_status read_module(model_config *config, const char *dir, const char *where, const json_t *module,
                              size_t place, bool *include_prompt, sem_error *err)
{
    const char *type = NULL, *path = "";
    sem_status status = json_get_string(module, where, "type", true, &type, err);
    if (status == SEM_OK)
        status = json_get_string(module, where, "path", false, &path, err);
    if (status == SEM_OK)
        status = check_path(where, path, err);
    if (status != SEM_OK)
        return status;
    const char *dot = strrchr(type, '.');
    const char *name = dot != NULL ? dot + 1 : type;
    if (place >= 2 && strcmp(name, "Dense") == 0 && !config->normalize && config->dense_count < MODEL_DENSE_MAX)
        return read_dense(config, dir, path, err);
    const char *expected = place == 0 ? "Transformer" : place == 1 ? "Pooling" : "Normalize";
    if (strcmp(name, expected) != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: module %zu is %.128s (%.64s), which is not supported there; Transformer, Pooling, up to "
                        "%d Dense and an optional Normalize, in this order, are",
                        where, place, type, path, MODEL_DENSE_MAX);
    if (place == 1) {
        status = read_pooling(config, dir, path, include_prompt, err);
        config->dim = config->hidden * (size_t)__builtin_popcount(config->pooling);
        return status;
    }
    if (place >= 2)
        config->normalize = true;
    else if (path[0] != '\0' && strcmp(path, ".") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: the Transformer lies in %.64s, which is not supported; the model's own folder is", where,
                        path);
    return SEM_OK;
}

static sem_status read_list(model_config *config, const char *dir, const char *where, const json_t *modules,
                            bool *include_prompt, sem_error *err)
{
    if (!json_is_array(modules) || json_array_size(modules) < 2)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: found %s of %zu modules, expected an array of at least 2",
                        where, json_type_name(modules), json_array_size(modules));
    sem_status status = SEM_OK;
    for (size_t i = 0; status == SEM_OK && i < json_array_size(modules); i++)
        status = read_module(config, dir, where, json_array_get(modules, i), i, include_prompt, err);
    return status;
}

sem_status model_modules_read(model_config *config, const char *dir, bool *include_prompt, sem_error *err)
{
    char path[FILES_PATH_MAX];
    config->pooling = POOL_MEAN;
    config->normalize = false;
    config->dim = config->hidden;
    sem_status status = files_join(path, err, "%s/modules.json", dir);
    if (status == SEM_OK && access(path, F_OK) == 0) {
        json_t *modules;
        status = json_load_path(&modules, path, MODULES_FILE_MAX, err);
        if (status != SEM_OK)
            return status;
        status = read_list(config, dir, path, modules, include_prompt, err);
        json_decref(modules);
    }
    return status;
}

const char *model_config_pooling_name(const model_config *config, char *buffer, size_t size)
{
    size_t used = 0;
    if (size > 0)
        buffer[0] = '\0';
    for (size_t i = 0; i < POOLING_COUNT; i++) {
        if ((config->pooling & POOLINGS[i].bit) == 0)
            continue;
        int n = snprintf(buffer + used, size - used, "%s%s", used > 0 ? "+" : "", POOLINGS[i].name);
        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
    }
    return buffer;
}
