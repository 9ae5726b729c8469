#include "daemon/engine.h"

#include "base/clock.h"
#include "base/queue.h"
#include "daemon/background.h"
#include "daemon/core.h"
#include "daemon/jobs.h"
#include "daemon/seed.h"
#include "daemon/task.h"
#include "daemon/worker.h"
#include "daemon/writer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    RETRY_AFTER_MS = 100, /* what a client is told when the queue is full */
    STUCK_AFTER_S = 120   /* a thread that works so long on one thing no longer turns */
};

struct engine {
    core core;
    worker_pool *workers;
    background *background;
};

/* --- creation */

static space_options options_of(const core *c, uint32_t number, size_t dim)
{
    return (space_options){.number = number,
                           .dim = dim,
                           .exact_below = c->settings.index.exact_below,
                           .threads = c->settings.index.threads};
}

static sem_status fill_space(core *c, space **out, uint32_t number, size_t dim, sem_error *err)
{
    space_options options = options_of(c, number, dim);
    sem_status status = space_create(out, &options, err);
    if (status != SEM_OK)
        return status;
    store_read *r;
    status = store_read_begin(c->store, &r, err);
    if (status == SEM_OK) {
        status = space_fill(*out, r, err);
        store_read_end(r);
    }
    if (status != SEM_OK) {
        space_release(*out);
        *out = NULL;
    }
    return status;
}

static sem_status open_generation(core *c, const store_generation *g, sem_error *err)
{
    space *s;
    serving *now;
    sem_status status = fill_space(c, &c->external, STORE_SPACE_EXTERNAL, 0, err);
    if (status == SEM_OK)
        status = fill_space(c, &s, g->space, g->dim, err);
    if (status == SEM_OK)
        status = serving_open(&now, g, store_path(c->store), s, &c->settings, c->log, err);
    if (status == SEM_OK)
        serving_slot_swap(&c->current, now);
    return status;
}

static unsigned worker_count(const config *c)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return c->encode.workers > 0 ? c->encode.workers : cores > 0 ? (unsigned)cores : 1;
}

static sem_status start_threads(engine *e, sem_error *err)
{
    core *c = &e->core;
    sem_status status = queue_create(&c->work, c->settings.encode.queue, err);
    if (status == SEM_OK)
        status = writer_create(&c->writer, c, err);
    if (status == SEM_OK)
        status = jobs_create(&c->jobs, c, err);
    if (status == SEM_OK)
        status = worker_pool_create(&e->workers, c, worker_count(&c->settings), err);
    if (status == SEM_OK)
        status = background_create(&e->background, c, err);
    return status;
}

sem_status engine_create(engine **out, const config *c, const engine_hooks *hooks, sem_log *log,
                         void (*progress)(void *context, const char *text), void *context, sem_error *err)
{
    engine *e = calloc(1, sizeof *e);
    if (e == NULL)
        return sem_fail_memory(err, "the engine");
    e->core.settings = *c;
    e->core.log = log;
    e->core.hooks = *hooks;
    e->core.started_ms = clock_monotonic_ms();
    serving_slot_init(&e->core.current);
    serving_slot_init(&e->core.candidate);
    store_generation current = {0};
    progress(context, "opening the store");
    sem_status status = seed_open_store(&e->core.store, &current, c, log, err);
    if (status == SEM_OK) {
        progress(context, "loading the model and the indices");
        status = open_generation(&e->core, &current, err);
    }
    store_generation_free(&current);
    if (status == SEM_OK)
        status = start_threads(e, err);
    if (status != SEM_OK) {
        engine_destroy(e);
        return status;
    }
    *out = e;
    return SEM_OK;
}

void engine_destroy(engine *e)
{
    if (e == NULL)
        return;
    core *c = &e->core;
    /* In the order of the work: workers hand to jobs and to the writer, jobs hand
     * to the writer. */
    background_destroy(e->background);
    worker_pool_destroy(e->workers);
    jobs_destroy(c->jobs);
    writer_destroy(c->writer);
    queue_destroy(c->work);
    serving_release(serving_slot_swap(&c->candidate, NULL));
    serving_release(serving_slot_swap(&c->current, NULL));
    space_release(c->external);
    store_close(c->store);
    free(e);
}

/* --- requests */

static void answer_ping(core *c, task *t)
{
    answer a;
    answer_begin(&a, t);
    pack_str(&a.pack, "pong");
    answer_send(c, t, &a);
}

/* Without memory for a task there is still an answer to give. */
static void fail_request(core *c, uint64_t connection, request *r)
{
    sem_error err;
    buffer bytes = {0};
    packer pack;
    sem_fail_memory(&err, "a request");
    pack_init(&pack, &bytes);
    reply_error(&pack, r->msgid, &err);
    if (pack.failed)
        buffer_free(&bytes);
    if (!r->notification)
        c->hooks.reply(c->hooks.context, connection, &bytes);
    request_free(r);
}

void engine_submit(engine *e, uint64_t connection, request *r, uint64_t arrived_ns)
{
    core *c = &e->core;
    task *t = task_create(connection, r, arrived_ns);
    if (t == NULL) {
        fail_request(c, connection, r);
        return;
    }
    if (r->method == METHOD_PING) {
        answer_ping(c, t);
        return;
    }
    sem_status status = queue_push(c->work, worker_lane(r), t);
    if (status == SEM_OK)
        return;
    sem_error err;
    if (status == SEM_UNAVAILABLE)
        sem_fail(&err, SEM_UNAVAILABLE, "the daemon is shutting down");
    else
        sem_fail(&err, SEM_RESOURCE_EXHAUSTED, "%zu requests are waiting already (encode.queue)",
                 c->settings.encode.queue);
    if (status != SEM_UNAVAILABLE)
        err.retry_after_ms = RETRY_AFTER_MS;
    task_fail(c, t, &err);
}

void engine_reload(engine *e, const config *c)
{
    jobs_reload(e->core.jobs, c);
}

bool engine_alive(engine *e)
{
    uint64_t since[2] = {worker_pool_busy_since(e->workers), writer_busy_since(e->core.writer)};
    uint64_t now = clock_monotonic_ns();
    for (int i = 0; i < 2; i++)
        if (since[i] != 0 && now > since[i] && now - since[i] > STUCK_AFTER_S * UINT64_C(1000000000))
            return false;
    return true;
}

/* --- metrics */

static bool line(buffer *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool line(buffer *out, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return n > 0 && (size_t)n < sizeof text && buffer_append(out, text, (size_t)n);
}

static bool method_metrics(core *c, buffer *out)
{
    bool ok = line(out, "# TYPE semd_requests_total counter\n");
    for (int m = 0; m < METHOD_COUNT_OF; m++)
        ok = ok && line(out, "semd_requests_total{method=\"%s\"} %llu\n", rpc_method_name((rpc_method)m),
                        (unsigned long long)c->stats.requests[m]);
    ok = ok && line(out, "# TYPE semd_request_errors_total counter\n");
    for (int m = 0; m < METHOD_COUNT_OF; m++)
        ok = ok && line(out, "semd_request_errors_total{method=\"%s\"} %llu\n", rpc_method_name((rpc_method)m),
                        (unsigned long long)c->stats.errors[m]);
    ok = ok && line(out, "# TYPE semd_request_seconds_total counter\n");
    for (int m = 0; m < METHOD_COUNT_OF; m++)
        ok = ok && line(out, "semd_request_seconds_total{method=\"%s\"} %.6f\n", rpc_method_name((rpc_method)m),
                        (double)c->stats.micros[m] / 1e6);
    return ok;
}

bool engine_metrics(engine *e, buffer *out)
{
    core *c = &e->core;
    serving *s = serving_slot_acquire(&c->current);
    uint32_t generation = s->generation;
    serving_release(s);
    return method_metrics(c, out) && line(out, "# TYPE semd_generation gauge\nsemd_generation %u\n", generation) &&
           line(out, "# TYPE semd_queue_length gauge\nsemd_queue_length{lane=\"queries\"} %zu\n",
                queue_length(c->work, QUEUE_FAST)) &&
           line(out, "semd_queue_length{lane=\"documents\"} %zu\n", queue_length(c->work, QUEUE_SLOW)) &&
           line(out, "# TYPE semd_texts_encoded_total counter\nsemd_texts_encoded_total %llu\n",
                (unsigned long long)c->stats.texts_encoded) &&
           line(out, "# TYPE semd_tokens_encoded_total counter\nsemd_tokens_encoded_total %llu\n",
                (unsigned long long)c->stats.tokens_encoded) &&
           line(out, "# TYPE semd_commits_total counter\nsemd_commits_total %llu\n",
                (unsigned long long)c->stats.commits) &&
           line(out, "# TYPE semd_events_dropped_total counter\nsemd_events_dropped_total %llu\n",
                (unsigned long long)c->stats.events_dropped) &&
           line(out, "# TYPE semd_store_bytes gauge\nsemd_store_bytes %llu\n",
                (unsigned long long)store_bytes(c->store));
}
