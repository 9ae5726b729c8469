#include "daemon/task.h"

#include "base/clock.h"
#include "daemon/batch.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_BYTES = 4096 /* room for most answers; larger ones grow */ };

task *task_create(core *c, uint64_t connection, request *r, uint64_t arrived_ns)
{
    task *t = pool_take_cleared(c->hooks.memory, 1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->core = c;
    t->connection = connection;
    t->request = r;
    t->arrived_ns = arrived_ns;
    /* A deadline beyond the clock's range is none. */
    if (r->has_deadline && r->deadline_ms < (UINT64_MAX - arrived_ns) / 1000000u)
        t->deadline_ns = arrived_ns + r->deadline_ms * 1000000u;
    task_hold(t, sizeof *t + r->frame.capacity);
    atomic_fetch_add(&c->tasks, 1);
    batch_measure(t);
    return t;
}

void task_hold(task *t, size_t bytes)
{
    t->held += bytes;
    atomic_fetch_add(&t->core->held_bytes, bytes);
}

void task_reset(task *t)
{
    serving_release(t->serving);
    serving_release(t->candidate);
    free(t->vectors);
    free(t->second);
    free(t->same);
    document_cut_free(&t->cut);
    document_cut_free(&t->second_cut);
    t->serving = t->candidate = NULL;
    t->vectors = t->second = NULL;
    t->same = NULL;
    t->truncated = 0;
    size_t least = sizeof *t + t->request->frame.capacity;
    atomic_fetch_sub(&t->core->held_bytes, t->held - least);
    t->held = least;
}

void task_free(task *t)
{
    if (t == NULL)
        return;
    task_reset(t);
    atomic_fetch_sub(&t->core->held_bytes, t->held);
    atomic_fetch_sub(&t->core->tasks, 1);
    request_free(t->request);
    pool_give(t);
}

bool task_only_answers(const task *t)
{
    switch (t->request->method) {
    case METHOD_ENCODE:
    case METHOD_SEARCH:
    case METHOD_EXPLAIN:
    case METHOD_EVALUATE:
    case METHOD_EVENTS:
    case METHOD_GET:
    case METHOD_COUNT:
    case METHOD_SCROLL: return true;
    default: return false;
    }
}

sem_status task_check_deadline(const task *t, sem_error *err)
{
    if (atomic_load(&t->core->closing) && task_only_answers(t))
        return sem_fail(err, SEM_UNAVAILABLE, "the daemon is shutting down");
    if (t->deadline_ns == 0 || clock_monotonic_ns() <= t->deadline_ns)
        return SEM_OK;
    return sem_fail(err, SEM_DEADLINE_EXCEEDED, "deadline_ms: not done within %llu ms",
                    (unsigned long long)t->request->deadline_ms);
}

const uint32_t core_bucket_us[CORE_BUCKETS - 1] = {100,   250,   500,    1000,   2500,    5000,
                                                   10000, 25000, 100000, 500000, 2500000, 10000000};

space_options core_space_options(const core *c, uint32_t number, size_t dim)
{
    bool faiss = strcmp(c->settings.index.engine, "faiss") == 0;
    bool flat = strcmp(c->settings.index.faiss_type, "IVF,Flat") == 0;
    return (space_options){.store = c->store,
                           .number = number,
                           .dim = dim,
                           .exact_below = c->settings.index.exact_below,
                           .threads = c->settings.index.threads,
                           .engine = faiss ? VECTOR_ENGINE_FAISS : VECTOR_ENGINE_SEMD,
                           .faiss_type = flat ? VECTOR_FAISS_FLAT : VECTOR_FAISS_SQ8};
}

request_limits core_limits(core *c)
{
    pthread_mutex_lock(&c->limits_lock);
    request_limits now = c->limits;
    pthread_mutex_unlock(&c->limits_lock);
    return now;
}

static void count(core *c, const task *t, bool failed)
{
    rpc_method m = t->request->method;
    uint64_t micros = (clock_monotonic_ns() - t->arrived_ns) / 1000u;
    size_t bucket = 0;
    while (bucket < CORE_BUCKETS - 1 && micros > core_bucket_us[bucket])
        bucket++;
    atomic_fetch_add(&c->stats.requests[m], 1);
    atomic_fetch_add(&c->stats.micros[m], micros);
    atomic_fetch_add(&c->stats.within[m][bucket], 1);
    if (failed)
        atomic_fetch_add(&c->stats.errors[m], 1);
}

void answer_begin(answer *a, const task *t)
{
    a->bytes = (buffer){.memory = t->core->hooks.memory};
    pack_init(&a->pack, &a->bytes);
    a->pack.failed = !buffer_reserve(&a->bytes, ANSWER_BYTES);
    reply_begin(&a->pack, t->request->msgid);
}

void answer_discard(answer *a)
{
    buffer_free(&a->bytes);
}

void answer_send(core *c, task *t, answer *a)
{
    if (a->pack.failed) {
        sem_error err;
        answer_discard(a);
        sem_fail_memory(&err, "an answer");
        task_fail(c, t, &err);
        return;
    }
    count(c, t, false);
    if (t->request->notification)
        answer_discard(a);
    else
        c->hooks.reply(c->hooks.context, t->connection, &a->bytes);
    task_free(t);
}

void task_fail(core *c, task *t, const sem_error *err)
{
    count(c, t, true);
    if (err->code == SEM_INTERNAL) {
        char text[SEM_ERROR_MESSAGE_MAX];
        log_event(c->log, LOG_LEVEL_ERROR, "internal_error", "method=%s at=%s:%d message=%s",
                  rpc_method_name(t->request->method), err->file, err->line,
                  log_value(text, sizeof text, err->message));
    }
    if (!t->request->notification) {
        buffer bytes = {.memory = c->hooks.memory};
        packer pack;
        pack_init(&pack, &bytes);
        reply_error(&pack, t->request->msgid, err);
        /* Without memory for an error there is nothing to say; the connection's
         * count of answers still has to add up, so an empty reply goes out. */
        if (pack.failed)
            buffer_free(&bytes);
        c->hooks.reply(c->hooks.context, t->connection, &bytes);
    }
    task_free(t);
}
