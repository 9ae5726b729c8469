/* Exports of an index to a FAISS file: one at a time, in a thread of its own while it
 * lasts. */
#ifndef SEM_DAEMON_EXPORTS_H
#define SEM_DAEMON_EXPORTS_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/task.h"

typedef struct exports exports;

sem_status exports_create(exports **out, core *c, sem_error *err);
/* Cancels the one under way, which leaves nothing, and waits for its end. Accepts NULL. */
void exports_destroy(exports *x);

/* Answers an index.export request at the export's end, or refuses it at once. Takes t.
 * A worker's thread. */
void exports_start(exports *x, task *t);

/* Loop thread: cancels the one under way and takes no more. */
void exports_drain(exports *x);

#endif
