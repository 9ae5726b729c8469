/* What each kind of job does, from its start to the flip. */
#include "base/clock.h"
#include "model/model.h"
#include "daemon/job.h"

#include <string.h>

/* A candidate that passed its gate becomes a generation. */
static sem_status embed_candidate(job *j, uint32_t dim, sem_error *err)
{
    store_generation record = {.state = GENERATION_CANDIDATE,
                               .created_ms = clock_wall_ms(),
                               .dim = dim,
                               .pairs = j->pairs,
                               .job = j->number,
                               .metrics = j->metrics};
    memcpy(record.mode, j->mode, sizeof record.mode);
    memcpy(record.model, j->model, sizeof record.model);
    serving *now = serving_slot_acquire(&j->core->current);
    record.parent = now->generation;
    serving_release(now);
    return job_embed_and_flip(j, &record, true, err);
}

/* In the precision in which it would be served: the gate judges what users would get. */
static sem_status open_candidate(const job *j, const char *dir, model **out, sem_error *err)
{
    const config *c = &j->core->settings;
    model *m;
    sem_status status = model_open_mapped(&m, dir, j->core->log, err);
    if (status != SEM_OK)
        return status;
    status = model_set_precision_kept(m, c->model.precision, c->model.min_cosine, j->core->log, err);
    if (status != SEM_OK) {
        model_close(m);
        return status;
    }
    *out = m;
    return SEM_OK;
}

/* One model for queries and documents, with no vectors yet. */
static sem_status gate_model(job *j, const pair_set *pairs, const model *candidate, bool *promote, sem_error *err)
{
    const gate_contender contender = {.queries = candidate, .documents = candidate};
    return job_gate(j, pairs, &contender, promote, err);
}

static sem_status finetune(job *j, sem_error *err)
{
    pair_set pairs;
    job_status_phase(j->status, PHASE_PAIRS, 0);
    sem_status status = job_pairs(j, j->collection, &pairs, err);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&j->status->lock);
    j->status->pairs = j->pairs = pairs.count;
    pthread_mutex_unlock(&j->status->lock);
    status = job_train(j, &pairs, TOWERS_BOTH, j->model, err);
    bool promote = false;
    model *candidate = NULL;
    char dir[FILES_PATH_MAX];
    if (status == SEM_OK)
        status = files_join(dir, err, "%s/models/%s", store_path(j->core->store), j->model);
    if (status == SEM_OK)
        status = open_candidate(j, dir, &candidate, err);
    if (status == SEM_OK)
        status = gate_model(j, &pairs, candidate, &promote, err);
    uint32_t dim = candidate != NULL ? (uint32_t)model_get_config(candidate)->dim : 0;
    model_close(candidate);
    pair_set_free(&pairs);
    if (status != SEM_OK || !promote)
        return status;
    return embed_candidate(j, dim, err);
}

static sem_status gate_loaded(job *j, model *candidate, bool *promote, sem_error *err)
{
    if (!j->gate) {
        *promote = true;
        job_status_decide(j->status, true, "gate: false");
        return SEM_OK;
    }
    pair_set pairs;
    sem_status status = job_pairs(j, 0, &pairs, err);
    if (status != SEM_OK)
        return status;
    status = gate_model(j, &pairs, candidate, promote, err);
    pair_set_free(&pairs);
    return status;
}

static sem_status load_model(job *j, sem_error *err)
{
    char dir[FILES_PATH_MAX];
    model *candidate = NULL;
    bool promote = false;
    sem_status status = files_join(dir, err, "%s/models/%s", store_path(j->core->store), j->model);
    if (status == SEM_OK)
        status = files_copy_folder(j->path, dir, err);
    if (status == SEM_OK)
        status = open_candidate(j, dir, &candidate, err);
    if (status == SEM_OK)
        status = gate_loaded(j, candidate, &promote, err);
    uint32_t dim = candidate != NULL ? (uint32_t)model_get_config(candidate)->dim : 0;
    model_close(candidate);
    if (status != SEM_OK || !promote)
        return status;
    return embed_candidate(j, dim, err);
}

static sem_status roll_back(job *j, sem_error *err)
{
    store_read *r;
    store_generation record;
    bool found;
    sem_status status = store_read_begin(j->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_generation_get(r, j->target, &record, &found, err);
    store_read_end(r);
    if (status == SEM_OK && !found)
        status = sem_fail(err, SEM_NOT_FOUND, "generation: there is no generation %u", j->target);
    if (status != SEM_OK)
        return status;
    job_status_decide(j->status, true, "rolled back"); /* shown once the job is done */
    serving *now = serving_slot_acquire(&j->core->current);
    const bool shared = record.space == space_number(now->space);
    serving_release(now);
    status = shared ? job_flip_within_space(j, &record, false, err) : job_embed_and_flip(j, &record, false, err);
    store_generation_free(&record);
    return status;
}

sem_status job_run(job *j, sem_error *err)
{
    switch (j->kind) {
    case JOB_FINETUNE: return finetune(j, err);
    case JOB_LOAD: return load_model(j, err);
    case JOB_ROLLBACK: return roll_back(j, err);
    }
    return sem_fail(err, SEM_INTERNAL, "unknown kind of job");
}
