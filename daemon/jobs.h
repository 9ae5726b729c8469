/* Jobs: fine-tuning, model.load and rollback. One runs at a time, in a thread of
 * its own that leaves the work to helpers of low priority (finetune.nice); all of them end in the same embedding, catch-up and flip. */
#ifndef SEM_DAEMON_JOBS_H
#define SEM_DAEMON_JOBS_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/task.h"
#include "daemon/worker.h"

typedef struct jobs jobs;

/* Starts the thread. Jobs that an earlier process left unfinished are marked as
 * failed in the store, and what they left behind was removed at its opening. */
sem_status jobs_create(jobs **out, core *c, sem_error *err);
/* Cancels the job under way, waits for its end, stops the thread. Accepts NULL. */
void jobs_destroy(jobs *j);

/* Worker threads. Each takes t and answers it, now or when the job has ended. */
void jobs_finetune(worker *w, task *t);
void jobs_model_load(worker *w, task *t);
void jobs_rollback(worker *w, task *t);
void jobs_describe(worker *w, task *t);

/* Every second or so, from the maintenance thread: answers those whose deadline
 * is over while they wait for a job, starts a job when finetune.interval says
 * so, forgets the part of the write log that nobody needs. */
void jobs_tick(core *c);

/* Loop thread: [finetune] and [train] for the next job. */
void jobs_reload(jobs *j, const config *c);

#endif
