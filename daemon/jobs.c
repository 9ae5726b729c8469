#include "daemon/jobs.h"

#include "base/clock.h"
#include "daemon/json_pack.h"
#include "daemon/lexical_thread.h"
#include "daemon/model_name.h"
#include "daemon/notices.h"
#include "daemon/retire.h"
#include "daemon/writer.h"

#include <pthread.h>
#include <stdio.h>
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
    config settings;           /* for the next job */
    uint64_t last_interval_ms; /* monotonic: when finetune.interval last began to run */
    atomic_bool cancel;
    job_status status;
};

/* --- records in the store */

typedef struct record_write {
    uint32_t number;
    char *json;
    job_kind kind; /* of a new one */
} record_write;

static sem_status put_record(void *context, store_write *w, sem_error *err)
{
    record_write *r = context;
    return store_job_put(w, r->number, r->json, err);
}

/* The first record of a job, with the next number and every field. */
static sem_status put_new_record(void *context, store_write *w, sem_error *err)
{
    record_write *r = context;
    sem_status status = store_job_next(w, &r->number, err);
    if (status != SEM_OK)
        return status;
    job_status fresh;
    job_status_init(&fresh);
    job_status_begin(&fresh, r->number, r->kind);
    char *text = job_status_text(&fresh);
    job_status_free(&fresh);
    status = text != NULL ? store_job_put(w, r->number, text, err) : sem_fail_memory(err, "a job");
    free(text);
    return status;
}

static void save_record(jobs *j)
{
    sem_error err;
    record_write r = {.json = job_status_text(&j->status)};
    job_status_running(&j->status, &r.number);
    write_call call = {.apply = put_record, .context = &r};
    sem_status status = r.json != NULL ? writer_run(j->core->writer, &call, &err) : sem_fail_memory(&err, "a job");
    if (status != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_ERROR, "job_record", "job=%u message=\"%s\"", r.number, err.message);
    free(r.json);
}

static void drop_candidate_folder(job *j)
{
    char dir[FILES_PATH_MAX];
    serving *now = serving_slot_acquire(&j->core->current);
    if (j->kind != JOB_ROLLBACK &&
        files_join(dir, NULL, "%s/models/%s", store_path(j->core->store), j->model) == SEM_OK &&
        strcmp(j->model, now->folder) != 0 && strcmp(j->model, now->query_folder) != 0)
        files_remove_folder(dir, NULL);
    serving_release(now);
}

static void answer_waiters(jobs *j);

static void run_job(jobs *j, job *work)
{
    sem_error err = {0};
    log_event(j->core->log, LOG_LEVEL_INFO, "job_start", "job=%u kind=%s", work->number, job_kind_name(work->kind));
    uint32_t before = 0;
    serving *now = serving_slot_acquire(&j->core->current);
    before = now->generation;
    serving_release(now);
    sem_status status = job_run(work, &err);
    now = serving_slot_acquire(&j->core->current);
    if (now->generation != before) {
        pthread_mutex_lock(&j->status.lock);
        j->status.generation = now->generation;
        pthread_mutex_unlock(&j->status.lock);
    }
    serving_release(now);
    drop_candidate_folder(work);
    retire_generations(j->core, work->settings.finetune.keep, before);
    job_state state = status == SEM_OK ? JOB_DONE : status == SEM_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
    job_status_end(&j->status, state, status == SEM_OK ? NULL : err.message);
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(j->core->log, status == SEM_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "job_end",
              "job=%u state=%s decision=%s reason=%s", work->number, job_state_name(state), j->status.decision,
              log_value(text, sizeof text, j->status.reason));
    save_record(j);
    answer_waiters(j);
}

void jobs_free(job *work)
{
    if (work == NULL)
        return;
    free(work->metrics);
    free(work->known);
    free(work->known_vectors);
    free(work);
}

/* Only a job and the lexical index read the log; without a job nobody needs what
 * the index has applied. */
static sem_status trim_log(void *context, store_write *w, sem_error *err)
{
    jobs *j = context;
    uint64_t last = store_last_seq(store_write_view(w)), applied = lexical_thread_durable(j->core->lexical);
    return store_log_trim(w, applied < last ? applied : last, err);
}

static void trim_idle_log(jobs *j)
{
    sem_error err;
    write_call call = {.apply = trim_log, .context = j};
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
        jobs_free(work);
    }
    return NULL;
}

/* --- accepting a job */

sem_status jobs_claim(jobs *j, sem_error *err)
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
        bool running = job_status_running(&j->status, &number);
        status = running ? sem_fail(err, SEM_ALREADY_EXISTS, "job %u is under way", number)
                         : sem_fail(err, SEM_ALREADY_EXISTS, "a job is just being started");
    } else {
        j->accepting = true;
    }
    pthread_mutex_unlock(&j->lock);
    return status;
}

void jobs_unclaim(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->accepting = false;
    pthread_mutex_unlock(&j->lock);
}

/* "all-MiniLM-L6-v2" becomes "all-MiniLM-L6-v2-job-7", and so does "all-MiniLM-L6-v2-job-6". */
static void name_model(job *work, const char *base)
{
    char plain[MODEL_NAME_MAX + 1];
    const char *suffix = strstr(base, "-job-");
    model_name_plain(base, suffix != NULL ? (size_t)(suffix - base) : strlen(base), plain);
    snprintf(work->model, sizeof work->model, "%s-job-%u", plain, work->number);
}

static sem_status hand_over(jobs *j, job *work, waiter *w, sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&j->lock);
    if (j->stop) {
        status = sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    } else {
        j->next = work;
        if (w != NULL) {
            w->next = j->waiters;
            j->waiters = w;
        }
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    if (status != SEM_OK)
        job_status_end(&j->status, JOB_CANCELLED, "the daemon is shutting down");
    return status;
}

sem_status jobs_start(jobs *j, job *work, const char *base, task *waiting, bool wants_generation, uint32_t *number,
                      sem_error *err)
{
    waiter *w = waiting != NULL ? calloc(1, sizeof *w) : NULL;
    if (waiting != NULL && w == NULL)
        return sem_fail_memory(err, "a waiting request");
    if (w != NULL)
        *w = (waiter){.task = waiting, .wants_generation = wants_generation};
    record_write r = {.kind = work->kind};
    write_call call = {.apply = put_new_record, .context = &r};
    sem_status status = writer_run(j->core->writer, &call, err);
    if (status == SEM_OK) {
        *number = work->number = r.number;
        name_model(work, base);
        /* From here on it can be cancelled: together, or a cancel between the two is lost. */
        pthread_mutex_lock(&j->lock);
        atomic_store(&j->cancel, j->stop);
        job_status_begin(&j->status, r.number, work->kind);
        pthread_mutex_unlock(&j->lock);
        notices_job(j->core, &j->status);
        status = hand_over(j, work, w, err);
    }
    if (status != SEM_OK)
        free(w);
    return status;
}

void jobs_settings(jobs *j, config *out)
{
    pthread_mutex_lock(&j->lock);
    out->finetune = j->settings.finetune;
    pthread_mutex_unlock(&j->lock);
}

job *jobs_make(jobs *j, job_kind kind, const char *mode)
{
    job *work = calloc(1, sizeof *work);
    if (work == NULL)
        return NULL;
    work->core = j->core;
    work->status = &j->status;
    work->cancel = &j->cancel;
    work->kind = kind;
    pthread_mutex_lock(&j->lock);
    work->settings = j->settings;
    pthread_mutex_unlock(&j->lock);
    snprintf(work->mode, sizeof work->mode, "%s", mode != NULL ? mode : work->settings.finetune.mode);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = work->settings.finetune.threads;
    work->threads = threads > 0 ? threads : cores > 0 ? (unsigned)cores : 1;
    return work;
}

sem_status jobs_check_pairs(const job *work, store_read *r, sem_error *err)
{
    const config *c = &work->settings;
    pair_set pairs;
    pair_options options = {.collection = work->collection,
                            .heldout_share = c->finetune.heldout_share,
                            .key = store_user_key(work->core->store)};
    sem_status status = pair_set_collect(&pairs, r, &options, err);
    if (status != SEM_OK)
        return status;
    size_t count = pairs.count, heldout = pairs.heldout_queries;
    pair_set_free(&pairs);
    if (count >= c->finetune.min_pairs && heldout >= c->finetune.min_heldout)
        return SEM_OK;
    return sem_fail(err, SEM_FAILED_PRECONDITION,
                    "%zu usable pairs (finetune.min_pairs is %zu) and %zu held-out queries (finetune.min_heldout is "
                    "%zu): more clicks or feedback are needed",
                    count, c->finetune.min_pairs, heldout, c->finetune.min_heldout);
}

/* --- answers */

job_status *jobs_status(jobs *j)
{
    return &j->status;
}

/* Under the lock, so that the next job, which has another number, can't be
 * the one that is hit. */
bool jobs_cancel(jobs *j, uint32_t number)
{
    uint32_t now;
    pthread_mutex_lock(&j->lock);
    bool running = job_status_running(&j->status, &now) && now == number;
    if (running)
        atomic_store(&j->cancel, true);
    pthread_mutex_unlock(&j->lock);
    return running;
}

void jobs_answer_json(core *c, task *t, json_t *value)
{
    answer a;
    answer_begin(&a, t);
    if (value != NULL)
        json_pack_value(&a.pack, value);
    else
        a.pack.failed = true;
    answer_send(c, t, &a);
}

void jobs_answer_number(core *c, task *t, const char *key, uint32_t number)
{
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, key);
    pack_uint(&a.pack, number);
    answer_send(c, t, &a);
}

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
        jobs_answer_json(j->core, w->task, value);
        json_decref(value);
    } else if (state == JOB_DONE) {
        jobs_answer_number(j->core, w->task, "generation", generation);
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
    if (!due || jobs_claim(j, &err) != SEM_OK)
        return;
    store_read *r = NULL;
    uint32_t number;
    job *work = jobs_make(j, JOB_FINETUNE, NULL);
    sem_status status = work != NULL ? store_read_begin(j->core->store, &r, &err) : sem_fail_memory(&err, "a job");
    if (status == SEM_OK)
        status = jobs_check_pairs(work, r, &err);
    store_read_end(r);
    serving *now = serving_slot_acquire(&j->core->current);
    if (status == SEM_OK)
        status = jobs_start(j, work, now->folder, NULL, false, &number, &err);
    serving_release(now);
    jobs_unclaim(j);
    if (status == SEM_OK)
        return;
    jobs_free(work);
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

void jobs_drain(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    atomic_store(&j->cancel, true);
    pthread_cond_signal(&j->wake);
    pthread_cond_broadcast(&j->idle);
    pthread_mutex_unlock(&j->lock);
}

/* --- life */

/* A record that still says queued or running was cut short by a crash, and
 * before the flip: that writes its own (job_embed.c). */
static void mark_interrupted(jobs *j)
{
    store_read *r;
    record_write record = {0};
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

static void job_changed(void *context, job_status *s)
{
    notices_job(context, s);
}

static void jobs_release(jobs *j)
{
    job_status_free(&j->status);
    pthread_cond_destroy(&j->wake);
    pthread_cond_destroy(&j->idle);
    pthread_mutex_destroy(&j->lock);
    free(j);
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
    j->status.changed = job_changed;
    j->status.context = c;
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attributes);
    pthread_cond_init(&j->idle, NULL);
    pthread_condattr_destroy(&attributes);
    mark_interrupted(j);
    retire_generations(c, c->settings.finetune.keep, 0);
    if (pthread_create(&j->thread, NULL, jobs_main, j) != 0) {
        jobs_release(j);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start the job thread");
    }
    *out = j;
    return SEM_OK;
}

void jobs_destroy(jobs *j)
{
    if (j == NULL)
        return;
    jobs_drain(j);
    pthread_join(j->thread, NULL);
    answer_waiters(j);
    jobs_release(j);
}
