/* A daemon in this process: server, engine and event loop, for tests that have the
 * linker put functions of their own in the place of some of the daemon's. */
#ifndef SEM_TESTS_DAEMON_DAEMON_HERE_H
#define SEM_TESTS_DAEMON_DAEMON_HERE_H

#include "tests/common/testing.h"

#include "base/pool.h"
#include "proto/client.h"
#include "daemon/engine.h"
#include "daemon/server.h"

#include <event2/event.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { HERE_PATIENCE_MS = 60000, HERE_POOL_BYTES = 8 << 20 };

typedef struct daemon_here {
    config config;
    pool *memory;
    struct event_base *base;
    server *server;
    engine *engine;
    pthread_t loop;
    int stop_fd;
    struct event *stop;
    client *client;
    atomic_uint expected; /* answers that the engine said would come soon */
} daemon_here;

static inline void here_on_request(void *context, uint64_t connection, request *r, uint64_t arrived_ns)
{
    daemon_here *d = context;
    engine_submit(d->engine, connection, r, arrived_ns);
}

static inline void here_on_reply(void *context, uint64_t connection, buffer *reply)
{
    daemon_here *d = context;
    server_reply(d->server, connection, reply);
}

static inline void here_on_expect(void *context)
{
    daemon_here *d = context;
    atomic_fetch_add(&d->expected, 1);
    server_wake(d->server);
}

static inline void here_on_progress(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static inline void here_on_stop(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    event_base_loopbreak(context);
}

static inline void *here_loop(void *context)
{
    event_base_dispatch(context);
    return NULL;
}

static inline void here_start(daemon_here *d, const char *dir, unsigned workers, size_t cache_bytes)
{
    sem_error error;
    *d = (daemon_here){.stop_fd = eventfd(0, EFD_CLOEXEC)};
    config_defaults(&d->config);
    strcpy(d->config.server.listen[0], "tcp://127.0.0.1:0");
    snprintf(d->config.storage.path, sizeof d->config.storage.path, "%s/data", testing_folder());
    snprintf(d->config.model.path, sizeof d->config.model.path, "%s", dir);
    d->config.storage.map_size = UINT64_C(4) << 30; /* ThreadSanitizer leaves no room for the default */
    d->config.encode.workers = workers;
    d->config.encode.cache_bytes = cache_bytes;
    signal(SIGPIPE, SIG_IGN);
    d->base = event_base_new();
    d->stop = event_new(d->base, d->stop_fd, EV_READ, here_on_stop, d->base);
    ck_assert_int_eq(event_add(d->stop, NULL), 0);
    ck_ok(pool_create(&d->memory, HERE_POOL_BYTES, &error));
    const engine_hooks out = {.context = d, .reply = here_on_reply, .expect = here_on_expect, .memory = d->memory};
    const server_hooks in = {.context = d, .request = here_on_request, .memory = d->memory};
    ck_ok(engine_create(&d->engine, &d->config, &out, NULL, here_on_progress, NULL, &error));
    ck_ok(server_create(&d->server, d->base, &d->config, NULL, 0, &in, NULL, &error));
    ck_assert_int_eq(pthread_create(&d->loop, NULL, here_loop, d->base), 0);
    ck_ok(client_connect(&d->client, server_address(d->server, 0), HERE_PATIENCE_MS, &error));
}

static inline void here_stop(daemon_here *d)
{
    client_close(d->client);
    ck_assert_int_eq(eventfd_write(d->stop_fd, 1), 0);
    pthread_join(d->loop, NULL);
    engine_destroy(d->engine);
    server_destroy(d->server);
    event_free(d->stop);
    event_base_free(d->base);
    close(d->stop_fd);
    pool_destroy(d->memory);
}

#endif
