#include "daemon/task.h"

#include "base/clock.h"

#include <stdlib.h>

task *task_create(uint64_t connection, request *r, uint64_t arrived_ns)
{
    task *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->connection = connection;
    t->request = r;
    t->arrived_ns = arrived_ns;
    /* A deadline beyond the clock's range is none. */
    if (r->has_deadline && r->deadline_ms < (UINT64_MAX - arrived_ns) / 1000000u)
        t->deadline_ns = arrived_ns + r->deadline_ms * 1000000u;
    return t;
}

void task_reset(task *t)
{
    serving_release(t->serving);
    serving_release(t->candidate);
    free(t->vectors);
    free(t->second);
    t->serving = t->candidate = NULL;
    t->vectors = t->second = NULL;
    t->truncated = 0;
}

void task_free(task *t)
{
    if (t == NULL)
        return;
    task_reset(t);
    request_free(t->request);
    free(t);
}

sem_status task_check_deadline(const task *t, sem_error *err)
{
    if (t->deadline_ns == 0 || clock_monotonic_ns() <= t->deadline_ns)
        return SEM_OK;
    return sem_fail(err, SEM_DEADLINE_EXCEEDED, "deadline_ms: not done within %llu ms",
                    (unsigned long long)t->request->deadline_ms);
}

static void count(core *c, const task *t, bool failed)
{
    rpc_method m = t->request->method;
    atomic_fetch_add(&c->stats.requests[m], 1);
    atomic_fetch_add(&c->stats.micros[m], (clock_monotonic_ns() - t->arrived_ns) / 1000u);
    if (failed)
        atomic_fetch_add(&c->stats.errors[m], 1);
}

void answer_begin(answer *a, const task *t)
{
    a->bytes = (buffer){0};
    pack_init(&a->pack, &a->bytes);
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
        buffer bytes = {0};
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
