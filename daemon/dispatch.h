/* From a method to what answers it. */
#ifndef SEM_DAEMON_DISPATCH_H
#define SEM_DAEMON_DISPATCH_H

#include "base/queue.h"
#include "proto/request.h"
#include "daemon/task.h"
#include "daemon/worker.h"

/* Which lane a request belongs to. Any thread. */
queue_lane dispatch_lane(const request *r);

/* Worker thread: answers t, together with other queries that wait, or hands it to
 * the writer. Takes t. */
void dispatch_task(worker *w, task *t);

#endif
