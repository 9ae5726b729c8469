/* The part of the daemon that answers requests: generations, collections,
 * workers, the writer, the index thread and the fine-tune job. It knows no
 * sockets: a request comes in with a connection number and its answer goes out
 * through a hook. */
#ifndef SEM_DAEMON_ENGINE_H
#define SEM_DAEMON_ENGINE_H

#include "base/buffer.h"
#include "base/log.h"
#include "base/status.h"
#include "proto/request.h"
#include "daemon/config.h"

#include <stdint.h>

typedef struct engine engine;

typedef struct engine_hooks {
    void *context;
    /* Any thread; takes the bytes. */
    void (*reply)(void *context, uint64_t connection, buffer *reply);
    /* Any thread; takes the bytes, a whole notification, for all who watch one of the topics (TOPIC_ bits).
     * NULL: nobody can. */
    void (*notify)(void *context, unsigned topics, buffer *bytes);
    /* Loop thread, inside engine_submit: the connection watches these topics from now on, and no others. */
    void (*watch)(void *context, uint64_t connection, unsigned topics);
    /* Any thread: a reply comes in less time than it takes to wake who waits for it. NULL:
     * nobody wants to know. */
    void (*expect)(void *context);
    pool *memory; /* borrowed: of what lives as long as a request; NULL: malloc */
} engine_hooks;

/* Opens the store (seeding the first generation from model.path), loads the
 * current model, fills the indices and starts the threads. Takes as long as
 * that takes: while it runs, progress(context, text) is called for STATUS=. */
sem_status engine_create(engine **out, const config *c, const engine_hooks *hooks, sem_log *log,
                         void (*progress)(void *context, const char *text), void *context, sem_error *err);

/* Loop thread, never blocks. Takes ownership of r. Answers RESOURCE_EXHAUSTED
 * when its queue is full or its memory is. */
void engine_submit(engine *e, uint64_t connection, request *r, uint64_t arrived_ns);

/* Loop thread: the connection is gone. What it asked for and no worker has taken is
 * dropped where it only makes an answer; writes are done. */
void engine_forget(engine *e, uint64_t connection);

/* Loop thread, once, when the server begins to drain: job and backup under way are
 * cancelled, so that nobody who waits for them holds the drain up. */
void engine_drain(engine *e);

/* After the last connection is closed. Finishes the writes that were accepted, drops
 * what only makes an answer, commits, stops every thread (a fine-tune job is
 * cancelled and says so in its record) and frees all. Blocks. Accepts NULL. */
void engine_destroy(engine *e);

/* Loop thread: limits and [events], [finetune], [train] of a reloaded configuration. */
void engine_reload(engine *e, const config *c);

/* Any thread: true while workers and writer take work (for the watchdog). */
bool engine_alive(engine *e);

/* Any thread: requests that wait or are under way. */
size_t engine_tasks(const engine *e);

/* Any thread: counters in Prometheus text form appended to out. */
bool engine_metrics(engine *e, buffer *out);

#endif
