/* What each kind of job does, from its start to the flip. */
#include "base/crash.h"
#include "model/towers.h"
#include "daemon/job.h"
#include "daemon/job_candidate.h"
#include "daemon/job_folder.h"

#include <string.h>

/* Goes on with a generation that is in the store: a candidate's, or one to return to. */
static sem_status embed_stored(job *j, uint32_t number, sem_error *err)
{
    store_read *r;
    store_generation record;
    bool found;
    sem_status status = store_read_begin(j->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = store_generation_get(r, number, &record, &found, err);
    store_read_end(r);
    if (status == SEM_OK && !found)
        status = sem_fail(err, SEM_NOT_FOUND, "generation: there is no generation %u", number);
    if (status != SEM_OK)
        return status;
    crash_point("resume.embedding");
    serving *now = serving_slot_acquire(&j->core->current);
    const bool shared = record.space == space_number(now->space);
    serving_release(now);
    status = shared ? job_flip_within_space(j, &record, false, err) : job_embed_and_flip(j, &record, false, err);
    store_generation_free(&record);
    return status;
}

/* Re-embedding that can't end well is not worth a training. */
static sem_status check_room(const job *j, sem_error *err)
{
    serving *now = serving_slot_acquire(&j->core->current);
    sem_status status = job_room_check(j, space_dim(now->space), err);
    serving_release(now);
    return status;
}

/* By the mode that was asked for. */
static sem_status make_candidate(job *j, pair_set *pairs, job_candidate *out, bool *promote, sem_error *err)
{
    if (strcmp(j->mode, "auto") == 0)
        return job_auto(j, pairs, out, promote, err);
    const job_towers towers = strcmp(j->mode, "query") == 0 ? TOWERS_QUERIES : TOWERS_BOTH;
    sem_status status = job_train(j, pairs, towers, j->model, err);
    if (status == SEM_OK)
        status = job_candidate_open(out, j, j->model, towers == TOWERS_QUERIES, err);
    return status == SEM_OK ? job_candidate_judge(out, j, pairs, promote, err) : status;
}

static sem_status finetune(job *j, sem_error *err)
{
    pair_set pairs;
    job_candidate candidate = {0};
    bool promote = false;
    job_enter(j, PHASE_PAIRS, 0);
    sem_status status = strcmp(j->mode, "full") == 0 ? check_room(j, err) : SEM_OK;
    if (status == SEM_OK)
        status = job_pairs(j, j->collection, &pairs, err);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&j->status->lock);
    j->status->pairs = j->pairs = pairs.count;
    pthread_mutex_unlock(&j->status->lock);
    status = make_candidate(j, &pairs, &candidate, &promote, err);
    pair_set_free(&pairs);
    if (status == SEM_OK && promote)
        status = job_candidate_promote(&candidate, j, candidate.document == NULL ? "query" : "full", err);
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

/* The model to be loaded is copied, once. */
static sem_status copy_model(job *j, sem_error *err)
{
    char dir[FILES_PATH_MAX];
    const store *s = j->core->store;
    if (job_folder_has(s, j->number, j->model))
        return SEM_OK;
    sem_status status = job_folder_begin(s, j->number, j->model, dir, err);
    crash_point("load.copying");
    if (status == SEM_OK)
        status = towers_are(j->path) ? towers_copy(j->path, dir, j->cancel, err)
                                     : files_copy_folder_unless(j->path, dir, j->cancel, err);
    crash_point("load.copied");
    return status == SEM_OK ? job_folder_keep(s, j->number, j->model, err) : status;
}

static sem_status load_model(job *j, sem_error *err)
{
    job_candidate candidate = {0};
    bool promote = false;
    job_enter(j, PHASE_LOADING, 0);
    sem_status status = copy_model(j, err);
    if (status == SEM_OK)
        status = job_candidate_open(&candidate, j, j->model, false, err);
    if (status == SEM_OK)
        status = gate_loaded(j, &candidate, &promote, err);
    if (status == SEM_OK && promote)
        status = job_candidate_promote(&candidate, j, j->mode, err);
    job_candidate_close(&candidate);
    return status;
}

sem_status job_run(job *j, sem_error *err)
{
    if (j->candidate != 0)
        return embed_stored(j, j->candidate, err); /* its gate let it pass: the record was written after that */
    switch (j->kind) {
    case JOB_FINETUNE: return finetune(j, err);
    case JOB_LOAD: return load_model(j, err);
    case JOB_ROLLBACK:
        job_status_decide(j->status, true, j->why[0] != '\0' ? j->why : "rolled back"); /* shown once the job is done */
        crash_point("rollback.begin");
        return embed_stored(j, j->target, err);
    }
    return sem_fail(err, SEM_INTERNAL, "unknown kind of job");
}
