#include "daemon/serving.h"

#include "base/files.h"
#include "base/pages.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct serving_model {
    atomic_int references;
    model *model; /* owned */
};

static void release_model(serving_model *m)
{
    if (m == NULL || atomic_fetch_sub(&m->references, 1) != 1)
        return;
    model_close(m->model);
    free(m);
}

static serving_model *retain_model(serving_model *m)
{
    atomic_fetch_add(&m->references, 1);
    return m;
}

static sem_status open_folder(model **out, const char *dir, const config *settings, sem_log *log, sem_error *err)
{
    model *m;
    sem_status status = model_open_mapped(&m, dir, log, err);
    if (status != SEM_OK)
        return status;
    status = model_set_precision_kept(m, settings->model.precision, settings->model.min_cosine, NULL, log, err);
    if (status == SEM_OK)
        status = model_try(m, err);
    if (status != SEM_OK) {
        model_close(m);
        return sem_error_prefix(err, "%s", dir);
    }
    *out = m;
    return SEM_OK;
}

/* The model of the directory, if the serving (may be NULL) has it open. */
static serving_model *find_open(const serving *s, const char *dir)
{
    for (int i = 0; s != NULL && i < 2; i++)
        if (s->models[i] != NULL && strcmp(model_get_dir(s->models[i]->model), dir) == 0)
            return s->models[i];
    return NULL;
}

/* Where the generation's tower lies. */
static sem_status tower_folder(const store_generation *g, const char *storage, model_tower which,
                               char out[FILES_PATH_MAX], sem_error *err)
{
    char folder[FILES_PATH_MAX];
    const char *name = which == TOWER_QUERY ? store_generation_query_model(g) : g->model;
    sem_status status = files_join(folder, err, "%s/models/%s", storage, name);
    return status == SEM_OK ? towers_folder(out, folder, which, err) : status;
}

static sem_status open_tower(serving *s, const store_generation *g, const char *storage, model_tower which,
                             const serving *like, const config *settings, sem_log *log, sem_error *err)
{
    char dir[FILES_PATH_MAX];
    sem_status status = tower_folder(g, storage, which, dir, err);
    if (status != SEM_OK)
        return status;
    serving_model *open = find_open(s, dir);
    if (open == NULL)
        open = find_open(like, dir);
    if (open != NULL) {
        s->models[which] = retain_model(open);
        return SEM_OK;
    }
    serving_model *fresh = calloc(1, sizeof *fresh);
    if (fresh == NULL)
        return sem_fail_memory(err, "a model");
    fresh->references = 1;
    s->models[which] = fresh;
    status = open_folder(&fresh->model, dir, settings, log, err);
    const size_t dim = space_dim(s->space);
    if (status == SEM_OK && model_get_config(fresh->model)->dim != dim)
        status = sem_fail(err, SEM_INTERNAL, "%s makes vectors of %zu dimensions, but generation %u was built with %zu",
                          dir, model_get_config(fresh->model)->dim, g->number, dim);
    return status;
}

sem_status serving_open(serving **out, const store_generation *g, const char *storage, space *from, const serving *like,
                        const config *settings, sem_log *log, sem_error *err)
{
    serving *s = calloc(1, sizeof *s);
    if (s == NULL) {
        space_release(from);
        return sem_fail_memory(err, "a generation");
    }
    s->references = 1;
    s->generation = g->number;
    s->space = from;
    snprintf(s->folder, sizeof s->folder, "%s", g->model);
    snprintf(s->query_folder, sizeof s->query_folder, "%s", store_generation_query_model(g));
    sem_status status = open_tower(s, g, storage, TOWER_DOCUMENT, like, settings, log, err);
    if (status == SEM_OK)
        status = open_tower(s, g, storage, TOWER_QUERY, like, settings, log, err);
    if (status != SEM_OK) {
        serving_release(s);
        return status;
    }
    s->document = s->models[TOWER_DOCUMENT]->model;
    s->query = s->models[TOWER_QUERY]->model;
    pages_trim(); /* what opening and measuring took */
    *out = s;
    return SEM_OK;
}

serving *serving_retain(serving *s)
{
    atomic_fetch_add(&s->references, 1);
    return s;
}

void serving_release(serving *s)
{
    if (s == NULL || atomic_fetch_sub(&s->references, 1) != 1)
        return;
    release_model(s->models[TOWER_QUERY]);
    release_model(s->models[TOWER_DOCUMENT]);
    space_release(s->space);
    free(s);
    pages_trim();
}

const model *serving_tower(const serving *s, model_tower which)
{
    return which == TOWER_QUERY ? s->query : s->document;
}

bool serving_has_two(const serving *s)
{
    return s->query != s->document;
}

bool serving_shares_space(const serving *a, const serving *b)
{
    return a != NULL && b != NULL && a->space == b->space;
}

void serving_slot_init(serving_slot *slot)
{
    pthread_mutex_init(&slot->lock, NULL);
    slot->now = NULL;
}

serving *serving_slot_acquire(serving_slot *slot)
{
    pthread_mutex_lock(&slot->lock);
    serving *s = slot->now != NULL ? serving_retain(slot->now) : NULL;
    pthread_mutex_unlock(&slot->lock);
    return s;
}

serving *serving_slot_swap(serving_slot *slot, serving *next)
{
    pthread_mutex_lock(&slot->lock);
    serving *old = slot->now;
    slot->now = next;
    pthread_mutex_unlock(&slot->lock);
    return old;
}
