/* Deleting by filter, in steps of bounded size: each is atomic, the whole is
 * not, but once begun it is finished, after a crash by the next start. */
#ifndef SEM_DAEMON_FILTERED_DELETE_H
#define SEM_DAEMON_FILTERED_DELETE_H

#include "base/status.h"
#include "index/store.h"
#include "daemon/core.h"
#include "daemon/task.h"

#include <stdint.h>

/* Deletes what matched when it began; what is written meanwhile stays. number 0:
 * a new one, which ends early at t's deadline; else one that the store has noted
 * (t is NULL). *seq is the number of the last step. */
sem_status filtered_delete_run(core *c, const store_delete *what, const task *t, uint64_t *deleted, uint64_t *seq,
                               sem_error *err);

/* Finishes what an earlier process began; before anything is served. */
void filtered_delete_resume(core *c);

#endif
