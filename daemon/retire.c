#include "daemon/retire.h"

#include "base/crash.h"
#include "base/files.h"
#include "daemon/writer.h"

#include <stdio.h>
#include <stdlib.h>

enum { RETIRE_MAX = 64 /* at a time; the next start removes the rest */ };

typedef struct cleaning {
    core *core;
    store_generation *all;
    size_t count;
    size_t keep;
    uint32_t just_left;
    uint32_t candidate; /* that stays */
    uint32_t spaces[RETIRE_MAX];
    size_t space_count;
    char models[RETIRE_MAX * STORE_GENERATION_MODELS][STORE_MODEL_MAX + 1];
    size_t model_count;
} cleaning;

static bool space_is_named(const cleaning *c, uint32_t number)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->all[i].state != GENERATION_RETIRED && c->all[i].space == number)
            return true;
    return false;
}

static bool model_is_named(const cleaning *c, const char *folder)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->all[i].state != GENERATION_RETIRED && store_generation_names(&c->all[i], folder))
            return true;
    return false;
}

static void note_files(cleaning *c, const store_generation *g)
{
    const char *names[STORE_GENERATION_MODELS];
    if (c->space_count == RETIRE_MAX)
        return;
    c->spaces[c->space_count++] = g->space;
    for (size_t i = store_generation_models(g, names); i-- > 0;)
        snprintf(c->models[c->model_count++], sizeof c->models[0], "%s", names[i]);
}

/* In which order old generations are kept: first the one that was just current,
 * from which requests that began under it still read, then the previous ones,
 * then those that were rolled back; -1: not an old one. */
static int turn_of(const cleaning *c, const store_generation *g)
{
    if (g->state != GENERATION_PREVIOUS && g->state != GENERATION_ROLLED_BACK)
        return -1;
    return g->number == c->just_left ? 0 : g->state == GENERATION_PREVIOUS ? 1 : 2;
}

static sem_status retire_old(cleaning *c, store_write *w, sem_error *err)
{
    sem_status status = SEM_OK;
    size_t kept = 0;
    for (int turn = 0; turn <= 2; turn++)
        for (size_t i = c->count; i-- > 0 && status == SEM_OK;) {
            store_generation *g = &c->all[i];
            if (turn_of(c, g) != turn || ++kept <= c->keep)
                continue;
            note_files(c, g);
            g->state = GENERATION_RETIRED;
            status = store_generation_put(w, g, err);
        }
    return status;
}

/* Candidates that no job embeds any more go; of the old generations the newest
 * `keep` stay. */
static sem_status retire_records(void *context, store_write *w, sem_error *err)
{
    cleaning *c = context;
    sem_status status = store_generation_list(store_write_view(w), &c->all, &c->count, err);
    for (size_t i = 0; i < c->count && status == SEM_OK; i++) {
        store_generation *g = &c->all[i];
        if (g->state != GENERATION_CANDIDATE || g->number == c->candidate)
            continue;
        note_files(c, g);
        g->state = GENERATION_RETIRED;
        status = store_generation_remove(w, g->number, err);
    }
    status = status == SEM_OK ? retire_old(c, w, err) : status;
    if (c->space_count > 0)
        crash_point("retire.recording");
    return status;
}

/* Whoever read from these has long finished: since they were current another
 * generation was (the one just left is kept, finetune.keep is at least 1). */
static void remove_files(cleaning *c)
{
    char dir[FILES_PATH_MAX];
    sem_error err;
    if (c->space_count > 0)
        crash_point("retire.recorded");
    for (size_t i = 0; i < c->space_count; i++)
        if (!space_is_named(c, c->spaces[i]) && store_space_remove(c->core->store, c->spaces[i], &err) != SEM_OK)
            log_event(c->core->log, LOG_LEVEL_WARNING, "retire", "space=%u message=\"%s\"", c->spaces[i], err.message);
    if (c->space_count > 0)
        crash_point("retire.spaces_removed");
    for (size_t i = 0; i < c->model_count; i++)
        if (!model_is_named(c, c->models[i]) &&
            files_join(dir, &err, "%s/models/%s", store_path(c->core->store), c->models[i]) == SEM_OK &&
            files_remove_folder(dir, &err) != SEM_OK)
            log_event(c->core->log, LOG_LEVEL_WARNING, "retire", "model=%s message=\"%s\"", c->models[i], err.message);
}

void retire_generations(core *owner, size_t keep, uint32_t just_left, uint32_t candidate)
{
    cleaning *c = calloc(1, sizeof *c);
    if (c == NULL)
        return;
    c->core = owner;
    c->keep = keep;
    c->just_left = just_left;
    c->candidate = candidate;
    write_call call = {.apply = retire_records, .context = c};
    sem_error err;
    if (writer_run(owner->writer, &call, &err) == SEM_OK)
        remove_files(c);
    else
        log_event(owner->log, LOG_LEVEL_WARNING, "retire", "message=\"%s\"", err.message);
    store_generations_free(c->all, c->count);
    free(c);
}
