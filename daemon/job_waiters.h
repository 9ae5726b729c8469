/* Requests that are answered when a job is over. */
#ifndef SEM_DAEMON_JOB_WAITERS_H
#define SEM_DAEMON_JOB_WAITERS_H

#include "daemon/core.h"
#include "daemon/job_status.h"
#include "daemon/task.h"

#include <pthread.h>
#include <stdbool.h>

typedef struct job_waiter {
    struct job_waiter *next;
    task *task;
    bool wants_generation; /* rollback's answer; else the whole job */
} job_waiter;

typedef struct job_waiters {
    pthread_mutex_t lock; /* guards first; rank 3, held for a few instructions */
    job_waiter *first;
} job_waiters;

void job_waiters_init(job_waiters *w);
/* Nobody waits any more. */
void job_waiters_free(job_waiters *w);

/* Takes one more, malloc'd. Any thread. */
void job_waiters_add(job_waiters *w, job_waiter *one);
/* Answers all by what the status says now. Any thread. */
void job_waiters_answer(job_waiters *w, core *c, job_status *status);
/* Answers those whose deadline is over. Any thread. */
void job_waiters_expire(job_waiters *w, core *c);

/* Answers t with one number: {key: number}. */
void job_answer_number(core *c, task *t, const char *key, uint32_t number);
/* Answers t with a job; value may be NULL (memory was out). */
void job_answer_json(core *c, task *t, json_t *value);

#endif
