/* The flip: one LMDB transaction and one pointer. Where the next generation shares the current
 * one's space that is all there is to do: its vectors and indices are those that are served, and
 * writes meanwhile are right for both. */
#include "base/clock.h"
#include "base/crash.h"
#include "daemon/job.h"
#include "daemon/job_record.h"
#include "daemon/notices.h"
#include "daemon/trial.h"
#include "daemon/write_log.h"
#include "daemon/writer.h"

#include <stdlib.h>

/* The job's record says what came of it in the same transaction: a crash
 * right after it must not leave a current generation and a job that failed. */
static sem_status put_promoted(const job *j, store_write *w, uint32_t generation, sem_error *err)
{
    char *text = job_status_promoted_text(j->status, generation);
    sem_status status = text != NULL ? store_job_put(w, j->number, text, err) : sem_fail_memory(err, "a job");
    free(text);
    return status;
}

sem_status job_flip_record(const job *j, store_write *w, uint32_t generation, sem_error *err)
{
    generation_state old = j->kind == JOB_ROLLBACK ? GENERATION_ROLLED_BACK : GENERATION_PREVIOUS;
    sem_status status = store_generation_flip(w, generation, old, err);
    return status == SEM_OK ? put_promoted(j, w, generation, err) : status;
}

serving *job_flip_swap(const job *j, serving *next, uint64_t began_ns)
{
    core *c = j->core;
    serving *old = serving_slot_swap(&c->current, serving_retain(next));
    query_cache_set_generation(c->queries, next->generation);
    log_event(c->log, LOG_LEVEL_INFO, "flip", "job=%u generation=%u from=%u ms=%.2f", j->number, next->generation,
              old->generation, (double)(clock_monotonic_ns() - began_ns) / 1e6);
    notices_generation(c, next->generation, job_kind_name(j->kind));
    return old;
}

/* --- within a space */

typedef struct shared_flip {
    const job *job;
    store_generation *record;
    bool is_new;
    uint64_t began_ns;
    serving *next, *old;
} shared_flip;

static sem_status apply_shared(void *context, store_write *w, sem_error *err)
{
    shared_flip *f = context;
    sem_status status = SEM_OK;
    f->began_ns = clock_monotonic_ns();
    crash_point("shared.begin");
    if (f->is_new)
        status = store_generation_next(w, &f->record->number, NULL, err);
    if (status == SEM_OK && f->is_new)
        status = store_generation_put(w, f->record, err);
    if (status == SEM_OK)
        status = job_flip_record(f->job, w, f->record->number, err);
    crash_point("shared.written");
    return status;
}

static void swap_shared(void *context)
{
    shared_flip *f = context;
    crash_point("shared.committed");
    f->next->generation = f->record->number;
    f->old = job_flip_swap(f->job, f->next, f->began_ns);
    if (f->old->query != f->next->query)
        space_queries_changed(f->next->space);
    crash_point("shared.swapped");
}

/* What nobody needs of the write log goes while a trial runs, which may be days. */
static sem_status keep_up(void *context, sem_error *err)
{
    return write_log_trim(context, UINT64_MAX, err);
}

static sem_status try_then_flip(shared_flip *f, job *j, sem_error *err)
{
    bool promote = true;
    sem_status status = SEM_OK;
    if (trial_wanted(j))
        status = trial_run(j, f->next, f->record->created_ms, keep_up, j->core, &promote, err);
    if (status != SEM_OK || !promote)
        return status;
    job_enter(j, PHASE_FLIP, 0);
    const write_call call = {.apply = apply_shared, .committed = swap_shared, .context = f};
    return writer_run(j->core->writer, &call, err);
}

sem_status job_flip_within_space(job *j, store_generation *record, bool is_new, sem_error *err)
{
    shared_flip f = {.job = j, .record = record, .is_new = is_new};
    serving *now = serving_slot_acquire(&j->core->current);
    if (record->space != space_number(now->space)) {
        serving_release(now);
        return sem_fail(err, SEM_INTERNAL, "a flip within space %u, but another one is current", record->space);
    }
    sem_status status = SEM_OK;
    if (is_new && trial_wanted(j)) { /* events name it, and the job's next process has to find it */
        status = job_record_candidate(j, record, true, err);
        f.is_new = false;
    }
    if (status == SEM_OK)
        status = serving_open(&f.next, record, store_path(j->core->store), space_retain(now->space), now,
                              &j->core->settings, j->core->log, err);
    serving_release(now);
    crash_point("shared.opened");
    if (status != SEM_OK)
        return status;
    status = try_then_flip(&f, j, err);
    serving_release(f.old);
    serving_release(f.next);
    return status;
}
