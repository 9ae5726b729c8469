/* Workers take requests from the queue and do what takes time: encode, scan,
 * read. Queries go before documents: while a worker encodes documents it looks
 * for waiting queries between slices. */
#ifndef SEM_DAEMON_WORKER_H
#define SEM_DAEMON_WORKER_H

#include "base/buffer.h"
#include "base/status.h"
#include "index/store.h"
#include "daemon/core.h"
#include "daemon/encoding.h"
#include "daemon/lexical_thread.h"
#include "daemon/task.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* What one worker thread has to itself. */
typedef struct worker worker;

struct worker {
    core *core;
    encoding *encoding;
    store_read *read;                       /* renewed by each request that reads; rests between them */
    uint64_t deletes_seen;                  /* deletes_count() just before that snapshot */
    store_read *other;                      /* of the queries answered between two steps of long work */
    void (*run)(struct worker *w, task *t); /* takes t and answers it */
    lexical_cache lexical;                  /* its connection to the lexical index */
    buffer batch;                           /* op_batch's arrays: one batch at a time, which never pauses */
    bool between;                           /* answering queries between two steps of long work */
    atomic_uint_fast64_t busy_since_ns;     /* monotonic; 0: it waits */
};

typedef struct worker_pool worker_pool;

/* run answers one task (daemon/dispatch.h). */
sem_status worker_pool_create(worker_pool **out, core *c, unsigned threads, void (*run)(worker *w, task *t),
                              sem_error *err);
/* Closes the queue of work, lets the workers finish what is in it, joins them. Accepts NULL. */
void worker_pool_destroy(worker_pool *p);
/* The earliest busy_since_ns of all workers that are busy; 0: none is. */
uint64_t worker_pool_busy_since(worker_pool *p);

/* --- for the operations (daemon/op_*.c) */

/* A pinned view for a read: the store's newest snapshot. */
sem_status worker_renew(worker *w, sem_error *err);
/* Renews, finds the request's collection and remembers its number in t. */
sem_status worker_collection(worker *w, task *t, store_collection *out, sem_error *err);

/* The documents that an answer holds: none of them may have been deleted when it goes out. */
typedef struct worker_shown {
    uint32_t collection;
    uint32_t *docnos; /* [count], in any order; sorted by the call */
    size_t count;
} worker_shown;

enum { WORKER_TRIES = 64 /* times that an answer is made anew because something in it was deleted meanwhile */ };

/* Whether all of them, known to the worker's snapshot, exist at this moment. SEM_OK:
 * no delete of theirs is answered before worker_sent(), which must follow once the
 * answer is sent. SEM_CANCELLED: no, so the answer must be made anew. What was borrowed from
 * the snapshot may be gone in every case. */
sem_status worker_sending(worker *w, worker_shown *shown, sem_error *err);
void worker_sent(worker *w);
/* What is told after WORKER_TRIES. */
sem_status worker_fail_deleted(sem_error *err);

typedef struct worker_long {
    worker *worker;
    const task *task;
} worker_long;
/* encoding_job.between of a worker_long: answers what waits in the fast lane (but not when that is
 * what is just being done: a queue of encodes would become a depth of calls), then
 * says whether the task may go on: false when its deadline is over. */
bool worker_between(void *context);

/* For walks over a collection: false, with the error in *err and *status, when
 * the deadline of t is over; looks at the clock every so many calls only. */
typedef struct walk_clock {
    const task *task;
    unsigned calls;
    sem_status status;
    sem_error *err;
} walk_clock;
bool walk_goes_on(walk_clock *c);

#endif
