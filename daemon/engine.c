#include "daemon/engine.h"

#include "base/clock.h"
#include "base/queue.h"
#include "daemon/background.h"
#include "daemon/backups.h"
#include "daemon/core.h"
#include "daemon/core_metrics.h"
#include "daemon/deletes.h"
#include "daemon/dispatch.h"
#include "daemon/event_upkeep.h"
#include "daemon/exports.h"
#include "daemon/filtered_delete.h"
#include "daemon/jobs.h"
#include "daemon/lexical_thread.h"
#include "daemon/meta_catalog.h"
#include "daemon/notices.h"
#include "daemon/seed.h"
#include "daemon/task.h"
#include "daemon/watchdog.h"
#include "daemon/worker.h"
#include "daemon/writer.h"

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

static sem_status fill_space(core *c, space **out, uint32_t number, size_t dim, sem_error *err)
{
    space_options options = core_space_options(c, number, dim);
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

static sem_status open_columns(core *c, sem_error *err)
{
    store_read *r;
    sem_status status = store_read_begin(c->store, &r, err);
    if (status != SEM_OK)
        return status;
    status = meta_catalog_create(&c->columns, r, err);
    store_read_end(r);
    return status;
}

static sem_status open_generation(core *c, const store_generation *g, sem_error *err)
{
    space *s;
    serving *now;
    sem_status status = open_columns(c, err);
    if (status == SEM_OK)
        status = fill_space(c, &c->external, STORE_SPACE_EXTERNAL, 0, err);
    if (status == SEM_OK)
        status = fill_space(c, &s, g->space, g->dim, err);
    if (status == SEM_OK)
        status = serving_open(&now, g, store_path(c->store), s, NULL, &c->settings, c->log, err);
    if (status == SEM_OK)
        serving_slot_swap(&c->current, now);
    if (status == SEM_OK)
        status = query_cache_create(&c->queries, c->settings.encode.cache_bytes, err);
    if (status == SEM_OK)
        query_cache_set_generation(c->queries, g->number);
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
        status = deletes_create(&c->deletes, err);
    if (status == SEM_OK)
        status = lexical_thread_create(&c->lexical, c, err);
    if (status == SEM_OK)
        status = writer_create(&c->writer, c, err);
    if (status == SEM_OK) {
        filtered_delete_resume(c);
        status = jobs_create(&c->jobs, c, err);
    }
    if (status == SEM_OK)
        status = solo_create(&c->backups, c, "a backup", backups_take, err);
    if (status == SEM_OK)
        backups_sweep(c);
    if (status == SEM_OK)
        status = solo_create(&c->exports, c, "an export", exports_take, err);
    if (status == SEM_OK)
        status = event_upkeep_create(&c->upkeep, c, err);
    if (status == SEM_OK)
        status = worker_pool_create(&e->workers, c, worker_count(&c->settings), dispatch_task, err);
    if (status == SEM_OK)
        status = watchdog_create(&c->watchdog, c, err);
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
    pthread_mutex_init(&e->core.limits_lock, NULL);
    e->core.limits = c->limits;
    e->core.max_in_flight = c->server.max_in_flight;
    serving_slot_init(&e->core.current);
    serving_slot_init(&e->core.candidate);
    serving_slot_init(&e->core.trial);
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
    atomic_store(&c->closing, true);
    /* In the order of the work: workers hand to jobs and to the writer, jobs hand
     * to the writer. */
    background_destroy(e->background);
    watchdog_destroy(c->watchdog);
    worker_pool_destroy(e->workers);
    solo_destroy(c->backups);
    solo_destroy(c->exports);
    event_upkeep_destroy(c->upkeep);
    jobs_destroy(c->jobs);
    writer_destroy(c->writer);
    lexical_thread_destroy(c->lexical);
    queue_destroy(c->work);
    deletes_destroy(c->deletes);
    serving_release(serving_slot_swap(&c->trial, NULL));
    serving_release(serving_slot_swap(&c->candidate, NULL));
    serving_release(serving_slot_swap(&c->current, NULL));
    query_cache_destroy(c->queries);
    space_release(c->external);
    meta_catalog_destroy(c->columns);
    store_close(c->store);
    pthread_mutex_destroy(&c->limits_lock);
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

/* Who watches is for the sockets' side to know. From here on: the answer follows what was notified before it. */
static void answer_watch(core *c, task *t)
{
    const unsigned topics = t->request->u.watch.topics;
    answer a;
    if (c->hooks.watch != NULL)
        c->hooks.watch(c->hooks.context, t->connection, topics);
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, "watching");
    notices_pack_topics(&a.pack, topics);
    answer_send(c, t, &a);
}

/* Without memory for a task there is still an answer to give. */
static void fail_request(core *c, uint64_t connection, request *r)
{
    sem_error err;
    buffer bytes = {.memory = c->hooks.memory};
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
    task *t = task_create(c, connection, r, arrived_ns);
    if (t == NULL) {
        fail_request(c, connection, r);
        return;
    }
    if (r->method == METHOD_PING) {
        answer_ping(c, t);
        return;
    }
    if (r->method == METHOD_WATCH) {
        answer_watch(c, t);
        return;
    }
    sem_error err;
    size_t held = atomic_load(&c->held_bytes);
    if (held > c->settings.encode.queue_bytes) {
        sem_fail(&err, SEM_RESOURCE_EXHAUSTED,
                 "requests of %zu bytes are under way already (encode.queue_bytes is %zu)", held - t->held,
                 c->settings.encode.queue_bytes);
        err.retry_after_ms = RETRY_AFTER_MS;
        task_fail(c, t, &err);
        return;
    }
    sem_status status = queue_push(c->work, dispatch_lane(t), t);
    if (status == SEM_OK)
        return;
    if (status == SEM_UNAVAILABLE)
        sem_fail(&err, SEM_UNAVAILABLE, "the daemon is shutting down");
    else
        sem_fail(&err, SEM_RESOURCE_EXHAUSTED, "%zu requests are waiting already (encode.queue)",
                 c->settings.encode.queue);
    if (status != SEM_UNAVAILABLE)
        err.retry_after_ms = RETRY_AFTER_MS;
    task_fail(c, t, &err);
}

static bool is_read_of(const void *item, void *context)
{
    const task *t = item;
    const uint64_t *connection = context;
    return t->connection == *connection && task_only_answers(t);
}

void engine_forget(engine *e, uint64_t connection)
{
    void *dropped[64];
    for (int lane = QUEUE_FAST; lane <= QUEUE_SLOW; lane++)
        for (size_t n = 64; n == 64;) {
            n = queue_take_matching(e->core.work, (queue_lane)lane, is_read_of, &connection, dropped, 64);
            for (size_t i = 0; i < n; i++)
                task_free(dropped[i]);
            atomic_fetch_add(&e->core.stats.dropped, n);
        }
}

void engine_drain(engine *e)
{
    jobs_drain(e->core.jobs);
    solo_drain(e->core.backups);
    solo_drain(e->core.exports);
    event_upkeep_drain(e->core.upkeep);
}

static void take_limits(core *to, const config *c)
{
    pthread_mutex_lock(&to->limits_lock);
    to->limits = c->limits;
    to->max_in_flight = c->server.max_in_flight;
    pthread_mutex_unlock(&to->limits_lock);
}

void engine_reload(engine *e, const config *c)
{
    take_limits(&e->core, c);
    jobs_reload(e->core.jobs, c);
    event_upkeep_reload(e->core.upkeep, c);
}

size_t engine_tasks(const engine *e)
{
    return atomic_load(&e->core.tasks);
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

bool engine_metrics(engine *e, buffer *out)
{
    return core_metrics(&e->core, out);
}
