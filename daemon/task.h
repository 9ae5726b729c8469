/* A request on its way through the daemon, and its answer. */
#ifndef SEM_DAEMON_TASK_H
#define SEM_DAEMON_TASK_H

#include "base/buffer.h"
#include "base/status.h"
#include "proto/pack.h"
#include "proto/request.h"
#include "daemon/core.h"
#include "daemon/document_cut.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct task {
    core *core; /* borrowed */
    uint64_t connection;
    request *request;      /* owned */
    uint64_t arrived_ns;   /* monotonic */
    uint64_t deadline_ns;  /* monotonic; 0: none */
    uint32_t batch_tokens; /* about so many tokens; 0: it can't share a batch (daemon/batch.h) */
    uint8_t length_class;  /* of its longest text */
    /* what a worker prepared for the writer: */
    serving *serving;   /* the generation that encoded it; a reference or NULL */
    serving *candidate; /* the one that `second` comes from; a reference or NULL */
    float *vectors;     /* [documents or their passages, dim], owned */
    float *second;      /* [the same, the candidate's dim], owned */
    document_cut cut, second_cut;
    bool *same;          /* [documents], owned or NULL: those whose text is as stored and that keep their vectors */
    bool whole;          /* nothing may be taken for the same: that it was had become wrong */
    uint64_t truncated;  /* documents that were cut */
    uint32_t collection; /* number of its collection; never 0 once it was looked up */
    size_t held;         /* bytes that it counts for in core.held_bytes */
} task;

/* Takes ownership of r. NULL when memory is out (then r stays the caller's). */
task *task_create(core *c, uint64_t connection, request *r, uint64_t arrived_ns);
/* Counts more memory of the task until it is reset or freed. */
void task_hold(task *t, size_t bytes);
/* Frees the task with all that it owns; accepts NULL. */
void task_free(task *t);
/* Drops vectors and pins, so that the task can be encoded anew. */
void task_reset(task *t);

/* Whether t only makes an answer: with nobody there to get it, it is done in vain.
 * Writes are not: whoever sent one and did not wait may count on it. */
bool task_only_answers(const task *t);

/* SEM_DEADLINE_EXCEEDED when the time is over; SEM_UNAVAILABLE for what only makes
 * an answer, once the engine ends and nobody is there to get it. */
sem_status task_check_deadline(const task *t, sem_error *err);

/* An answer under construction. */
typedef struct answer {
    buffer bytes;
    packer pack; /* write the result here after answer_begin */
} answer;

/* Begins a successful answer to t. */
void answer_begin(answer *a, const task *t);
/* Sends it (or RESOURCE_EXHAUSTED if memory ran out) and frees t. */
void answer_send(core *c, task *t, answer *a);
/* Gives up an answer that was begun. */
void answer_discard(answer *a);
/* Sends an error and frees t. */
void task_fail(core *c, task *t, const sem_error *err);

#endif
