/* The one context that the daemon's threads share. Each member says who changes
 * it; docs/threads.md has the whole picture. */
#ifndef SEM_DAEMON_CORE_H
#define SEM_DAEMON_CORE_H

#include "base/log.h"
#include "base/queue.h"
#include "index/store.h"
#include "daemon/config.h"
#include "daemon/engine.h"
#include "daemon/serving.h"
#include "daemon/space.h"

#include <stdatomic.h>
#include <stdint.h>

struct writer;
struct jobs;

/* Counters for /metrics; any thread adds. */
typedef struct core_stats {
    atomic_uint_fast64_t requests[METHOD_COUNT_OF];
    atomic_uint_fast64_t errors[METHOD_COUNT_OF];
    atomic_uint_fast64_t micros[METHOD_COUNT_OF]; /* from arrival to answer */
    atomic_uint_fast64_t texts_encoded, tokens_encoded, commits, events_dropped;
} core_stats;

typedef struct core {
    config settings; /* as at start; [finetune] and [train] are copied anew to jobs at reload */
    sem_log *log;    /* borrowed */
    engine_hooks hooks;
    store *store;           /* owned */
    serving_slot current;   /* the writer swaps it, at a flip; never empty while requests are served */
    serving_slot candidate; /* the generation that is being embedded, or empty; the writer swaps it */
    atomic_bool dual;       /* new writes are embedded with the candidate as well; the job sets it */
    space *external;        /* owned; the space of external collections */
    queue *work;            /* to the workers; fast lane: queries, slow lane: documents */
    struct writer *writer;  /* owned */
    struct jobs *jobs;      /* owned */
    uint64_t started_ms;    /* monotonic */
    core_stats stats;
} core;

#endif
