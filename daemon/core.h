/* The one context that the daemon's threads share. Each member says who changes
 * it; docs/threads.md has the whole picture. */
#ifndef SEM_DAEMON_CORE_H
#define SEM_DAEMON_CORE_H

#include "base/crew.h"
#include "base/log.h"
#include "base/queue.h"
#include "index/store.h"
#include "daemon/config.h"
#include "daemon/engine.h"
#include "daemon/query_cache.h"
#include "daemon/serving.h"
#include "daemon/space.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

struct deletes;
struct meta_catalog;
struct writer;
struct jobs;
struct lexical_thread;
struct solo;
struct watchdog;
struct event_upkeep;

enum { CORE_BUCKETS = 13 };
/* Upper ends of the buckets of /metrics' histogram; the last has none. */
extern const uint32_t core_bucket_us[CORE_BUCKETS - 1];

/* Counters for /metrics; any thread adds. */
typedef struct core_stats {
    atomic_uint_fast64_t requests[METHOD_COUNT_OF];
    atomic_uint_fast64_t errors[METHOD_COUNT_OF];
    atomic_uint_fast64_t micros[METHOD_COUNT_OF];               /* from arrival to answer, summed */
    atomic_uint_fast64_t within[METHOD_COUNT_OF][CORE_BUCKETS]; /* answers by core_bucket_us */
    atomic_uint_fast64_t texts_encoded, tokens_encoded, batches, commits, events_dropped;
    atomic_uint_fast64_t dropped;     /* requests whose client was gone before a worker took them */
    atomic_uint_fast64_t store_bytes; /* on disk, as the ticker last saw it */
} core_stats;

typedef struct core {
    config settings;             /* as at start, but for: */
    pthread_mutex_t limits_lock; /* guards limits and max_in_flight; rank 4, a leaf */
    request_limits limits;       /* a reload changes them; core_limits() copies */
    size_t max_in_flight;
    sem_log *log; /* borrowed */
    engine_hooks hooks;
    store *store;                   /* owned */
    serving_slot current;           /* the writer swaps it, at a flip; never empty while requests are served */
    serving_slot candidate;         /* the generation that is being embedded, or empty; the writer swaps it */
    serving_slot trial;             /* the generation that takes part in searches before its flip, or empty; the job
                                     * swaps it (daemon/trial.h) */
    atomic_bool trying;             /* there is one; the job sets it */
    atomic_size_t trials;           /* searches that may have it */
    atomic_uint_fast64_t erasures;  /* from the event log, that were asked for; event_upkeep counts */
    atomic_bool closing;            /* every connection is closed; engine_destroy sets it */
    atomic_bool dual;               /* new writes are embedded with the candidate as well; the job sets it */
    space *external;                /* owned; the space of external collections */
    struct deletes *deletes;        /* owned; for answers on their way */
    struct meta_catalog *columns;   /* owned; what filters are evaluated on */
    atomic_size_t held_bytes;       /* of requests that wait or are under way; encode.queue_bytes limits it */
    atomic_size_t tasks;            /* requests that wait or are under way */
    queue *work;                    /* to the workers; fast lane: queries, slow lane: documents */
    query_cache *queries;           /* owned */
    crew *crew;                     /* of the workers, for a lone query; the worker pool's; NULL with one worker */
    struct writer *writer;          /* owned */
    struct jobs *jobs;              /* owned */
    struct lexical_thread *lexical; /* owned */
    struct solo *backups;           /* owned */
    struct solo *exports;           /* owned */
    struct watchdog *watchdog;      /* owned */
    struct event_upkeep *upkeep;    /* owned; of the event log */
    uint64_t started_ms;            /* monotonic */
    core_stats stats;
} core;

/* How the indices of a space are made. Any thread. */
space_options core_space_options(const core *c, uint32_t number, size_t dim);

/* The limits of now. Any thread. */
request_limits core_limits(core *c);

#endif
