#include "daemon/job_candidate.h"

#include "base/clock.h"
#include "base/niceness.h"
#include "model/towers.h"
#include "daemon/job_folder.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_status path_of(const job *j, const char *folder, char out[FILES_PATH_MAX], sem_error *err)
{
    return job_folder_path(j->core->store, j->number, folder, out, err);
}

/* One tower, opened by a helper: measuring is passes over hundreds of texts, which are not to be in the way of
 * searches. */
typedef struct tower_opening {
    const job *job;
    const char *path;
    model_tower which;
    model *opened; /* the helper's until it has ended */
    sem_status status;
    sem_error error;
} tower_opening;

static sem_status open_and_measure(const tower_opening *o, model **out, sem_error *err)
{
    const config *c = &o->job->core->settings;
    char dir[FILES_PATH_MAX];
    model *m;
    sem_status status = towers_folder(dir, o->path, o->which, err);
    if (status == SEM_OK)
        status = model_open_mapped(&m, dir, o->job->core->log, err);
    if (status != SEM_OK)
        return status;
    status =
        model_set_precision_kept(m, c->model.precision, c->model.min_cosine, o->job->cancel, o->job->core->log, err);
    if (status != SEM_OK) {
        model_close(m);
        return status;
    }
    *out = m;
    return SEM_OK;
}

static void *tower_main(void *argument)
{
    tower_opening *o = argument;
    (void)niceness_add(patience_nice(o->job->settings.train.nice),
                       NULL); /* without the right to, it is opened all the same */
    o->status = open_and_measure(o, &o->opened, &o->error);
    return NULL;
}

static sem_status open_tower(const job *j, const char *path, model_tower which, model **out, sem_error *err)
{
    pthread_t helper;
    tower_opening o = {.job = j, .path = path, .which = which};
    if (pthread_create(&helper, NULL, tower_main, &o) != 0)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread that opens a model");
    pthread_join(helper, NULL);
    if (o.status == SEM_OK)
        *out = o.opened;
    else if (err != NULL)
        *err = o.error;
    return o.status;
}

static sem_status check_width(const job_candidate *c, sem_error *err)
{
    const size_t query = model_get_config(c->query)->dim;
    const size_t document = c->document != NULL ? model_get_config(c->document)->dim : space_dim(c->now->space);
    return query == document ? SEM_OK
                             : sem_fail(err, SEM_INVALID_ARGUMENT,
                                        "queries become vectors of %zu floats, documents of %zu; they must be as wide",
                                        query, document);
}

sem_status job_candidate_open(job_candidate *out, const job *j, const char *folder, bool keeps_vectors, sem_error *err)
{
    char path[FILES_PATH_MAX];
    *out = (job_candidate){.now = serving_slot_acquire(&j->core->current)};
    snprintf(out->folder, sizeof out->folder, "%s", folder);
    sem_status status = path_of(j, folder, path, err);
    if (status == SEM_OK)
        status = open_tower(j, path, TOWER_QUERY, &out->query, err);
    if (status == SEM_OK && !keeps_vectors && towers_are(path))
        status = open_tower(j, path, TOWER_DOCUMENT, &out->document, err);
    else if (status == SEM_OK && !keeps_vectors)
        out->document = out->query;
    if (status == SEM_OK)
        status = check_width(out, err);
    if (status != SEM_OK)
        job_candidate_close(out);
    return status;
}

void job_candidate_close(job_candidate *c)
{
    if (c->document != c->query)
        model_close(c->document);
    model_close(c->query);
    serving_release(c->now);
    *c = (job_candidate){0};
}

sem_status job_candidate_judge(const job_candidate *c, job *j, const pair_set *pairs, bool *promote, sem_error *err)
{
    const bool keeps = c->document == NULL;
    const gate_contender contender = {
        .queries = c->query, .documents = keeps ? c->now->document : c->document, .stored = keeps ? c->now : NULL};
    return job_gate(j, pairs, &contender, promote, err);
}

/* Beside the query model goes a copy of the model that it was made for: what semd learned can be
 * opened elsewhere, whole. What is served of it is the query model; documents keep theirs. */
static sem_status join_towers(const job_candidate *c, const job *j, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = path_of(j, c->folder, path, err);
    if (status != SEM_OK || towers_are(path)) /* an earlier process came so far */
        return status;
    return towers_join(path, model_get_dir(c->now->document), err);
}

sem_status job_candidate_promote(job_candidate *c, job *j, const char *mode, sem_error *err)
{
    const bool keeps = c->document == NULL;
    store_generation record = {.state = GENERATION_CANDIDATE,
                               .created_ms = clock_wall_ms(),
                               .parent = c->now->generation,
                               .dim = (uint32_t)model_get_config(c->query)->dim,
                               .pairs = j->pairs,
                               .job = j->number,
                               .metrics = j->metrics};
    snprintf(record.mode, sizeof record.mode, "%s", mode);
    memcpy(keeps ? record.query_model : record.model, c->folder, sizeof record.model);
    sem_status status = SEM_OK;
    if (keeps) {
        memcpy(record.model, c->now->folder, sizeof record.model);
        record.space = space_number(c->now->space);
        status = join_towers(c, j, err);
    } else {
        status = job_room_check(j, record.dim, err);
    }
    char folder[STORE_MODEL_MAX + 1];
    memcpy(folder, c->folder, sizeof folder);
    job_candidate_close(c);
    if (status == SEM_OK)
        status = job_folder_promote(j->core->store, j->number, folder, err);
    if (status != SEM_OK)
        return status;
    status = keeps ? job_flip_within_space(j, &record, true, err) : job_embed_and_flip(j, &record, true, err);
    if (status != SEM_OK && j->candidate == 0) /* no record names it, by which it would be removed */
        job_folder_demote(j->core->store, folder);
    return status;
}
