#include "daemon/seed.h"

#include "base/clock.h"
#include "base/files.h"
#include "model/model.h"
#include "daemon/model_name.h"

#include <stdlib.h>
#include <string.h>

/* Read and checked whole before anything is copied. */
static sem_status check_model(const char *path, uint32_t *dim, sem_error *err)
{
    size_t width = 0;
    if (path[0] == '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "model.path: not set, and the store has no model yet; name a sentence-transformers directory");
    sem_status status = model_check(path, &width, err);
    if (status != SEM_OK)
        return sem_error_prefix(err, "model.path");
    *dim = (uint32_t)width;
    return SEM_OK;
}

/* Neither may lie in the other: the model would be copied into itself, or what a failed
 * start has left would be removed together with the model. */
static sem_status check_apart(const char *path, const char *folder, sem_error *err)
{
    bool inside = false, around = false;
    sem_status status = files_lies_in(path, folder, &inside, err);
    if (status == SEM_OK)
        status = files_lies_in(folder, path, &around, err);
    if (status == SEM_OK && (inside || around))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "model.path %s lies %s %s, where storage.path keeps models; choose another of the two", path,
                        inside ? "in" : "around", folder);
    return status;
}

/* to: where the model goes, [FILES_PATH_MAX]. */
static sem_status copy_model(const store *s, const char *name, const config *c, char *to, sem_error *err)
{
    char folder[FILES_PATH_MAX], note[FILES_PATH_MAX];
    sem_status status = files_join(folder, err, "%s/models", store_path(s));
    if (status == SEM_OK)
        status = files_make_folder(folder, err);
    if (status == SEM_OK)
        status = check_apart(c->model.path, folder, err);
    if (status == SEM_OK)
        status = files_join(to, err, "%s/%s", folder, name);
    if (status == SEM_OK)
        status = files_join(note, err, "%s/seeded_from", store_path(s));
    if (status == SEM_OK)
        status = files_remove_folder(to, err);
    if (status != SEM_OK)
        return status;
    status = files_copy_folder(c->model.path, to, err);
    if (status == SEM_OK)
        status = files_write(note, c->model.path, strlen(c->model.path), err);
    if (status != SEM_OK)
        files_remove_folder(to, NULL);
    return status;
}

/* A store whose first model embeds nothing could not be started again, with no other
 * model either. */
static sem_status try_copy(const char *copy, sem_log *log, sem_error *err)
{
    model *m;
    sem_status status = model_open_mapped(&m, copy, log, err);
    if (status == SEM_OK) {
        status = model_try(m, err);
        model_close(m);
    }
    return status == SEM_OK ? SEM_OK : sem_error_prefix(err, "model.path");
}

static sem_status write_seed(store *s, store_generation *g, sem_error *err)
{
    store_write *w;
    store_collection standard = {.lexical = true, .metric = METRIC_COSINE};
    bool created;
    strcpy(standard.name, "default");
    sem_status status = store_write_begin(s, &w, err);
    if (status != SEM_OK)
        return status;
    status = store_generation_next(w, &g->number, &g->space, err);
    if (status == SEM_OK)
        status = store_generation_put(w, g, err);
    if (status == SEM_OK)
        status = store_generation_flip(w, g->number, GENERATION_PREVIOUS, err);
    if (status == SEM_OK)
        status = store_collection_create(w, &standard, &created, err);
    if (status == SEM_OK)
        return store_write_commit(w, err);
    store_write_abort(w);
    return status;
}

static sem_status seed(store *s, store_generation *g, const config *c, sem_log *log, sem_error *err)
{
    char text[FILES_PATH_MAX], copy[FILES_PATH_MAX];
    *g = (store_generation){.created_ms = clock_wall_ms(), .state = GENERATION_CURRENT, .mode = "seed"};
    model_name_plain(c->model.path, strlen(c->model.path), g->model);
    sem_status status = check_model(c->model.path, &g->dim, err);
    if (status == SEM_OK)
        status = copy_model(s, g->model, c, copy, err);
    if (status != SEM_OK)
        return status;
    status = try_copy(copy, log, err);
    if (status == SEM_OK)
        status = write_seed(s, g, err);
    if (status != SEM_OK)
        files_remove_folder(copy, NULL);
    else
        log_event(log, LOG_LEVEL_INFO, "seeded", "generation=%u dim=%u model=%s", g->number, g->dim,
                  log_value(text, sizeof text, c->model.path));
    return status;
}

static void note_other_path(const store *s, const config *c, sem_log *log)
{
    char note[FILES_PATH_MAX], text[FILES_PATH_MAX], *from;
    size_t size;
    if (c->model.path[0] == '\0' || files_join(note, NULL, "%s/seeded_from", store_path(s)) != SEM_OK ||
        files_read(note, FILES_PATH_MAX, &from, &size, NULL) != SEM_OK)
        return;
    if (strcmp(from, c->model.path) != 0)
        log_event(log, LOG_LEVEL_WARNING, "model_path_ignored",
                  "model.path=%s reason=\"it seeds the first generation only; model.load changes models\"",
                  log_value(text, sizeof text, c->model.path));
    free(from);
}

static sem_status find_current(store *s, store_generation *current, bool *found, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(s, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_generation_current(r, current, found, err);
    store_read_end(r);
    return status;
}

sem_status seed_open_store(store **out, store_generation *current, const config *c, sem_log *log, sem_error *err)
{
    store_options options = {.path = c->storage.path, .map_size = c->storage.map_size, .max_size = c->storage.max_size};
    bool found;
    sem_status status = store_open(out, &options, log, err);
    if (status != SEM_OK)
        return status;
    status = find_current(*out, current, &found, err);
    if (status == SEM_OK && !found)
        status = seed(*out, current, c, log, err);
    else if (status == SEM_OK)
        note_other_path(*out, c, log);
    if (status == SEM_OK)
        status = store_space_open(*out, current->space, current->dim, err);
    if (status != SEM_OK) {
        store_close(*out);
        *out = NULL;
    }
    return status;
}
