/* finetune, model.load, rollback and job: from a request to a job and its answer. */
#include "base/files.h"
#include "model/model.h"
#include "model/towers.h"
#include "daemon/job_waiters.h"
#include "daemon/jobs.h"
#include "daemon/ops.h"
#include "daemon/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Starts a claimed job for a request: the answer goes out now, or with wait at
 * the job's end. Takes t and work. */
static void start_for(worker *w, task *t, job *work, const char *base, bool wait)
{
    jobs *j = w->core->jobs;
    sem_error err;
    uint32_t number;
    bool wants_generation = work->kind == JOB_ROLLBACK;
    sem_status status = jobs_start(j, work, base, wait ? t : NULL, wants_generation, &number, &err);
    jobs_unclaim(j);
    if (status != SEM_OK) {
        job_free(work);
        task_fail(w->core, t, &err);
    } else if (!wait) {
        job_answer_number(w->core, t, "job", number);
    }
}

/* A job that trains or returns is named after the model that serves now. */
static void start_from_current(worker *w, task *t, job *work, bool wait)
{
    serving *now = serving_slot_acquire(&w->core->current);
    start_for(w, t, work, now->folder, wait);
    serving_release(now);
}

/* The end of every request that did not become a job. */
static void refuse(worker *w, task *t, job *work, const sem_error *err)
{
    jobs_unclaim(w->core->jobs);
    job_free(work);
    task_fail(w->core, t, err);
}

/* Without one: as configured, which jobs_make() has put there. */
static sem_status take_mode(const span *mode, job *work, sem_error *err)
{
    static const char *const modes[] = {"full", "query", "auto"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes && mode->data != NULL; i++)
        if (mode->size == strlen(modes[i]) && memcmp(mode->data, modes[i], mode->size) == 0) {
            snprintf(work->mode, sizeof work->mode, "%s", modes[i]);
            return SEM_OK;
        }
    return mode->data == NULL ? SEM_OK
                              : sem_fail(err, SEM_INVALID_ARGUMENT, "mode: \"%.*s\" is none of full, query and auto",
                                         (int)(mode->size < 64 ? mode->size : 64), mode->data);
}

static sem_status prepare_finetune(worker *w, task *t, job *work, sem_error *err)
{
    store_collection c;
    sem_status status = take_mode(&t->request->u.finetune.mode, work, err);
    if (status == SEM_OK)
        status = worker_renew(w, err);
    if (status == SEM_OK && t->request->has_collection) {
        status = worker_collection(w, t, &c, err);
        if (status == SEM_OK && c.external)
            return sem_fail(err, SEM_FAILED_PRECONDITION,
                            "collection: %s holds external vectors; nothing is trained on it", c.name);
        work->collection = c.number;
    }
    size_t missing;
    return status == SEM_OK ? jobs_check_pairs(work, w->read, &missing, err) : status;
}

void op_finetune(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    if (jobs_claim(j, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    job *work = jobs_make(j, JOB_FINETUNE, NULL);
    sem_status status = work != NULL ? prepare_finetune(w, t, work, &err) : sem_fail_memory(&err, "a job");
    if (status == SEM_OK)
        start_from_current(w, t, work, t->request->u.finetune.wait);
    else
        refuse(w, t, work, &err);
}

void op_model_load(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    if (jobs_claim(j, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    const span *path = &t->request->u.model_load.path;
    job *work = jobs_make(j, JOB_LOAD, "load");
    sem_status status = work != NULL ? files_join(work->path, &err, "%.*s", (int)path->size, path->data)
                                     : sem_fail_memory(&err, "a job");
    /* Read and check all of it before the job begins: a wrong path is the caller's error, at once. */
    if (status == SEM_OK) {
        status = towers_are(work->path) ? towers_check(work->path, &err) : model_check(work->path, NULL, &err);
        if (status == SEM_INTERNAL)
            err.code = SEM_INVALID_ARGUMENT;
    }
    if (status == SEM_OK) {
        work->gate = t->request->u.model_load.gate;
        start_for(w, t, work, work->path, false);
    } else {
        refuse(w, t, work, &err);
    }
}

static sem_status check_target(const store_generation *g, uint32_t number, sem_error *err)
{
    switch (g->state) {
    case GENERATION_PREVIOUS:
    case GENERATION_ROLLED_BACK: return SEM_OK;
    case GENERATION_CURRENT:
        return sem_fail(err, SEM_FAILED_PRECONDITION, "generation: %u is the current one already", number);
    case GENERATION_RETIRED:
        return sem_fail(err, SEM_FAILED_PRECONDITION, "generation: %u is retired, its files are gone", number);
    case GENERATION_CANDIDATE: break;
    }
    return sem_fail(err, SEM_NOT_FOUND, "generation: there is no generation %u", number);
}

static sem_status find_target(worker *w, const request *q, uint32_t *target, sem_error *err)
{
    store_generation *all;
    size_t count;
    sem_status status = worker_renew(w, err);
    if (status == SEM_OK)
        status = store_generation_list(w->read, &all, &count, err);
    if (status != SEM_OK)
        return status;
    bool given = q->u.rollback.has_generation, found = false;
    for (size_t i = 0; i < count; i++) {
        bool wanted = given ? all[i].number == q->u.rollback.generation : all[i].state == GENERATION_PREVIOUS;
        if (wanted) { /* without a number: the newest of the previous ones */
            found = true;
            *target = all[i].number;
            status = check_target(&all[i], all[i].number, err);
        }
    }
    store_generations_free(all, count);
    if (found)
        return status;
    return given ? sem_fail(err, SEM_NOT_FOUND, "generation: there is no generation %u", q->u.rollback.generation)
                 : sem_fail(err, SEM_FAILED_PRECONDITION, "there is no previous generation to return to");
}

static sem_status prepare_rollback(worker *w, const task *t, job **out, sem_error *err)
{
    *out = jobs_make(w->core->jobs, JOB_ROLLBACK, "");
    return *out != NULL ? find_target(w, t->request, &(*out)->target, err) : sem_fail_memory(err, "a job");
}

/* Who wants to return does not wait for days. */
static void roll_back_over_trial(worker *w, task *t)
{
    sem_error err;
    job *work;
    sem_status status = prepare_rollback(w, t, &work, &err);
    if (status == SEM_OK)
        status = jobs_start_over_trial(w->core->jobs, work, t, &err);
    if (status == SEM_OK)
        return;
    job_free(work);
    task_fail(w->core, t, &err);
}

void op_rollback(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    job *work;
    if (jobs_claim(j, &err) != SEM_OK) {
        if (err.code == SEM_ALREADY_EXISTS && jobs_on_trial(j))
            roll_back_over_trial(w, t);
        else
            task_fail(w->core, t, &err);
        return;
    }
    sem_status status = prepare_rollback(w, t, &work, &err);
    if (status == SEM_OK)
        start_from_current(w, t, work, true);
    else
        refuse(w, t, work, &err);
}

/* --- asking */

static sem_status stored_job(worker *w, uint32_t number, json_t **out, sem_error *err)
{
    uint32_t found_number;
    char *text;
    bool found;
    sem_status status = worker_renew(w, err);
    if (status == SEM_OK)
        status = store_job_get(w->read, number, &found_number, &text, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found)
        return number != 0 ? sem_fail(err, SEM_NOT_FOUND, "job: there is no job %u", number)
                           : sem_fail(err, SEM_NOT_FOUND, "job: there has been no job yet");
    *out = json_loads(text, 0, NULL);
    free(text);
    if (*out == NULL)
        return sem_fail(err, SEM_INTERNAL, "the record of job %u is no JSON", found_number);
    (void)json_object_del(*out, "resume"); /* what the daemon keeps for itself, where it could not write the end */
    return SEM_OK;
}

/* 0: the latest. *out is NULL where memory is out. */
static sem_status tell_job(worker *w, uint32_t number, json_t **out, sem_error *err)
{
    uint32_t now;
    job_status *s = jobs_status(w->core->jobs);
    job_status_running(s, &now);
    *out = now != 0 && number == now ? job_status_json(s) : NULL;
    if (now != 0 && number == now && (*out == NULL || json_integer_value(json_object_get(*out, "job")) == number))
        return SEM_OK;
    json_decref(*out); /* of the next one, which has begun since */
    *out = NULL;
    return stored_job(w, number, out, err);
}

void op_job(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    uint32_t now;
    const request *q = t->request;
    job_status_running(jobs_status(j), &now);
    uint32_t wanted = q->u.job.has_job ? q->u.job.job : now;
    if (q->u.job.cancel && !jobs_cancel(j, wanted)) {
        if (q->u.job.has_job)
            sem_fail(&err, SEM_FAILED_PRECONDITION, "cancel: job %u is not under way", wanted);
        else
            sem_fail(&err, SEM_FAILED_PRECONDITION, "cancel: no job is under way");
        task_fail(w->core, t, &err);
        return;
    }
    json_t *value;
    sem_status status = tell_job(w, wanted, &value, &err);
    if (status == SEM_OK)
        job_answer_json(w->core, t, value);
    else
        task_fail(w->core, t, &err);
    json_decref(value);
}
