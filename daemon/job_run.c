/* What each kind of job does, from its start to the flip. */
#include "model/towers.h"
#include "daemon/job.h"
#include "daemon/job_candidate.h"

#include <string.h>

/* Re-embedding that can't end well is not worth a training. */
static sem_status check_room(const job *j, job_towers towers, sem_error *err)
{
    if (towers == TOWERS_QUERIES)
        return SEM_OK;
    serving *now = serving_slot_acquire(&j->core->current);
    sem_status status = job_room_check(j, space_dim(now->space), err);
    serving_release(now);
    return status;
}

static sem_status finetune(job *j, sem_error *err)
{
    pair_set pairs;
    job_candidate candidate = {0};
    bool promote = false;
    job_status_phase(j->status, PHASE_PAIRS, 0);
    const job_towers towers = strcmp(j->mode, "query") == 0 ? TOWERS_QUERIES : TOWERS_BOTH;
    sem_status status = check_room(j, towers, err);
    if (status == SEM_OK)
        status = job_pairs(j, j->collection, &pairs, err);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&j->status->lock);
    j->status->pairs = j->pairs = pairs.count;
    pthread_mutex_unlock(&j->status->lock);
    status = job_train(j, &pairs, towers, j->model, err);
    if (status == SEM_OK)
        status = job_candidate_open(&candidate, j, j->model, towers == TOWERS_QUERIES, err);
    if (status == SEM_OK)
        status = job_candidate_judge(&candidate, j, &pairs, &promote, err);
    pair_set_free(&pairs);
    if (status == SEM_OK && promote)
        status = job_candidate_promote(&candidate, j, j->mode, err);
    job_candidate_close(&candidate);
    return status;
}

static sem_status gate_loaded(job *j, const job_candidate *candidate, bool *promote, sem_error *err)
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
    status = job_candidate_judge(candidate, j, &pairs, promote, err);
    pair_set_free(&pairs);
    return status;
}

static sem_status load_model(job *j, sem_error *err)
{
    char dir[FILES_PATH_MAX];
    job_candidate candidate = {0};
    bool promote = false;
    sem_status status = files_join(dir, err, "%s/models/%s", store_path(j->core->store), j->model);
    if (status == SEM_OK)
        status = towers_are(j->path) ? towers_copy(j->path, dir, err) : files_copy_folder(j->path, dir, err);
    if (status == SEM_OK)
        status = job_candidate_open(&candidate, j, j->model, false, err);
    if (status == SEM_OK)
        status = gate_loaded(j, &candidate, &promote, err);
    if (status == SEM_OK && promote)
        status = job_candidate_promote(&candidate, j, j->mode, err);
    job_candidate_close(&candidate);
    return status;
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
    job_status_decide(j->status, true, j->why[0] != '\0' ? j->why : "rolled back"); /* shown once the job is done */
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
