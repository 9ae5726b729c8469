/* Requests that take long and of which one at a time is enough: each runs in a thread of
 * its own, which ends with it. Backups and exports are such. */
#ifndef SEM_DAEMON_SOLO_H
#define SEM_DAEMON_SOLO_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/task.h"

#include <stdatomic.h>

typedef struct solo solo;

/* The request that runs. */
typedef struct solo_turn {
    core *core;
    const task *task;
    const char *what; /* "a backup" */
    const atomic_bool *stop;
} solo_turn;

/* In the thread. SEM_OK: *a is begun and filled, and is sent; else the error is. */
typedef sem_status solo_work(const solo_turn *turn, answer *a, sem_error *err);

/* For the work, now and then: SEM_UNAVAILABLE when the daemon shuts down,
 * SEM_DEADLINE_EXCEEDED when the request's time is over. */
sem_status solo_step(const solo_turn *turn, sem_error *err);

/* what is borrowed. */
sem_status solo_create(solo **out, core *c, const char *what, solo_work *work, sem_error *err);
/* Cancels the one under way and waits for its end. Accepts NULL. */
void solo_destroy(solo *s);

/* Takes t and answers it when the work is done, or at once when another one is under way. A
 * worker's thread. */
void solo_start(solo *s, task *t);

/* Loop thread: cancels the one under way and takes no more. Accepts NULL. */
void solo_drain(solo *s);

#endif
