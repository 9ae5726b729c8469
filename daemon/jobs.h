/* Jobs: fine-tuning, model.load and rollback. One runs at a time, in a thread of
 * its own that leaves the work to helpers of low priority (finetune.nice); all of
 * them end in the same embedding, catch-up and flip (daemon/job_*.c). */
#ifndef SEM_DAEMON_JOBS_H
#define SEM_DAEMON_JOBS_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/job.h"
#include "daemon/job_status.h"
#include "daemon/task.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct jobs jobs;

/* Starts the thread, which goes on with the job that an earlier process left unfinished; one
 * that can't go on is marked as failed in the store, and what it left behind is removed. */
sem_status jobs_create(jobs **out, core *c, sem_error *err);
/* Leaves the job under way as it is, for the next start to go on with; stops the thread. Accepts NULL. */
void jobs_destroy(jobs *j);

/* --- making a job; any thread but the loop's and the writer's */

/* Claims the one place for a job: SEM_ALREADY_EXISTS with the number of the one
 * under way. Whoever succeeds calls jobs_unclaim when the job is started or refused. */
sem_status jobs_claim(jobs *j, sem_error *err);
void jobs_unclaim(jobs *j);

/* Copies [finetune] as of now into out, and nothing else. Any thread. */
void jobs_settings(jobs *j, config *out);

/* A job with the settings of now, for job_free(); NULL when memory is out. mode NULL: finetune.mode. */
job *jobs_make(jobs *j, job_kind kind, const char *mode);

/* SEM_FAILED_PRECONDITION with both numbers when there are too few pairs or
 * held-out queries to train on; *missing: judgements that it takes at least until there are enough. */
sem_status jobs_check_pairs(const job *work, store_read *r, size_t *missing, sem_error *err);

/* Gives a claimed job its number, writes its record and hands it to the thread.
 * base: what its candidate's folder is named after. waiting (may be NULL) is
 * answered at the job's end: with the generation if wants_generation, else with
 * the whole job. On success takes work and waiting. */
sem_status jobs_start(jobs *j, job *work, const char *base, task *waiting, bool wants_generation, uint32_t *number,
                      sem_error *err);

/* Whether the candidate of the job under way is on trial (daemon/trial.h). */
bool jobs_on_trial(jobs *j);
/* A rollback that is not claimed: ends the trial under way, whose candidate is discarded, and starts once that job
 * is over. SEM_ALREADY_EXISTS as jobs_claim() says it where no trial can be ended. waiting (may be NULL) is answered with
 * the generation. On success takes work and waiting. */
sem_status jobs_start_over_trial(jobs *j, job *work, task *waiting, sem_error *err);

/* --- asking */

job_status *jobs_status(jobs *j);
/* Asks the job to stop, and has the store know of it; false when it is not under way. Any thread but the
 * loop's and the writer's. */
bool jobs_cancel(jobs *j, uint32_t number);

/* --- by itself */

/* Every moment, from the ticker: answers those whose deadline is over while they
 * wait for a job, starts one when a trigger says so (daemon/job_triggers.h). */
void jobs_tick(core *c);

/* Loop thread: takes no more jobs and has the one under way stop. */
void jobs_drain(jobs *j);

/* Loop thread: [finetune] and [train] for the next job. */
void jobs_reload(jobs *j, const config *c);

#endif
