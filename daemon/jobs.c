#include "daemon/jobs.h"

#include "base/clock.h"
#include "daemon/job.h"
#include "daemon/json_pack.h"
#include "daemon/writer.h"
#include "model/model.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_TRIM_INTERVAL_S = 60 };

typedef struct waiter {
    struct waiter *next;
    task *task;
    bool wants_generation; /* rollback's answer; else the whole job */
} waiter;

struct jobs {
    core *core;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below; rank 2 (status.lock may be taken under it) */
    pthread_cond_t wake;  /* there is a job, or it is time to stop */
    pthread_cond_t idle;  /* a job has ended and its record is written */
    job *next;            /* accepted, under way or ending; owned by the thread */
    bool accepting;       /* a request is just being turned into a job */
    bool stop;
    waiter *waiters;
    config settings;      /* for the next job */
    uint64_t last_interval_ms; /* monotonic: when finetune.interval last began to run */
    atomic_bool cancel;
    job_status status;
};

/* --- records in the store */

typedef struct record_write {
    jobs *jobs;
    uint32_t number; /* 0: take the next one */
    char *json;
} record_write;

static sem_status put_record(void *context, store_write *w, sem_error *err)
{
    record_write *r = context;
    sem_status status = SEM_OK;
    if (r->number == 0)
        status = store_job_next(w, &r->number, err);
    return status == SEM_OK ? store_job_put(w, r->number, r->json, err) : status;
}

static void save_record(jobs *j)
{
    sem_error err;
    json_t *value = job_status_json(&j->status);
    record_write r = {.jobs = j, .json = value != NULL ? json_dumps(value, JSON_COMPACT) : NULL};
    uint32_t number;
    job_status_running(&j->status, &number);
    r.number = number;
    write_call call = {.apply = put_record, .context = &r};
    sem_status status = r.json != NULL ? writer_run(j->core->writer, &call, &err) : sem_fail_memory(&err, "a job");
    if (status != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_ERROR, "job_record", "job=%u message=\"%s\"", number, err.message);
    free(r.json);
    json_decref(value);
}

/* --- one job */

static sem_status finetune(job *j, sem_error *err)
{
    store_read *r;
    pair_set pairs;
    job_status_phase(j->status, PHASE_PAIRS, 0);
    sem_status status = store_read_begin(j->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    pair_options options = {.collection = j->collection,
                            .heldout_share = j->settings.finetune.heldout_share,
                            .key = store_user_key(j->core->store)};
    status = pair_set_collect(&pairs, r, &options, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    pthread_mutex_lock(&j->status->lock);
    j->status->pairs = j->pairs = pairs.count;
    pthread_mutex_unlock(&j->status->lock);
    status = job_train(j, &pairs, err);
    bool promote = false;
    model *candidate = NULL;
    char dir[FILES_PATH_MAX];
    if (status == SEM_OK)
        status = files_join(dir, err, "%s/models/%s", store_path(j->core->store), j->model);
    if (status == SEM_OK)
        status = model_open(&candidate, dir, NULL, j->core->log, err);
    if (status == SEM_OK)
        status = job_gate(j, &pairs, candidate, &promote, err);
    uint32_t dim = candidate != NULL ? (uint32_t)model_get_config(candidate)->dim : 0;
    model_close(candidate);
    pair_set_free(&pairs);
    if (status != SEM_OK || !promote)
        return status;
    store_generation record = {.state = GENERATION_CANDIDATE, .created_ms = clock_wall_ms(), .dim = dim,
                               .pairs = j->pairs, .job = j->number, .metrics = j->metrics};
    strcpy(record.mode, j->mode);
    strcpy(record.model, j->model);
    serving *now = serving_slot_acquire(&j->core->current);
    record.parent = now->generation;
    serving_release(now);
    return job_embed_and_flip(j, &record, true, err);
}

static sem_status gate_loaded(job *j, model *candidate, bool *promote, sem_error *err)
{
    if (!j->gate) {
        *promote = true;
        job_status_decide(j->status, true, "gate: false");
        return SEM_OK;
    }
    store_read *r;
    pair_set pairs;
    sem_status status = store_read_begin(j->core->store, &r, err);
    if (status != SEM_OK)
        return status;
    pair_options options = {.heldout_share = j->settings.finetune.heldout_share,
                            .key = store_user_key(j->core->store)};
    status = pair_set_collect(&pairs, r, &options, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    status = job_gate(j, &pairs, candidate, promote, err);
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
        status = model_open(&candidate, dir, NULL, j->core->log, err);
    if (status == SEM_OK)
        status = gate_loaded(j, candidate, &promote, err);
    uint32_t dim = candidate != NULL ? (uint32_t)model_get_config(candidate)->dim : 0;
    model_close(candidate);
    if (status != SEM_OK || !promote)
        return status;
    store_generation record = {.state = GENERATION_CANDIDATE, .created_ms = clock_wall_ms(), .dim = dim,
                               .job = j->number, .metrics = j->metrics};
    strcpy(record.mode, j->mode);
    strcpy(record.model, j->model);
    serving *now = serving_slot_acquire(&j->core->current);
    record.parent = now->generation;
    serving_release(now);
    return job_embed_and_flip(j, &record, true, err);
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
    status = job_embed_and_flip(j, &record, false, err);
    if (status == SEM_OK)
        job_status_decide(j->status, true, "rolled back");
    store_generation_free(&record);
    return status;
}

static sem_status run_kind(job *j, sem_error *err)
{
    switch (j->kind) {
    case JOB_FINETUNE: return finetune(j, err);
    case JOB_LOAD: return load_model(j, err);
    case JOB_ROLLBACK: return roll_back(j, err);
    }
    return sem_fail(err, SEM_INTERNAL, "unknown kind of job");
}

/* --- what is left behind */

typedef struct cleaning {
    core *core;
    store_generation *all;
    size_t count;
    size_t keep;
    uint32_t current_space;
    char current_model[STORE_MODEL_MAX + 1];
    uint32_t spaces[64];
    size_t space_count;
    char models[64][STORE_MODEL_MAX + 1];
    size_t model_count;
} cleaning;

static bool is_named(const cleaning *c, uint32_t number, const char *model_name)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->all[i].state != GENERATION_RETIRED &&
            ((model_name == NULL && c->all[i].space == number) ||
             (model_name != NULL && strcmp(c->all[i].model, model_name) == 0)))
            return true;
    return false;
}

static void note_files(cleaning *c, const store_generation *g)
{
    if (c->space_count == 64 || c->model_count == 64)
        return; /* the next start removes the rest */
    c->spaces[c->space_count++] = g->space;
    strcpy(c->models[c->model_count++], g->model);
}

/* Candidates that no job embeds any more go; of the previous generations and
 * those rolled back the newest `keep` stay. */
static sem_status retire_records(void *context, store_write *w, sem_error *err)
{
    cleaning *c = context;
    sem_status status = store_generation_list(store_write_view(w), &c->all, &c->count, err);
    size_t kept = 0;
    for (size_t i = c->count; i-- > 0 && status == SEM_OK;) {
        store_generation *g = &c->all[i];
        bool old = g->state == GENERATION_PREVIOUS || g->state == GENERATION_ROLLED_BACK;
        if (g->state == GENERATION_CANDIDATE) {
            note_files(c, g);
            g->state = GENERATION_RETIRED;
            status = store_generation_remove(w, g->number, err);
        } else if (old && ++kept > c->keep) {
            note_files(c, g);
            g->state = GENERATION_RETIRED;
            status = store_generation_put(w, g, err);
        }
    }
    return status;
}

/* Whoever read from these has long finished: since they were current another
 * generation was (finetune.keep is at least 1). */
static void remove_files(cleaning *c)
{
    char dir[FILES_PATH_MAX];
    sem_error err;
    for (size_t i = 0; i < c->space_count; i++)
        if (!is_named(c, c->spaces[i], NULL) && store_space_remove(c->core->store, c->spaces[i], &err) != SEM_OK)
            log_event(c->core->log, LOG_LEVEL_WARNING, "retire", "space=%u message=\"%s\"", c->spaces[i], err.message);
    for (size_t i = 0; i < c->model_count; i++)
        if (!is_named(c, 0, c->models[i]) &&
            files_join(dir, &err, "%s/models/%s", store_path(c->core->store), c->models[i]) == SEM_OK &&
            files_remove_folder(dir, &err) != SEM_OK)
            log_event(c->core->log, LOG_LEVEL_WARNING, "retire", "model=%s message=\"%s\"", c->models[i], err.message);
}

static void clean_up(jobs *j, size_t keep)
{
    cleaning *c = calloc(1, sizeof *c);
    if (c == NULL)
        return;
    c->core = j->core;
    c->keep = keep;
    write_call call = {.apply = retire_records, .context = c};
    sem_error err;
    if (writer_run(j->core->writer, &call, &err) == SEM_OK)
        remove_files(c);
    else
        log_event(j->core->log, LOG_LEVEL_WARNING, "retire", "message=\"%s\"", err.message);
    for (size_t i = 0; i < c->count; i++)
        store_generation_free(&c->all[i]);
    free(c->all);
    free(c);
}

/* A candidate that came to nothing leaves its folder and perhaps a record. */
static void drop_candidate_folder(job *j)
{
    char dir[FILES_PATH_MAX];
    serving *now = serving_slot_acquire(&j->core->current);
    if (j->kind != JOB_ROLLBACK && files_join(dir, NULL, "%s/models/%s", store_path(j->core->store), j->model) == SEM_OK &&
        strcmp(dir, model_get_dir(now->model)) != 0)
        files_remove_folder(dir, NULL);
    serving_release(now);
}

static void answer_waiters(jobs *j);

static void run_job(jobs *j, job *work)
{
    sem_error err = {0};
    log_event(j->core->log, LOG_LEVEL_INFO, "job_start", "job=%u kind=%s", work->number,
              work->kind == JOB_FINETUNE ? "finetune" : work->kind == JOB_LOAD ? "model.load" : "rollback");
    uint32_t before = 0;
    serving *now = serving_slot_acquire(&j->core->current);
    before = now->generation;
    serving_release(now);
    sem_status status = run_kind(work, &err);
    now = serving_slot_acquire(&j->core->current);
    if (now->generation != before) {
        pthread_mutex_lock(&j->status.lock);
        j->status.generation = now->generation;
        pthread_mutex_unlock(&j->status.lock);
    }
    serving_release(now);
    drop_candidate_folder(work);
    clean_up(j, work->settings.finetune.keep);
    job_state state = status == SEM_OK ? JOB_DONE : status == SEM_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
    job_status_end(&j->status, state, status == SEM_OK ? NULL : err.message);
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(j->core->log, status == SEM_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "job_end",
              "job=%u state=%s decision=%s reason=%s", work->number,
              state == JOB_DONE ? "done" : state == JOB_CANCELLED ? "cancelled" : "failed", j->status.decision,
              log_value(text, sizeof text, j->status.reason));
    save_record(j);
    answer_waiters(j);
}

static void job_free(job *work)
{
    if (work != NULL)
        free(work->metrics);
    free(work);
}

/* Only a job reads the log; without one nobody needs what is in it. */
static sem_status trim_log(void *context, store_write *w, sem_error *err)
{
    (void)context;
    return store_log_trim(w, store_last_seq(store_write_view(w)), err);
}

static void trim_idle_log(jobs *j)
{
    sem_error err;
    write_call call = {.apply = trim_log};
    if (writer_run(j->core->writer, &call, &err) != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_WARNING, "log_trim", "message=\"%s\"", err.message);
}

/* The next job; NULL after LOG_TRIM_INTERVAL_S without one. */
static job *wait_for_job(jobs *j, bool *stop)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LOG_TRIM_INTERVAL_S;
    pthread_mutex_lock(&j->lock);
    int waited = 0;
    while (j->next == NULL && !j->stop && waited == 0)
        waited = pthread_cond_timedwait(&j->wake, &j->lock, &until);
    job *work = j->next;
    *stop = j->stop;
    pthread_mutex_unlock(&j->lock);
    return work;
}

static void *jobs_main(void *argument)
{
    jobs *j = argument;
    bool stop = false;
    while (!stop) {
        job *work = wait_for_job(j, &stop);
        if (work != NULL)
            run_job(j, work);
        else if (!stop)
            trim_idle_log(j);
        pthread_mutex_lock(&j->lock);
        if (work != NULL)
            j->next = NULL;
        pthread_cond_broadcast(&j->idle);
        pthread_mutex_unlock(&j->lock);
        job_free(work);
    }
    return NULL;
}

/* --- accepting a job */

/* Claims the one place for a job; on success unclaim() or start() follows. */
static sem_status claim(jobs *j, sem_error *err)
{
    uint32_t number;
    sem_status status = SEM_OK;
    pthread_mutex_lock(&j->lock);
    /* A job that has just ended still writes its record: a matter of one commit. */
    while (!j->stop && j->next != NULL && !job_status_running(&j->status, &number))
        pthread_cond_wait(&j->idle, &j->lock);
    if (j->stop)
        status = sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    else if (j->accepting || j->next != NULL || job_status_running(&j->status, &number)) {
        job_status_running(&j->status, &number);
        status = sem_fail(err, SEM_ALREADY_EXISTS, "job %u is under way", number);
    } else {
        j->accepting = true;
    }
    pthread_mutex_unlock(&j->lock);
    return status;
}

static void unclaim(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->accepting = false;
    pthread_mutex_unlock(&j->lock);
}

static void keep_waiter(jobs *j, waiter *w)
{
    w->next = j->waiters;
    j->waiters = w;
}

/* Gives the claimed job its number and hands it to the thread. w (may be NULL)
 * waits for its end. Takes work and w on success. */
static sem_status start(jobs *j, job *work, waiter *w, uint32_t *number, sem_error *err)
{
    record_write r = {.jobs = j, .json = (char *)(uintptr_t)"{\"state\":\"queued\"}"};
    write_call call = {.apply = put_record, .context = &r};
    sem_status status = writer_run(j->core->writer, &call, err);
    if (status != SEM_OK)
        return status;
    *number = work->number = r.number;
    snprintf(work->model, sizeof work->model, "job-%u", r.number);
    job_status_begin(&j->status, r.number, work->kind);
    save_record(j);
    pthread_mutex_lock(&j->lock);
    if (j->stop) {
        status = sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    } else {
        atomic_store(&j->cancel, false);
        j->next = work;
        if (w != NULL)
            keep_waiter(j, w);
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    if (status != SEM_OK)
        job_status_end(&j->status, JOB_CANCELLED, "the daemon is shutting down");
    return status;
}

static job *make_job(jobs *j, job_kind kind, const char *mode)
{
    job *work = calloc(1, sizeof *work);
    if (work == NULL)
        return NULL;
    work->core = j->core;
    work->status = &j->status;
    work->cancel = &j->cancel;
    work->kind = kind;
    strcpy(work->mode, mode);
    pthread_mutex_lock(&j->lock);
    work->settings = j->settings;
    pthread_mutex_unlock(&j->lock);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = work->settings.finetune.threads;
    work->threads = threads > 0 ? threads : cores > 0 ? (unsigned)cores : 1;
    return work;
}

static sem_status check_pairs(const job *work, store_read *r, sem_error *err)
{
    const config *c = &work->settings;
    pair_set pairs;
    pair_options options = {.collection = work->collection,
                            .heldout_share = c->finetune.heldout_share,
                            .key = store_user_key(work->core->store)};
    sem_status status = pair_set_collect(&pairs, r, &options, err);
    if (status != SEM_OK)
        return status;
    size_t count = pairs.count, heldout = pairs.heldout_count;
    pair_set_free(&pairs);
    if (count >= c->finetune.min_pairs && heldout >= c->finetune.min_heldout)
        return SEM_OK;
    return sem_fail(err, SEM_FAILED_PRECONDITION,
                    "%zu usable pairs (finetune.min_pairs is %zu) and %zu held-out queries (finetune.min_heldout is "
                    "%zu): more clicks or feedback are needed",
                    count, c->finetune.min_pairs, heldout, c->finetune.min_heldout);
}

/* --- requests */

static void answer_job_json(core *c, task *t, json_t *value)
{
    answer a;
    answer_begin(&a, t);
    if (value != NULL)
        json_pack_value(&a.pack, value);
    else
        a.pack.failed = true;
    answer_send(c, t, &a);
}

static void answer_number(core *c, task *t, const char *key, uint32_t number)
{
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, key);
    pack_uint(&a.pack, number);
    answer_send(c, t, &a);
}

/* Starts a claimed job for a request: the answer goes out now, or with wait at
 * the job's end. Takes t and work. */
static void start_for(jobs *j, task *t, job *work, bool wait, bool wants_generation)
{
    sem_error err;
    uint32_t number;
    waiter *w = NULL;
    sem_status status = SEM_OK;
    if (wait) {
        w = calloc(1, sizeof *w);
        if (w == NULL)
            status = sem_fail_memory(&err, "a waiting request");
        else
            *w = (waiter){.task = t, .wants_generation = wants_generation};
    }
    if (status == SEM_OK)
        status = start(j, work, w, &number, &err);
    unclaim(j);
    if (status != SEM_OK) {
        free(w);
        job_free(work);
        task_fail(j->core, t, &err);
    } else if (!wait) {
        answer_number(j->core, t, "job", number);
    }
}

/* The end of every request that did not become a job. */
static void refuse(jobs *j, task *t, job *work, const sem_error *err)
{
    unclaim(j);
    job_free(work);
    task_fail(j->core, t, err);
}

static sem_status prepare_finetune(worker *w, task *t, job *work, sem_error *err)
{
    const span *mode = &t->request->u.finetune.mode;
    if (mode->data != NULL && !(mode->size == 4 && memcmp(mode->data, "full", 4) == 0))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "mode: \"%.*s\"; this version trains in mode \"full\" only",
                        (int)mode->size, mode->data);
    store_collection c;
    sem_status status = worker_renew(w, err);
    if (status == SEM_OK && t->request->has_collection) {
        status = worker_collection(w, t, &c, err);
        if (status == SEM_OK && c.external)
            return sem_fail(err, SEM_FAILED_PRECONDITION,
                            "collection: %s holds external vectors; nothing is trained on it", c.name);
        work->collection = c.number;
    }
    return status == SEM_OK ? check_pairs(work, w->read, err) : status;
}

void jobs_finetune(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    if (claim(j, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    job *work = make_job(j, JOB_FINETUNE, "full");
    sem_status status = work != NULL ? prepare_finetune(w, t, work, &err) : sem_fail_memory(&err, "a job");
    if (status == SEM_OK)
        start_for(j, t, work, t->request->u.finetune.wait, false);
    else
        refuse(j, t, work, &err);
}

void jobs_model_load(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    if (claim(j, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    const span *path = &t->request->u.model_load.path;
    job *work = make_job(j, JOB_LOAD, "load");
    sem_status status = work != NULL ? files_join(work->path, &err, "%.*s", (int)path->size, path->data)
                                     : sem_fail_memory(&err, "a job");
    /* Read and check all of it before the job begins: a wrong path is the caller's error, at once. */
    model *candidate;
    if (status == SEM_OK) {
        status = model_open(&candidate, work->path, NULL, NULL, &err);
        if (status == SEM_OK)
            model_close(candidate);
        else if (status == SEM_INTERNAL)
            err.code = SEM_INVALID_ARGUMENT;
    }
    if (status == SEM_OK) {
        work->gate = t->request->u.model_load.gate;
        start_for(j, t, work, false, false);
    } else {
        refuse(j, t, work, &err);
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
        store_generation_free(&all[i]);
    }
    free(all);
    if (found)
        return status;
    return given ? sem_fail(err, SEM_NOT_FOUND, "generation: there is no generation %u", q->u.rollback.generation)
                 : sem_fail(err, SEM_FAILED_PRECONDITION, "there is no previous generation to return to");
}

void jobs_rollback(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    if (claim(j, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    job *work = make_job(j, JOB_ROLLBACK, "");
    sem_status status =
        work != NULL ? find_target(w, t->request, &work->target, &err) : sem_fail_memory(&err, "a job");
    if (status == SEM_OK)
        start_for(j, t, work, true, true);
    else
        refuse(j, t, work, &err);
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
    return *out != NULL ? SEM_OK : sem_fail(err, SEM_INTERNAL, "the record of job %u is no JSON", found_number);
}

void jobs_describe(worker *w, task *t)
{
    jobs *j = w->core->jobs;
    sem_error err;
    uint32_t now;
    const request *q = t->request;
    bool running = job_status_running(&j->status, &now);
    uint32_t wanted = q->u.job.has_job ? q->u.job.job : now;
    if (q->u.job.cancel) {
        if (!running || wanted != now) {
            sem_fail(&err, SEM_FAILED_PRECONDITION, "cancel: job %u is not under way", wanted);
            task_fail(w->core, t, &err);
            return;
        }
        atomic_store(&j->cancel, true);
    }
    json_t *value = NULL;
    sem_status status = SEM_OK;
    if (now != 0 && wanted == now)
        value = job_status_json(&j->status);
    else
        status = stored_job(w, wanted, &value, &err);
    if (status == SEM_OK)
        answer_job_json(w->core, t, value);
    else
        task_fail(w->core, t, &err);
    json_decref(value);
}

/* --- those who wait */

static void answer_waiter(jobs *j, waiter *w)
{
    sem_error err;
    pthread_mutex_lock(&j->status.lock);
    job_state state = j->status.state;
    uint32_t generation = j->status.generation;
    sem_fail(&err, state == JOB_CANCELLED ? SEM_UNAVAILABLE : SEM_INTERNAL, "job %u: %s", j->status.number,
             j->status.reason);
    pthread_mutex_unlock(&j->status.lock);
    if (!w->wants_generation) {
        json_t *value = job_status_json(&j->status);
        answer_job_json(j->core, w->task, value);
        json_decref(value);
    } else if (state == JOB_DONE) {
        answer_number(j->core, w->task, "generation", generation);
    } else {
        task_fail(j->core, w->task, &err);
    }
    free(w);
}

static void answer_waiters(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    waiter *all = j->waiters;
    j->waiters = NULL;
    pthread_mutex_unlock(&j->lock);
    for (waiter *w = all, *next; w != NULL; w = next) {
        next = w->next;
        answer_waiter(j, w);
    }
}

static void expire_waiters(jobs *j)
{
    waiter *late = NULL;
    pthread_mutex_lock(&j->lock);
    for (waiter **link = &j->waiters; *link != NULL;) {
        waiter *w = *link;
        if (task_check_deadline(w->task, NULL) == SEM_OK) {
            link = &w->next;
            continue;
        }
        *link = w->next;
        w->next = late;
        late = w;
    }
    pthread_mutex_unlock(&j->lock);
    for (waiter *next; late != NULL; late = next) {
        sem_error err;
        next = late->next;
        task_check_deadline(late->task, &err);
        task_fail(j->core, late->task, &err);
        free(late);
    }
}

/* --- by itself */

static void start_by_interval(jobs *j)
{
    sem_error err;
    pthread_mutex_lock(&j->lock);
    bool due = j->settings.finetune.enabled && j->settings.finetune.interval_ms > 0 &&
               clock_monotonic_ms() - j->last_interval_ms >= j->settings.finetune.interval_ms;
    if (due)
        j->last_interval_ms = clock_monotonic_ms();
    pthread_mutex_unlock(&j->lock);
    if (!due || claim(j, &err) != SEM_OK)
        return;
    store_read *r = NULL;
    uint32_t number;
    job *work = make_job(j, JOB_FINETUNE, "full");
    sem_status status = work != NULL ? store_read_begin(j->core->store, &r, &err) : sem_fail_memory(&err, "a job");
    if (status == SEM_OK)
        status = check_pairs(work, r, &err);
    store_read_end(r);
    if (status == SEM_OK)
        status = start(j, work, NULL, &number, &err);
    unclaim(j);
    if (status == SEM_OK)
        return;
    job_free(work);
    log_event(j->core->log, LOG_LEVEL_INFO, "interval_skipped", "reason=\"%s\"", err.message);
}

void jobs_tick(core *c)
{
    expire_waiters(c->jobs);
    start_by_interval(c->jobs);
}

void jobs_reload(jobs *j, const config *c)
{
    pthread_mutex_lock(&j->lock);
    j->settings.finetune = c->finetune;
    j->settings.train = c->train;
    pthread_mutex_unlock(&j->lock);
}

/* --- life */

/* A record that still says queued or running was cut short by a crash. */
static void mark_interrupted(jobs *j)
{
    store_read *r;
    record_write record = {.jobs = j};
    char *text = NULL;
    bool found = false;
    if (store_read_begin(j->core->store, &r, NULL) != SEM_OK)
        return;
    sem_status status = store_job_get(r, 0, &record.number, &text, &found, NULL);
    store_read_end(r);
    json_t *value = status == SEM_OK && found ? json_loads(text, 0, NULL) : NULL;
    const char *state = json_string_value(json_object_get(value, "state"));
    if (state != NULL && (strcmp(state, "queued") == 0 || strcmp(state, "running") == 0)) {
        json_object_set_new(value, "job", json_integer(record.number));
        json_object_set_new(value, "state", json_string("failed"));
        json_object_set_new(value, "reason", json_string("interrupted by a restart of the daemon"));
        record.json = json_dumps(value, JSON_COMPACT);
        write_call call = {.apply = put_record, .context = &record};
        if (record.json != NULL && writer_run(j->core->writer, &call, NULL) == SEM_OK)
            log_event(j->core->log, LOG_LEVEL_WARNING, "job_interrupted", "job=%u", record.number);
        free(record.json);
    }
    json_decref(value);
    free(text);
}

sem_status jobs_create(jobs **out, core *c, sem_error *err)
{
    jobs *j = calloc(1, sizeof *j);
    if (j == NULL)
        return sem_fail_memory(err, "the jobs");
    j->core = c;
    j->settings = c->settings;
    j->last_interval_ms = clock_monotonic_ms();
    job_status_init(&j->status);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attributes);
    pthread_cond_init(&j->idle, NULL);
    pthread_condattr_destroy(&attributes);
    mark_interrupted(j);
    clean_up(j, c->settings.finetune.keep);
    if (pthread_create(&j->thread, NULL, jobs_main, j) != 0) {
        job_status_free(&j->status);
        free(j);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start the job thread");
    }
    *out = j;
    return SEM_OK;
}

void jobs_destroy(jobs *j)
{
    if (j == NULL)
        return;
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    atomic_store(&j->cancel, true);
    pthread_cond_signal(&j->wake);
    pthread_cond_broadcast(&j->idle);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    answer_waiters(j);
    job_status_free(&j->status);
    pthread_cond_destroy(&j->wake);
    pthread_cond_destroy(&j->idle);
    pthread_mutex_destroy(&j->lock);
    free(j);
}
