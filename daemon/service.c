#include "daemon/service.h"

#include "base/attention.h"
#include "proto/pack.h"
#include "daemon/engine.h"
#include "daemon/http.h"
#include "daemon/notify.h"
#include "daemon/server.h"
#include "daemon/server_metrics.h"
#include "daemon/tokens.h"

#include <event2/event.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    OTHER_DESCRIPTORS = 512, /* the store, listeners, HTTP, the log: beside server.max_connections */
    SIGNALS = 3,
    POOL_BYTES = 8 << 20 /* unused memory of requests that is kept: some hundred requests' */
};

typedef enum service_phase {
    PHASE_STARTING, /* the helper is in engine_create() */
    PHASE_SERVING,
    PHASE_DRAINING, /* connections close as their answers go out */
    PHASE_CLOSING   /* the helper is in engine_destroy(); the loop must not touch the engine */
} service_phase;

typedef struct service {
    config *config;       /* changes at reload; loop thread only */
    config engine_config; /* what the engine was given: never changes */
    const service_source *source;
    sem_log *log;
    struct event_base *base;
    pool *memory; /* of requests and answers */
    server *server;
    tokens *tokens; /* what the server goes by */
    http *http;
    engine *engine;
    service_phase phase;
    bool stopping;        /* a first signal to end has come */
    bool reload_wanted;   /* SIGHUP while starting */
    bool quick;           /* the last request is answered in microseconds: its answer is waited for */
    atomic_bool expected; /* so is what is left of the only one under way; a worker sets it */
    struct event *signals[SIGNALS];
    struct event *watchdog;
    struct event *drain_timer;

    pthread_t helper; /* creates and destroys the engine, which both block */
    bool helper_runs;
    int done_fd; /* the helper has ended */
    struct event *done;
    sem_status created; /* written by the helper before done_fd, as is the error */
    sem_error create_error;

    sem_status result;
    sem_error *err;
} service;

static void end_loop(service *s, sem_status result)
{
    s->result = result;
    event_base_loopbreak(s->base);
}

/* --- requests */

static void answer_unready(service *s, uint64_t connection, const request *r)
{
    sem_error error;
    buffer reply = {.memory = s->memory};
    packer p;
    if (r->notification)
        return;
    pack_init(&p, &reply);
    if (r->method == METHOD_PING) {
        reply_begin(&p, r->msgid);
        pack_str(&p, "pong");
    } else {
        sem_fail(&error, SEM_UNAVAILABLE, "semd is %s", s->phase == PHASE_STARTING ? "starting" : "draining");
        reply_error(&p, r->msgid, &error);
    }
    if (p.failed)
        buffer_free(&reply);
    server_reply(s->server, connection, &reply);
}

static void on_request(void *context, uint64_t connection, request *r, uint64_t arrived_ns)
{
    service *s = context;
    if (s->phase == PHASE_SERVING) {
        s->quick = r->method == METHOD_GET || (r->method == METHOD_SEARCH && r->u.search.query.data == NULL);
        engine_submit(s->engine, connection, r, arrived_ns);
        return;
    }
    answer_unready(s, connection, r);
    request_free(r);
}

static void on_gone(void *context, uint64_t connection)
{
    service *s = context;
    if (s->phase == PHASE_SERVING || s->phase == PHASE_DRAINING)
        engine_forget(s->engine, connection);
}

static void on_engine_reply(void *context, uint64_t connection, buffer *reply)
{
    service *s = context;
    server_reply(s->server, connection, reply);
}

static void on_engine_notify(void *context, unsigned topics, buffer *bytes)
{
    service *s = context;
    server_notify(s->server, topics, bytes);
}

static void on_engine_watch(void *context, uint64_t connection, unsigned topics)
{
    service *s = context;
    server_watch(s->server, connection, topics);
}

static void on_engine_expect(void *context)
{
    service *s = context;
    atomic_store(&s->expected, true);
    server_wake(s->server);
}

/* --- HTTP and watchdog */

/* The loop turns, or this would not be asked; the helper's work has no pulse. */
static bool is_alive(void *context)
{
    service *s = context;
    bool engine_runs = s->phase == PHASE_SERVING || s->phase == PHASE_DRAINING;
    return !engine_runs || engine_alive(s->engine);
}

static const char *why_unready(void *context)
{
    const service *s = context;
    return s->phase == PHASE_SERVING ? NULL : s->phase == PHASE_STARTING ? "starting" : "draining";
}

static bool write_metrics(void *context, buffer *out)
{
    service *s = context;
    server_stats stats;
    bool engine_runs = s->phase == PHASE_SERVING || s->phase == PHASE_DRAINING;
    server_get_stats(s->server, &stats);
    return server_metrics(&stats, s->phase == PHASE_SERVING, out) && (!engine_runs || engine_metrics(s->engine, out));
}

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
    service *s = arg;
    (void)fd;
    (void)what;
    if (is_alive(s))
        notify_alive();
    else
        log_event(s->log, LOG_LEVEL_ERROR, "stuck", "reason=\"workers or writer take no work\"");
}

/* --- the helper */

/* Any thread. */
static void on_progress(void *context, const char *text)
{
    service *s = context;
    char quoted[512];
    log_event(s->log, LOG_LEVEL_INFO, "starting", "step=%s", log_value(quoted, sizeof quoted, text));
    notify_progress(text);
}

static void *create_engine(void *arg)
{
    service *s = arg;
    engine_hooks hooks = {.context = s,
                          .reply = on_engine_reply,
                          .notify = on_engine_notify,
                          .watch = on_engine_watch,
                          .expect = on_engine_expect,
                          .memory = s->memory};
    s->created = engine_create(&s->engine, &s->engine_config, &hooks, s->log, on_progress, s, &s->create_error);
    (void)eventfd_write(s->done_fd, 1);
    return NULL;
}

static void *destroy_engine(void *arg)
{
    service *s = arg;
    engine_destroy(s->engine);
    (void)eventfd_write(s->done_fd, 1);
    return NULL;
}

/* The engine's threads inherit the mask: signals stay with the loop. */
static bool start_helper(service *s, void *(*work)(void *))
{
    sigset_t ours, before;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &ours, &before);
    s->helper_runs = pthread_create(&s->helper, NULL, work, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->helper_runs;
}

/* --- reload */

static void raise_descriptors(const service *s)
{
    struct rlimit limit;
    rlim_t want = s->config->server.max_connections + OTHER_DESCRIPTORS;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= want)
        return;
    limit.rlim_cur = limit.rlim_max < want ? limit.rlim_max : want;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < want)
        log_event(s->log, LOG_LEVEL_WARNING, "few_descriptors", "limit=%llu wanted=%llu key=server.max_connections",
                  (unsigned long long)limit.rlim_cur, (unsigned long long)want);
}

/* Takes the tokens. */
static void apply_reload(service *s, const config *next, tokens *now)
{
    char refused[1024], quoted[1100];
    config_reload(s->config, next, refused, sizeof refused);
    s->log->level = (int)s->config->log_level;
    raise_descriptors(s);
    server_set_tokens(s->server, now);
    tokens_destroy(s->tokens);
    s->tokens = now;
    engine_reload(s->engine, s->config);
    log_event(s->log, LOG_LEVEL_INFO, "reloaded", "path=%s",
              log_value(quoted, sizeof quoted, s->source->path != NULL ? s->source->path : ""));
    if (refused[0] != '\0')
        log_event(s->log, LOG_LEVEL_WARNING, "restart_needed", "keys=%s", log_value(quoted, sizeof quoted, refused));
}

static void describe_serving(const service *s, char *text, size_t size)
{
    const char *address = server_address(s->server, 0);
    snprintf(text, size, "Serving on %s", address != NULL ? address : "no address");
}

static void reload(service *s)
{
    sem_error error;
    config next;
    tokens *now;
    char text[1200];
    notify_reloading();
    config_defaults(&next);
    if (config_load(&next, s->source->path, s->source->overrides, s->source->count, &error) == SEM_OK &&
        tokens_read(&now, next.auth.tokens, s->tokens, &error) == SEM_OK)
        apply_reload(s, &next, now);
    else
        log_event(s->log, LOG_LEVEL_ERROR, "reload_failed", "reason=%s", log_value(text, sizeof text, error.message));
    describe_serving(s, text, sizeof text);
    notify_ready(text);
}

/* --- the end */

static void begin_close(void *context)
{
    service *s = context;
    if (s->phase != PHASE_DRAINING)
        return;
    s->phase = PHASE_CLOSING;
    if (s->engine == NULL) {
        end_loop(s, SEM_OK);
        return;
    }
    notify_status("Closing the store");
    if (!start_helper(s, destroy_engine))
        (void)destroy_engine(s);
}

static void begin_drain(service *s)
{
    s->phase = PHASE_DRAINING;
    if (s->engine != NULL)
        engine_drain(s->engine);
    server_drain(s->server, begin_close, s);
}

static void on_drain_timer(evutil_socket_t fd, short what, void *arg)
{
    service *s = arg;
    (void)fd;
    (void)what;
    if (s->phase == PHASE_CLOSING) /* what was accepted is being made durable: that is waited for */
        return;
    log_event(s->log, LOG_LEVEL_WARNING, "drain_timeout", "key=server.drain_timeout");
    /* Still starting: nothing was accepted, and the store survives a crash. */
    if (s->phase == PHASE_STARTING)
        end_loop(s, SEM_OK);
    else
        server_close_connections(s->server);
}

static void stop(service *s)
{
    uint64_t wait = s->config->server.drain_timeout_ms;
    struct timeval tv = {.tv_sec = (time_t)(wait / 1000), .tv_usec = (suseconds_t)(wait % 1000 * 1000)};
    if (s->stopping) {
        sem_fail(s->err, SEM_CANCELLED, "a second signal cut the drain short");
        end_loop(s, SEM_CANCELLED);
        return;
    }
    s->stopping = true;
    log_event(s->log, LOG_LEVEL_INFO, "draining", "timeout_ms=%llu", (unsigned long long)wait);
    notify_stopping();
    if (event_add(s->drain_timer, &tv) != 0)
        end_loop(s, SEM_OK);
    if (s->phase == PHASE_SERVING)
        begin_drain(s);
    else
        server_drain(s->server, NULL, NULL);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
    service *s = arg;
    (void)what;
    if (number != SIGHUP)
        stop(s);
    else if (s->phase == PHASE_STARTING)
        s->reload_wanted = true;
    else if (s->phase == PHASE_SERVING)
        reload(s);
}

/* --- the start */

static void begin_serving(service *s)
{
    char text[300];
    s->phase = PHASE_SERVING;
    server_announce(s->server);
    describe_serving(s, text, sizeof text);
    notify_ready(text);
    if (s->reload_wanted)
        reload(s);
}

static void on_done(evutil_socket_t fd, short what, void *arg)
{
    service *s = arg;
    eventfd_t count;
    (void)what;
    (void)eventfd_read(fd, &count);
    if (s->helper_runs)
        pthread_join(s->helper, NULL);
    s->helper_runs = false;
    if (s->phase == PHASE_CLOSING) {
        s->engine = NULL;
        end_loop(s, SEM_OK);
    } else if (s->created != SEM_OK) {
        if (s->err != NULL)
            *s->err = s->create_error;
        end_loop(s, s->created);
    } else if (s->stopping) {
        begin_drain(s);
    } else {
        begin_serving(s);
    }
}

static sem_status watch(service *s)
{
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uint64_t pulse = notify_watchdog_ms();
    struct timeval tv = {.tv_sec = (time_t)(pulse / 1000), .tv_usec = (suseconds_t)(pulse % 1000 * 1000)};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < SIGNALS; i++) {
        s->signals[i] = evsignal_new(s->base, numbers[i], on_signal, s);
        if (s->signals[i] == NULL || event_add(s->signals[i], NULL) != 0)
            return sem_fail(s->err, SEM_INTERNAL, "cannot watch for signal %d", numbers[i]);
    }
    s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->done_fd >= 0)
        s->done = event_new(s->base, s->done_fd, EV_READ | EV_PERSIST, on_done, s);
    s->watchdog = event_new(s->base, -1, EV_PERSIST, on_watchdog, s);
    s->drain_timer = evtimer_new(s->base, on_drain_timer, s);
    if (s->done == NULL || s->watchdog == NULL || s->drain_timer == NULL || event_add(s->done, NULL) != 0 ||
        (pulse > 0 && event_add(s->watchdog, &tv) != 0))
        return sem_fail_memory(s->err, "the event loop");
    return SEM_OK;
}

static sem_status open_network(service *s)
{
    int fds[CONFIG_LISTEN_MAX];
    size_t count = 0;
    server_hooks hooks = {.context = s, .request = on_request, .gone = on_gone, .memory = s->memory};
    http_hooks side = {.context = s, .alive = is_alive, .unready = why_unready, .metrics = write_metrics};
    sem_status status = notify_sockets(fds, CONFIG_LISTEN_MAX, &count, s->err);
    if (status == SEM_OK)
        status = server_create(&s->server, s->base, s->config, fds, count, &hooks, s->log, s->err);
    if (status == SEM_OK)
        status = tokens_read(&s->tokens, s->config->auth.tokens, NULL, s->err);
    if (status == SEM_OK)
        server_set_tokens(s->server, s->tokens);
    if (status == SEM_OK && s->config->server.http[0] != '\0')
        status = http_create(&s->http, s->base, s->config->server.http, &side, s->log, s->err);
    return status;
}

static void destroy_service(service *s)
{
    http_destroy(s->http);
    server_destroy(s->server);
    tokens_destroy(s->tokens);
    for (size_t i = 0; i < SIGNALS; i++)
        if (s->signals[i] != NULL)
            event_free(s->signals[i]);
    if (s->done != NULL)
        event_free(s->done);
    if (s->watchdog != NULL)
        event_free(s->watchdog);
    if (s->drain_timer != NULL)
        event_free(s->drain_timer);
    if (s->done_fd >= 0)
        close(s->done_fd);
    if (s->base != NULL)
        event_base_free(s->base);
    pool_destroy(s->memory);
    free(s);
}

/* Whether the loop looks for what comes next without sleeping: a request, or the answer
 * to one that takes microseconds. Encoding has use for every processor. *seen: requests
 * and answers so far. */
static bool attends(service *s, attention *a, uint64_t *seen)
{
    server_stats now;
    if (s->phase != PHASE_SERVING)
        return false;
    size_t tasks = engine_tasks(s->engine);
    server_get_stats(s->server, &now);
    if (tasks > 1)
        attention_pause(a);
    const bool expected = atomic_exchange(&s->expected, false);
    s->quick = s->quick || expected;
    if (expected || now.requests + now.replies != *seen)
        attention_begin(a);
    *seen = now.requests + now.replies;
    return attention_lasts(a) && tasks <= s->quick;
}

static bool run_loop(service *s)
{
    attention a = {.look_ns = s->config->server.busy_poll_us * 1000u};
    uint64_t seen = 0;
    for (bool before, now = false;;) {
        int status = event_base_loop(s->base, now ? EVLOOP_NONBLOCK : EVLOOP_ONCE);
        if (status != 0 || event_base_got_break(s->base))
            return status >= 0;
        before = now;
        now = attends(s, &a, &seen);
        if (before || now)
            server_attend(s->server, now);
    }
}

sem_status service_run(config *c, const service_source *source, sem_log *log, bool *abandoned, sem_error *err)
{
    /* On the heap: when the helper can't be waited for it goes on using this. */
    service *s = calloc(1, sizeof *s);
    *abandoned = false;
    if (s == NULL)
        return sem_fail_memory(err, "the service");
    *s = (service){.config = c, .engine_config = *c, .source = source, .log = log, .done_fd = -1, .err = err};
    s->base = event_base_new();
    s->result = s->base != NULL ? watch(s) : sem_fail_memory(err, "the event loop");
    if (s->result == SEM_OK)
        s->result = pool_create(&s->memory, POOL_BYTES, err);
    if (s->result == SEM_OK) {
        raise_descriptors(s);
        s->result = open_network(s);
    }
    if (s->result == SEM_OK && !start_helper(s, create_engine))
        s->result = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread");
    if (s->result == SEM_OK && !run_loop(s))
        s->result = sem_fail(err, SEM_INTERNAL, "the event loop failed");
    sem_status result = s->result;
    *abandoned = s->helper_runs || s->engine != NULL;
    if (!*abandoned)
        destroy_service(s);
    return result;
}
