/* An engine that answers ping and holds everything else until it is destroyed.
 * Its start can be made to fail or to wait. Included by one test program, whose
 * definitions the linker takes in place of the daemon's engine. */
#ifndef SEM_TESTS_DAEMON_FAKE_ENGINE_H
#define SEM_TESTS_DAEMON_FAKE_ENGINE_H

#include "proto/pack.h"
#include "daemon/engine.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAKE_HELD_MAX = 64 };

struct engine {
    engine_hooks hooks;
    sem_log *log;
    size_t held;
    uint64_t connections[FAKE_HELD_MAX];
    uint32_t msgids[FAKE_HELD_MAX];
};

static inline void fake_pong(engine *e, uint64_t connection, uint32_t msgid)
{
    buffer reply = {0};
    packer p;
    pack_init(&p, &reply);
    reply_begin(&p, msgid);
    pack_str(&p, "engine");
    e->hooks.reply(e->hooks.context, connection, &reply);
}

/* model.path says how the start goes: "fail", "wait:PATH" until PATH exists, or anything else. */
sem_status engine_create(engine **out, const config *c, const engine_hooks *hooks, sem_log *log,
                         void (*progress)(void *context, const char *text), void *context, sem_error *err)
{
    progress(context, "Opening\nthe store");
    if (strcmp(c->model.path, "fail") == 0)
        return sem_fail(err, SEM_NOT_FOUND, "model.path: %s is missing", c->model.path);
    while (strncmp(c->model.path, "wait:", 5) == 0 && access(c->model.path + 5, F_OK) != 0)
        poll(NULL, 0, 5);
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return sem_fail_memory(err, "a fake engine");
    (*out)->hooks = *hooks;
    (*out)->log = log;
    return SEM_OK;
}

void engine_submit(engine *e, uint64_t connection, request *r, uint64_t arrived_ns)
{
    (void)arrived_ns;
    if (!r->notification && (r->method == METHOD_PING || e->held == FAKE_HELD_MAX)) {
        fake_pong(e, connection, r->msgid);
    } else if (!r->notification) {
        e->connections[e->held] = connection;
        e->msgids[e->held++] = r->msgid;
        log_event(e->log, LOG_LEVEL_INFO, "held", "msgid=%u", r->msgid);
    }
    request_free(r);
}

void engine_destroy(engine *e)
{
    free(e);
}

void engine_forget(engine *e, uint64_t connection)
{
    (void)e, (void)connection;
}

void engine_drain(engine *e)
{
    (void)e;
}

/* Lets go of what is held: the test's way to have requests answered. */
void engine_reload(engine *e, const config *c)
{
    log_event(e->log, LOG_LEVEL_INFO, "engine_reload", "k=%zu", c->limits.k);
    while (e->held > 0) {
        e->held--;
        fake_pong(e, e->connections[e->held], e->msgids[e->held]);
    }
}

size_t engine_tasks(const engine *e)
{
    (void)e;
    return 0;
}

bool engine_alive(engine *e)
{
    return e != NULL;
}

bool engine_metrics(engine *e, buffer *out)
{
    static const char text[] = "fake_engine 1\n";
    (void)e;
    return buffer_append(out, text, sizeof text - 1);
}

#endif
