/* What the store keeps of a job: what clients are told, and until it is over what the
 * daemon's next process needs to go on with it: "resume", docs/format.md. */
#ifndef SEM_DAEMON_JOB_RECORD_H
#define SEM_DAEMON_JOB_RECORD_H

#include "base/status.h"
#include "daemon/job.h"

#include <jansson.h>

#include <stdbool.h>

/* The record of a job that is not over: malloc'd JSON, NULL when memory is out. stopped: the
 * process ends in order, so that what comes next is no sign of a crash. */
char *job_record_text(const job *j, bool stopped);

/* Writes it, durably. Job thread, or before that starts. */
sem_status job_record_save(const job *j, bool stopped, sem_error *err);

/* Has the record tell that a client has cancelled the job, if that is not over. Any thread but the
 * loop's and the writer's. */
sem_status job_record_cancel(core *c, uint32_t number, sem_error *err);
/* Whether it tells that. */
bool job_record_is_cancelled(const json_t *record);

/* Takes what a record says into a job that jobs_make() made with the record's kind; its
 * status shows the job as queued then. False: the record tells too little to go on with. */
bool job_record_restore(job *j, json_t *record);

/* "finetune" and so on; false if the record has none of them. */
bool job_record_kind(const json_t *record, job_kind *out);
/* Whether the job was not over. */
bool job_record_is_open(const json_t *record);

/* Gives a new generation its number, and a space unless it shares that of the current one, which `record` then
 * names. The job's record names the generation in the same transaction: after a crash from here on the job goes
 * on with it. */
sem_status job_record_candidate(job *j, store_generation *record, bool shares_space, sem_error *err);

#endif
