/* A checkpoint in several files, as transformers writes large models: an index
 * that names for each tensor the file in which it lies. */
#include "base/checked.h"
#include "base/files.h"
#include "model/json.h"
#include "model/safetensors_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    INDEX_FILE_MAX = 64 << 20, /* bytes */
    SHARDS_MAX = 1024
};

/* The shard of that name, opened when it is met for the first time. */
static sem_status find_shard(safetensors *f, const char *dir, const char *name, safetensors **out, sem_error *err)
{
    char path[FILES_PATH_MAX];
    if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %.128s is not the name of a file beside it", f->path, name);
    sem_status status = files_join(path, err, "%s/%s", dir, name);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < f->shard_count; i++)
        if (strcmp(f->shards[i]->path, path) == 0) {
            *out = f->shards[i];
            return SEM_OK;
        }
    if (f->shard_count == SHARDS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: more than %d files", f->path, SHARDS_MAX);
    status = safetensors_open(&f->shards[f->shard_count], path, err);
    if (status == SEM_OK)
        *out = f->shards[f->shard_count++];
    return status;
}

static sem_status read_map(safetensors *f, const char *dir, const json_t *map, sem_error *err)
{
    const char *name;
    json_t *file;
    json_object_foreach((json_t *)map, name, file)
    {
        safetensors *shard = NULL;
        if (!json_is_string(file))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: weight_map.%.128s is %s, expected a string", f->path, name,
                            json_type_name(file));
        sem_status status = find_shard(f, dir, json_string_value(file), &shard, err);
        if (status != SEM_OK)
            return status;
        const tensor_view *view = safetensors_find(shard, name);
        if (view == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: tensor %.128s is not in %s", f->path, name, shard->path);
        f->views[f->count++] = *view;
    }
    return SEM_OK;
}

/* A tensor that the index does not name would be loaded by some and not by others. */
static sem_status check_all_named(const safetensors *f, sem_error *err)
{
    size_t tensors = 0;
    for (size_t i = 0; i < f->shard_count; i++)
        tensors += f->shards[i]->count;
    if (tensors != f->count)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: names %zu tensors, its files hold %zu", f->path, f->count,
                        tensors);
    return SEM_OK;
}

static sem_status open_index(safetensors *f, const char *dir, sem_error *err)
{
    json_t *index;
    sem_status status = json_load_path(&index, f->path, INDEX_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    const json_t *map = json_object_get(index, "weight_map");
    size_t count = json_object_size(map);
    if (!json_is_object(map) || count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: weight_map is %s of %zu tensors, expected an object", f->path,
                          json_type_name(map), count);
    f->views = checked_realloc(NULL, count + 1, sizeof *f->views);
    f->by_name = checked_realloc(NULL, count + 1, sizeof *f->by_name);
    f->shards = calloc(SHARDS_MAX, sizeof(safetensors *));
    if (status == SEM_OK && (f->views == NULL || f->by_name == NULL || f->shards == NULL))
        status = sem_fail_memory(err, f->path);
    if (status == SEM_OK)
        status = read_map(f, dir, map, err);
    if (status == SEM_OK)
        status = check_all_named(f, err);
    if (status == SEM_OK)
        safetensors_sort(f);
    json_decref(index);
    return status;
}

sem_status safetensors_open_folder(safetensors **out, const char *dir, sem_error *err)
{
    char path[FILES_PATH_MAX], index[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/model.safetensors", dir);
    if (status == SEM_OK)
        status = files_join(index, err, "%s/model.safetensors.index.json", dir);
    if (status != SEM_OK)
        return status;
    if (access(path, F_OK) == 0 || access(index, F_OK) != 0)
        return safetensors_open(out, path, err);
    safetensors *f = calloc(1, sizeof *f);
    if (f == NULL || (f->path = strdup(index)) == NULL) {
        free(f);
        return sem_fail_memory(err, index);
    }
    f->fd = -1;
    status = open_index(f, dir, err);
    if (status != SEM_OK) {
        safetensors_close(f);
        return status;
    }
    *out = f;
    return SEM_OK;
}
