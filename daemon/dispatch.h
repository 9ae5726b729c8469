/* From a method to what answers it. */
#ifndef SEM_DAEMON_DISPATCH_H
#define SEM_DAEMON_DISPATCH_H

#include "base/queue.h"
#include "daemon/task.h"
#include "daemon/worker.h"

/* Which lane a request belongs to: queries overtake what is long. Any thread. */
queue_lane dispatch_lane(const task *t);

/* Worker thread: answers t, together with other queries that wait, or hands it to
 * the writer. Takes t. */
void dispatch_task(worker *w, task *t);

#endif
