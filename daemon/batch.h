/* Which of the waiting queries are encoded together: searches by text and small
 * encodes.
 *
 * A worker that is free takes the oldest query at once and, of those that wait with
 * it, its share: all that waits divided by the workers that are free, and no more
 * than the token budget. Those that have waited longer than the deadline come first,
 * then those nearest in length to the oldest one: a short text is not held up by
 * long ones. Since each batch begins with the oldest, nothing is passed over for
 * ever. Tokens are estimated from the bytes: this runs under the queue's lock. */
#ifndef SEM_DAEMON_BATCH_H
#define SEM_DAEMON_BATCH_H

#include "base/queue.h"
#include "daemon/core.h"
#include "daemon/task.h"

#include <stddef.h>
#include <stdint.h>

enum { BATCH_TASKS = QUEUE_WINDOW + 1 };

/* Sets t->batch_tokens and t->length_class by its request. */
void batch_measure(task *t);

/* What a choice goes by. */
typedef struct batch_choice {
    const task *first; /* already taken */
    size_t budget;     /* tokens of the batch */
    uint64_t overdue;  /* who arrived before this (monotonic ns) is taken first */
} batch_choice;

/* A queue_choose over tasks; context is a batch_choice. */
void batch_choose(void *context, void *const *items, size_t count, size_t idle, bool *take);

/* Worker thread: puts first and those that go with it into tasks[BATCH_TASKS]. */
size_t batch_collect(core *c, task *first, task **tasks);

#endif
