#include "daemon/job_resume.h"

#include "base/crash.h"
#include "daemon/job_record.h"
#include "daemon/writer.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>

/* --- one that does not go on */

typedef struct closing {
    uint32_t number;
    char *text;
} closing;

static sem_status put_closed(void *context, store_write *w, sem_error *err)
{
    const closing *c = context;
    return store_job_put(w, c->number, c->text, err);
}

static void give_up(core *c, uint32_t number, json_t *record, const char *reason)
{
    const bool cancelled = job_record_is_cancelled(record);
    sem_error err;
    char quoted[SEM_ERROR_MESSAGE_MAX];
    json_object_del(record, "resume");
    json_object_set_new(record, "job", json_integer(number));
    json_object_set_new(record, "state", json_string(job_state_name(cancelled ? JOB_CANCELLED : JOB_FAILED)));
    json_object_set_new(record, "decision", json_null());
    json_object_set_new(record, "reason", json_string(reason));
    closing closed = {.number = number, .text = json_dumps(record, JSON_COMPACT)};
    const write_call call = {.apply = put_closed, .context = &closed};
    sem_status status = closed.text != NULL ? writer_run(c->writer, &call, &err)
                                            : sem_fail_memory(&err, "a job's record");
    log_event(c->log, LOG_LEVEL_WARNING, "job_given_up", "job=%u reason=%s", number,
              log_value(quoted, sizeof quoted, status == SEM_OK ? reason : err.message));
    free(closed.text);
}

/* --- one that does */

/* The generation's record was written with the job's; a store that was restored from a backup has
 * none, as backups leave candidates out. Then the job begins anew, and so does its decision. */
static sem_status check_candidate(job *work, store_read *r, sem_error *err)
{
    store_generation g = {0};
    bool found = false;
    sem_status status = work->candidate != 0 ? store_generation_get(r, work->candidate, &g, &found, err) : SEM_OK;
    if (status != SEM_OK)
        return status;
    const bool stands = found && g.state == GENERATION_CANDIDATE;
    store_generation_free(&g);
    if (stands)
        return SEM_OK;
    work->candidate = 0;
    job_status_undecide(work->status);
    return SEM_OK;
}

/* False: it can't go on; *reason says why. */
static bool reopen(job *work, json_t *record, store_read *r, char reason[JOB_REASON_MAX])
{
    if (job_record_is_cancelled(record)) {
        snprintf(reason, JOB_REASON_MAX, "cancelled");
        return false;
    }
    snprintf(reason, JOB_REASON_MAX, "interrupted by a restart of the daemon");
    if (!job_record_kind(record, &work->kind) || !job_record_restore(work, record) ||
        check_candidate(work, r, NULL) != SEM_OK)
        return false;
    if (work->crashes < JOB_CRASHES_MAX)
        return true;
    const char *phase = job_phase_name(work->crashed_in);
    snprintf(reason, JOB_REASON_MAX, "the daemon was killed or crashed %u times one after the other %s%s: given up",
             work->crashes, phase[0] != '\0' ? "in this job's phase " : "as this job began", phase);
    return false;
}

/* The last job's record; NULL if there is none. */
static json_t *last_record(store_read *r, uint32_t *number)
{
    char *text = NULL;
    bool found = false;
    if (store_job_get(r, 0, number, &text, &found, NULL) != SEM_OK || !found)
        return NULL;
    json_t *record = json_loads(text, 0, NULL);
    free(text);
    return record;
}

bool job_resume(job *work)
{
    core *c = work->core;
    store_read *r;
    sem_error err;
    char reason[JOB_REASON_MAX];
    uint32_t number;
    if (store_read_begin(c->store, &r, NULL) != SEM_OK)
        return false;
    json_t *record = last_record(r, &number);
    const bool open = record != NULL && job_record_is_open(record);
    const bool resumed = open && reopen(work, record, r, reason);
    store_read_end(r);
    if (resumed) {
        crash_point("resume.read");
        /* Before anything is done: a crash from here on counts. */
        if (job_record_save(work, false, &err) != SEM_OK)
            log_event(c->log, LOG_LEVEL_WARNING, "job_record", "job=%u message=\"%s\"", number, err.message);
        crash_point("resume.counted");
        log_event(c->log, LOG_LEVEL_INFO, "job_resumed", "job=%u kind=%s crashes=%u candidate=%u", work->number,
                  job_kind_name(work->kind), work->crashes, work->candidate);
    } else if (open) {
        job_status_clear(work->status);
        give_up(c, number, record, reason);
    }
    json_decref(record);
    return resumed;
}
