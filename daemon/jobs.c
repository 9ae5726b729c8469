#include "daemon/jobs.h"

#include "base/crash.h"
#include "index/events.h"
#include "daemon/job_folder.h"
#include "daemon/job_record.h"
#include "daemon/job_resume.h"
#include "daemon/job_triggers.h"
#include "daemon/job_waiters.h"
#include "daemon/model_name.h"
#include "daemon/notices.h"
#include "daemon/retire.h"
#include "daemon/trial.h"
#include "daemon/write_log.h"
#include "daemon/writer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG_TRIM_INTERVAL_S = 60 };

/* A rollback that waits for the end of a job whose trial it has ended. */
typedef struct next_rollback {
    job *work;  /* NULL: none */
    task *task; /* or NULL */
} next_rollback;

struct jobs {
    core *core;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below; rank 2 (status.lock may be taken under it) */
    pthread_cond_t wake;  /* there is a job, or it is time to stop */
    pthread_cond_t idle;  /* a job has ended and its record is written */
    job *next;            /* accepted, under way or ending; owned by the thread */
    bool accepting;       /* a request is just being turned into a job */
    next_rollback after;  /* accepted: owned, and `accepting` is set for it */
    bool stop;
    atomic_bool cancelled; /* by a client: the job does not go on at the next start */
    config settings;       /* for the next job */
    bool reloaded;         /* and the triggers have not heard of it */
    job_start last;
    atomic_bool cancel;
    thread_patience patience; /* of the threads of all jobs */
    atomic_int trial; /* a trial_state; left under the lock only, entered and settled by the thread without it */
    job_status status;
    job_waiters waiters;
    job_triggers triggers; /* ticker thread only */
};

/* --- records in the store */

typedef struct record_write {
    uint32_t number;
    const char *json;
    /* of a new one */
    job *work;
    const char *base; /* for its model's name */
    uint64_t events;
} record_write;

static sem_status put_record(void *context, store_write *w, sem_error *err)
{
    const record_write *r = context;
    return store_job_put(w, r->number, r->json, err);
}

/* What clients are told of the job from now on, in the store only. */
static void save_end(jobs *j, uint32_t number, job_state state, const char *reason)
{
    sem_error err;
    char *text = job_status_ended_text(&j->status, state, reason);
    record_write r = {.number = number, .json = text};
    write_call call = {.apply = put_record, .context = &r};
    sem_status status = text != NULL ? writer_run(j->core->writer, &call, &err) : sem_fail_memory(&err, "a job");
    if (status != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_ERROR, "job_record", "job=%u message=\"%s\"", number, err.message);
    free(text);
}

/* --- the end of a job */

static void remove_folder(jobs *j, uint32_t number)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    if (job_folder_remove(j->core->store, number, &err) != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_WARNING, "job_folder", "job=%u message=%s", number,
                  log_value(text, sizeof text, err.message));
    crash_point("job.folder_removed");
}

static uint32_t current_generation(jobs *j)
{
    serving *now = serving_slot_acquire(&j->core->current);
    const uint32_t generation = now->generation;
    serving_release(now);
    return generation;
}

/* Whether a job that says it was cancelled is to go on at the next start. */
static bool is_suspended(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    const bool suspended = j->stop && !atomic_load(&j->cancelled);
    pthread_mutex_unlock(&j->lock);
    return suspended;
}

static void suspend_job(jobs *j, const job *work)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    job_status_suspend(&j->status);
    if (job_record_save(work, true, &err) != SEM_OK) /* then it goes on as after a crash */
        log_event(j->core->log, LOG_LEVEL_ERROR, "job_record", "job=%u message=%s", work->number,
                  log_value(text, sizeof text, err.message));
    log_event(j->core->log, LOG_LEVEL_INFO, "job_suspended", "job=%u", work->number);
    job_waiters_answer(&j->waiters, j->core, &j->status);
}

static void end_job(jobs *j, const job *work, uint32_t before, sem_status status, const sem_error *err)
{
    const uint32_t now = current_generation(j);
    if (now != before) {
        pthread_mutex_lock(&j->status.lock);
        j->status.generation = now;
        pthread_mutex_unlock(&j->status.lock);
    }
    /* First the store: what comes is done by the next start if this process does not come to it. */
    const job_state state = status == SEM_OK ? JOB_DONE : status == SEM_CANCELLED ? JOB_CANCELLED : JOB_FAILED;
    const char *reason = status == SEM_OK ? NULL : err->message;
    crash_point("job.ending");
    save_end(j, work->number, state, reason);
    crash_point("job.end_recorded");
    remove_folder(j, work->number);
    retire_generations(j->core, work->settings.finetune.keep, before, 0);
    crash_point("job.retired");
    job_status_end(&j->status, state, reason);
    char text[SEM_ERROR_MESSAGE_MAX];
    log_event(j->core->log, status == SEM_OK ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "job_end",
              "job=%u state=%s decision=%s reason=%s", work->number, job_state_name(state), j->status.decision,
              log_value(text, sizeof text, j->status.reason));
    job_waiters_answer(&j->waiters, j->core, &j->status);
}

static void run_job(jobs *j, job *work)
{
    sem_error err = {0};
    log_event(j->core->log, LOG_LEVEL_INFO, "job_start", "job=%u kind=%s", work->number, job_kind_name(work->kind));
    const uint32_t before = current_generation(j);
    crash_point("job.begin");
    sem_status status = job_run(work, &err);
    if (status == SEM_CANCELLED && is_suspended(j))
        suspend_job(j, work);
    else
        end_job(j, work, before, status, &err);
}

/* Only a job and the lexical index read the log; without a job nobody needs what
 * the index has applied. */
static void trim_idle_log(jobs *j)
{
    sem_error err;
    if (write_log_trim(j->core, UINT64_MAX, &err) != SEM_OK)
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

static sem_status start_after(jobs *j, const next_rollback *r, sem_error *err)
{
    uint32_t number;
    pthread_mutex_lock(&j->lock);
    sem_status status = j->stop ? sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down") : SEM_OK;
    pthread_mutex_unlock(&j->lock);
    if (status == SEM_OK && r->task != NULL)
        status = task_check_deadline(r->task, err);
    serving *now = serving_slot_acquire(&j->core->current);
    if (status == SEM_OK)
        status = jobs_start(j, r->work, now->folder, r->task, true, &number, err);
    serving_release(now);
    return status;
}

/* The rollback for which a trial was ended. */
static void start_rollback(jobs *j)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    pthread_mutex_lock(&j->lock);
    const next_rollback r = j->after;
    j->after = (next_rollback){NULL, NULL};
    pthread_mutex_unlock(&j->lock);
    if (r.work == NULL)
        return;
    sem_status status = start_after(j, &r, &err);
    jobs_unclaim(j);
    if (status == SEM_OK)
        return;
    log_event(j->core->log, LOG_LEVEL_WARNING, "rollback_refused", "generation=%u message=%s", r.work->target,
              log_value(text, sizeof text, err.message));
    job_free(r.work);
    if (r.task != NULL)
        task_fail(j->core, r.task, &err);
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
        start_rollback(j);
    }
    return NULL;
}

/* --- accepting a job */

/* Under the lock. */
static sem_status fail_busy(jobs *j, sem_error *err)
{
    uint32_t number;
    return job_status_running(&j->status, &number) ? sem_fail(err, SEM_ALREADY_EXISTS, "job %u is under way", number)
                                                   : sem_fail(err, SEM_ALREADY_EXISTS, "a job is just being started");
}

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
    else if (j->accepting || j->next != NULL || job_status_running(&j->status, &number))
        status = fail_busy(j, err);
    else
        j->accepting = true;
    pthread_mutex_unlock(&j->lock);
    return status;
}

void jobs_unclaim(jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->accepting = false;
    pthread_mutex_unlock(&j->lock);
}

bool jobs_on_trial(jobs *j)
{
    return atomic_load(&j->trial) == TRIAL_OPEN;
}

/* The place is claimed with the trial's end: whatever is due by itself by then is to wait. */
sem_status jobs_start_over_trial(jobs *j, job *work, task *waiting, sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&j->lock);
    if (j->stop) {
        status = sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    } else if (j->accepting || !trial_leave(&j->trial)) {
        status = fail_busy(j, err);
    } else {
        j->accepting = true;
        j->after = (next_rollback){work, waiting};
    }
    pthread_mutex_unlock(&j->lock);
    return status;
}

/* "all-MiniLM-L6-v2" becomes "all-MiniLM-L6-v2-job-7", and so does "all-MiniLM-L6-v2-job-6". */
static void name_model(job *work, const char *base)
{
    char plain[MODEL_NAME_MAX + 1];
    const char *suffix = strstr(base, "-job-");
    model_name_plain(base, suffix != NULL ? (size_t)(suffix - base) : strlen(base), plain);
    snprintf(work->model, sizeof work->model, "%s-job-%u", plain, work->number);
}

/* Of a job that was asked for and does not begin. */
static void refuse_stopped(jobs *j, uint32_t number)
{
    static const char REASON[] = "the daemon is shutting down";
    save_end(j, number, JOB_CANCELLED, REASON);
    job_status_end(&j->status, JOB_CANCELLED, REASON);
}

static sem_status hand_over(jobs *j, job *work, job_waiter *w, sem_error *err)
{
    sem_status status = SEM_OK;
    pthread_mutex_lock(&j->lock);
    if (j->stop) {
        status = sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    } else {
        j->next = work;
        if (work->kind == JOB_FINETUNE)
            j->last = (job_start){work->number, j->status.started_ms, j->status.events};
        if (w != NULL)
            job_waiters_add(&j->waiters, w);
        pthread_cond_signal(&j->wake);
    }
    pthread_mutex_unlock(&j->lock);
    if (status != SEM_OK)
        refuse_stopped(j, work->number);
    return status;
}

/* The first record of a job, with the next number. */
static sem_status put_new_record(void *context, store_write *w, sem_error *err)
{
    record_write *r = context;
    job *work = r->work;
    job_status fresh, *shared = work->status;
    sem_status status = store_job_next(w, &work->number, err);
    if (status == SEM_OK)
        status = events_last_seq(store_write_view(w), &r->events, err);
    if (status != SEM_OK)
        return status;
    name_model(work, r->base);
    job_status_init(&fresh);
    job_status_begin(&fresh, work->number, work->kind, r->events);
    work->status = &fresh;
    char *text = job_record_text(work, false);
    work->status = shared;
    job_status_free(&fresh);
    status = text != NULL ? store_job_put(w, work->number, text, err) : sem_fail_memory(err, "a job");
    free(text);
    crash_point("job.recording");
    return status;
}

sem_status jobs_start(jobs *j, job *work, const char *base, task *waiting, bool wants_generation, uint32_t *number,
                      sem_error *err)
{
    job_waiter *w = waiting != NULL ? calloc(1, sizeof *w) : NULL;
    if (waiting != NULL && w == NULL)
        return sem_fail_memory(err, "a waiting request");
    if (w != NULL)
        *w = (job_waiter){.task = waiting, .wants_generation = wants_generation};
    record_write r = {.base = base, .work = work};
    write_call call = {.apply = put_new_record, .context = &r};
    sem_status status = writer_run(j->core->writer, &call, err);
    if (status == SEM_OK) {
        crash_point("job.recorded");
        *number = work->number;
        /* From here on it can be cancelled: together, or a cancel between the two is lost. */
        pthread_mutex_lock(&j->lock);
        atomic_store(&j->cancelled, false);
        atomic_store(&j->cancel, j->stop);
        job_status_begin(&j->status, work->number, work->kind, r.events);
        pthread_mutex_unlock(&j->lock);
        notices_job(j->core, &j->status);
        status = hand_over(j, work, w, err);
    }
    if (status != SEM_OK)
        free(w);
    return status; // NOLINT(clang-analyzer-unix.Malloc): the job has what was handed over
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
    work->cancelled = &j->cancelled;
    work->trial = &j->trial;
    work->kind = kind;
    pthread_mutex_lock(&j->lock);
    work->settings = j->settings;
    work->settings.train.nice.patience = &j->patience;
    pthread_mutex_unlock(&j->lock);
    snprintf(work->mode, sizeof work->mode, "%s", mode != NULL ? mode : work->settings.finetune.mode);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned threads = work->settings.finetune.threads;
    work->threads = threads > 0 ? threads : cores > 0 ? (unsigned)cores : 1;
    return work;
}

static size_t missing_to(size_t wanted, size_t there)
{
    return wanted > there ? wanted - there : 0;
}

sem_status jobs_check_pairs(const job *work, store_read *r, size_t *missing, sem_error *err)
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
    const size_t pairs_missing = missing_to(c->finetune.min_pairs, count);
    const size_t heldout_missing = missing_to(c->finetune.min_heldout, heldout);
    *missing = pairs_missing > heldout_missing ? pairs_missing : heldout_missing;
    if (*missing == 0)
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
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    pthread_mutex_lock(&j->lock);
    bool running = job_status_running(&j->status, &now) && now == number;
    if (running) {
        atomic_store(&j->cancelled, true); /* first: who sees the other asks for this */
        atomic_store(&j->cancel, true);
    }
    pthread_mutex_unlock(&j->lock);
    if (running && job_record_cancel(j->core, number, &err) != SEM_OK)
        log_event(j->core->log, LOG_LEVEL_WARNING, "job_record", "job=%u message=%s", number,
                  log_value(text, sizeof text, err.message));
    return running;
}

/* --- by itself */

/* A claimed job, by the trigger of this name. */
static sem_status start_by(jobs *j, const char *trigger, size_t *missing, sem_error *err)
{
    store_read *r = NULL;
    uint32_t number = 0;
    job *work = jobs_make(j, JOB_FINETUNE, NULL);
    sem_status status = work != NULL ? store_read_begin(j->core->store, &r, err) : sem_fail_memory(err, "a job");
    if (status == SEM_OK)
        status = jobs_check_pairs(work, r, missing, err);
    store_read_end(r);
    serving *now = serving_slot_acquire(&j->core->current);
    if (status == SEM_OK)
        status = jobs_start(j, work, now->folder, NULL, false, &number, err);
    serving_release(now);
    if (status == SEM_OK)
        log_event(j->core->log, LOG_LEVEL_INFO, "job_triggered", "job=%u trigger=%s", number, trigger);
    else
        job_free(work);
    return status;
}

static void start_by_itself(jobs *j)
{
    sem_error err;
    char text[SEM_ERROR_MESSAGE_MAX];
    size_t missing = 0;
    pthread_mutex_lock(&j->lock);
    const bool free_to_start = j->next == NULL && !j->accepting && !j->stop;
    const job_start last = j->last;
    config *settings = free_to_start ? malloc(sizeof *settings) : NULL;
    const bool reloaded = settings != NULL && j->reloaded;
    if (settings != NULL) {
        *settings = j->settings;
        j->reloaded = false;
    }
    pthread_mutex_unlock(&j->lock);
    if (reloaded)
        job_triggers_forget_refusal(&j->triggers);
    const char *trigger = settings != NULL ? job_triggers_due(&j->triggers, j->core->store, settings, &last) : NULL;
    free(settings);
    if (trigger == NULL || jobs_claim(j, &err) != SEM_OK)
        return;
    sem_status status = start_by(j, trigger, &missing, &err);
    jobs_unclaim(j);
    if (status == SEM_OK)
        return;
    job_triggers_refused(&j->triggers, missing);
    log_event(j->core->log, LOG_LEVEL_INFO, "trigger_refused", "trigger=%s fresh=%llu again_at=%llu reason=%s", trigger,
              (unsigned long long)j->triggers.fresh, (unsigned long long)j->triggers.needed,
              log_value(text, sizeof text, err.message));
}

void jobs_tick(core *c)
{
    job_waiters_expire(&c->jobs->waiters, c);
    start_by_itself(c->jobs);
}

void jobs_reload(jobs *j, const config *c)
{
    pthread_mutex_lock(&j->lock);
    j->settings.finetune = c->finetune;
    j->settings.train = c->train;
    j->reloaded = true;
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

/* What an earlier process has left: a job to go on with, files, generations that no job embeds any more. */
static sem_status begin(jobs *j, sem_error *err)
{
    core *c = j->core;
    store_read *r;
    sem_status status = store_read_begin(c->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = job_start_find(&j->last, r, err);
    store_read_end(r);
    if (status != SEM_OK)
        return status;
    job *work = jobs_make(j, JOB_FINETUNE, "");
    if (work == NULL)
        return sem_fail_memory(err, "a job");
    if (job_resume(work))
        j->next = work;
    else
        job_free(work);
    status = job_folders_clean(c->store, j->next != NULL ? j->next->number : 0, err);
    if (status == SEM_OK)
        retire_generations(c, c->settings.finetune.keep, 0, j->next != NULL ? j->next->candidate : 0);
    return status;
}

static void job_changed(void *context, job_status *s)
{
    notices_job(context, s);
}

static void jobs_release(jobs *j)
{
    job_free(j->next);
    job_status_free(&j->status);
    job_waiters_free(&j->waiters);
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
    job_status_init(&j->status);
    j->status.changed = job_changed;
    j->status.context = c;
    job_waiters_init(&j->waiters);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&j->wake, &attributes);
    pthread_cond_init(&j->idle, NULL);
    pthread_condattr_destroy(&attributes);
    sem_status status = begin(j, err);
    if (status != SEM_OK) {
        jobs_release(j);
        return status;
    }
    c->jobs = j; /* the thread may have a job already */
    if (pthread_create(&j->thread, NULL, jobs_main, j) != 0) {
        c->jobs = NULL;
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
    job_waiters_answer(&j->waiters, j->core, &j->status);
    jobs_release(j);
}
