#include "daemon/serving.h"

#include "base/files.h"
#include "base/pages.h"

#include <stdlib.h>

static sem_status open_model(serving *s, const store_generation *g, const char *storage, const config *settings,
                             sem_log *log, sem_error *err)
{
    char dir[FILES_PATH_MAX];
    sem_status status = files_join(dir, err, "%s/models/%s", storage, g->model);
    if (status == SEM_OK)
        status = model_open_mapped(&s->model, dir, log, err);
    if (status == SEM_OK && model_get_config(s->model)->dim != space_dim(s->space))
        status = sem_fail(err, SEM_INTERNAL, "%s makes vectors of %zu dimensions, but generation %u was built with %zu",
                          dir, model_get_config(s->model)->dim, g->number, space_dim(s->space));
    if (status != SEM_OK)
        return status;
    status = model_set_precision_kept(s->model, settings->model.precision, settings->model.min_cosine, log, err);
    if (status == SEM_OK)
        status = model_try(s->model, err);
    return status == SEM_OK ? SEM_OK : sem_error_prefix(err, "%s", dir);
}

sem_status serving_open(serving **out, const store_generation *g, const char *storage, space *from,
                        const config *settings, sem_log *log, sem_error *err)
{
    serving *s = calloc(1, sizeof *s);
    if (s == NULL) {
        space_destroy(from);
        return sem_fail_memory(err, "a generation");
    }
    s->references = 1;
    s->generation = g->number;
    s->space = from;
    sem_status status = open_model(s, g, storage, settings, log, err);
    if (status != SEM_OK) {
        serving_release(s);
        return status;
    }
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
    model_close(s->model);
    space_destroy(s->space);
    free(s);
    pages_trim();
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
