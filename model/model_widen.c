#include "model/model_widen.h"

#include "base/checked.h"
#include "base/files.h"
#include "base/random.h"
#include "model/json.h"

#include <jansson.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MODULES_FILE_MAX = 1 << 20 };

static sem_status write_weights(const char *folder, size_t in, size_t width, uint64_t seed, sem_error *err)
{
    char path[FILES_PATH_MAX];
    size_t count;
    if (!checked_mul(in, width, &count))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a projection of %zu to %zu numbers is too large", in, width);
    float *weights = checked_realloc(NULL, count, sizeof *weights), *biases = calloc(width, sizeof *biases);
    sem_status status = weights != NULL && biases != NULL ? SEM_OK : sem_fail_memory(err, "a projection");
    random_state r;
    random_seed(&r, seed);
    const double most = 1 / sqrt((double)in);
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        weights[i] = (float)(most * (2 * random_unit(&r) - 1));
    const tensor_source tensors[] = {
        {.name = "linear.weight", .dims = 2, .shape = {width, in}, .data = weights},
        {.name = "linear.bias", .dims = 1, .shape = {width}, .data = biases},
    };
    if (status == SEM_OK)
        status = files_join(path, err, "%s/model.safetensors", folder);
    if (status == SEM_OK)
        status = safetensors_write(path, tensors, 2, err);
    free(weights);
    free(biases);
    return status;
}

static sem_status write_dense(const char *to, const char *name, size_t in, size_t width, uint64_t seed, sem_error *err)
{
    char folder[FILES_PATH_MAX], path[FILES_PATH_MAX];
    sem_status status = files_join(folder, err, "%s/%s", to, name);
    if (status == SEM_OK)
        status = files_make_folder(folder, err);
    if (status == SEM_OK)
        status = files_join(path, err, "%s/config.json", folder);
    if (status != SEM_OK)
        return status;
    json_t *config = json_pack("{s:I, s:I, s:b, s:s}", "in_features", (json_int_t)in, "out_features", (json_int_t)width,
                               "bias", 1, "activation_function", "torch.nn.modules.linear.Identity");
    status = json_write_path(path, config, err);
    json_decref(config);
    return status == SEM_OK ? write_weights(folder, in, width, seed, err) : status;
}

static bool is_normalize(const json_t *module)
{
    const char *type = json_string_value(json_object_get(module, "type"));
    const char *dot = type != NULL ? strrchr(type, '.') : NULL;
    return type != NULL && strcmp(dot != NULL ? dot + 1 : type, "Normalize") == 0;
}

/* Puts the module into the list, and its name, "2_Dense" mostly, into name. */
static sem_status add_module(const char *to, char *name, size_t size, sem_error *err)
{
    char path[FILES_PATH_MAX], folder[FILES_PATH_MAX];
    json_t *modules;
    sem_status status = files_join(path, err, "%s/modules.json", to);
    if (status == SEM_OK)
        status = json_load_path(&modules, path, MODULES_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    const size_t count = json_array_size(modules);
    const size_t place = count > 0 && is_normalize(json_array_get(modules, count - 1)) ? count - 1 : count;
    size_t number = place;
    do {
        snprintf(name, size, "%zu_Dense", number++);
        status = files_join(folder, err, "%s/%s", to, name);
    } while (status == SEM_OK && access(folder, F_OK) == 0);
    bool made = json_array_insert_new(modules, place,
                                      json_pack("{s:i, s:s, s:s, s:s}", "idx", 0, "name", "", "path", name, "type",
                                                "sentence_transformers.models.Dense")) == 0;
    for (size_t i = 0; i <= count && made; i++) {
        json_t *module = json_array_get(modules, i);
        made = json_object_set_new(module, "idx", json_integer((json_int_t)i)) == 0 &&
               json_object_set_new(module, "name", json_sprintf("%zu", i)) == 0;
    }
    if (status == SEM_OK && !made)
        status = sem_fail_memory(err, path);
    if (status == SEM_OK)
        status = json_write_path(path, modules, err);
    json_decref(modules);
    return status;
}

static sem_status save_copy(const model *m, const char *to, sem_error *err)
{
    const encoder *e = model_get_encoder(m);
    float *params;
    sem_status status = encoder_copy_params(e, &params, err);
    if (status == SEM_OK)
        status = model_save(model_get_dir(m), to, encoder_layout(e), params, NULL, err);
    free(params);
    return status;
}

sem_status model_save_widened(const model *m, const char *to, size_t width, uint64_t seed, sem_error *err)
{
    char name[32];
    const model_config *c = model_get_config(m);
    if (c->dense_count == MODEL_DENSE_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s has %zu Dense modules already: a projection to %zu numbers would be one too many",
                        model_get_dir(m), c->dense_count, width);
    sem_status status = save_copy(m, to, err);
    if (status != SEM_OK)
        return status;
    status = add_module(to, name, sizeof name, err);
    if (status == SEM_OK)
        status = write_dense(to, name, c->dim, width, seed, err);
    if (status != SEM_OK)
        files_remove_folder(to, NULL);
    return status;
}
