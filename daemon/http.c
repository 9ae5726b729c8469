#include "daemon/http.h"

#include "daemon/listener.h"

#include <event2/buffer.h>
#include <event2/http.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADERS_MAX = 8 << 10, /* bytes */
    BODY_MAX = 1 << 10,    /* bytes; a body means nothing here */
    TIMEOUT_S = 10,        /* without a byte from the client */
    REARM_MS = 200         /* after running out of file descriptors */
};

struct http {
    struct evhttp *server;
    http_hooks hooks;
};

static void answer(struct evhttp_request *req, int code, const char *reason, const char *type, const void *body,
                   size_t size)
{
    struct evbuffer *out = evbuffer_new();
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    /* evhttp would send the body of an answer to HEAD as well. */
    bool head = evhttp_request_get_command(req) == EVHTTP_REQ_HEAD;
    char length[24];
    snprintf(length, sizeof length, "%zu", size);
    if (out == NULL || (!head && evbuffer_add(out, body, size) != 0)) {
        if (out != NULL)
            evbuffer_free(out);
        evhttp_send_error(req, HTTP_INTERNAL, NULL);
        return;
    }
    evhttp_add_header(headers, "Content-Type", type);
    evhttp_add_header(headers, "Content-Length", length);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_send_reply(req, code, reason, out);
    evbuffer_free(out);
}

static void answer_text(struct evhttp_request *req, bool good, const char *text)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%s\n", text);
    answer(req, good ? HTTP_OK : HTTP_SERVUNAVAIL, good ? "OK" : "Service Unavailable", "text/plain; charset=utf-8",
           line, n > 0 ? (size_t)n : 0);
}

static void on_livez(struct evhttp_request *req, void *arg)
{
    const http *h = arg;
    bool alive = h->hooks.alive(h->hooks.context);
    answer_text(req, alive, alive ? "alive" : "stuck");
}

static void on_readyz(struct evhttp_request *req, void *arg)
{
    const http *h = arg;
    const char *why = h->hooks.unready(h->hooks.context);
    answer_text(req, why == NULL, why == NULL ? "ready" : why);
}

static void on_metrics(struct evhttp_request *req, void *arg)
{
    const http *h = arg;
    buffer text = {0};
    if (h->hooks.metrics(h->hooks.context, &text))
        answer(req, HTTP_OK, "OK", "text/plain; version=0.0.4; charset=utf-8", text.data, text.size);
    else
        evhttp_send_error(req, HTTP_INTERNAL, NULL);
    buffer_free(&text);
}

static void on_other(struct evhttp_request *req, void *arg)
{
    static const char text[] = "not found: /livez, /readyz and /metrics are here\n";
    (void)arg;
    answer(req, HTTP_NOTFOUND, "Not Found", "text/plain; charset=utf-8", text, sizeof text - 1);
}

static void on_rearm(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    evconnlistener_enable(arg);
}

/* Without descriptors accept() fails at once, again and again. */
static void on_accept_error(struct evconnlistener *event, void *arg)
{
    struct timeval wait = {.tv_usec = REARM_MS * 1000};
    (void)arg;
    if (event_base_once(evconnlistener_get_base(event), -1, EV_TIMEOUT, on_rearm, event, &wait) == 0)
        evconnlistener_disable(event);
}

/* Takes ownership of fd. */
static sem_status serve(http *h, struct event_base *base, int fd, sem_log *log, sem_error *err)
{
    char name[ENDPOINT_TEXT_MAX];
    struct evconnlistener *event =
        evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (event == NULL) {
        close(fd);
        return sem_fail_memory(err, "the HTTP listener");
    }
    evconnlistener_set_error_cb(event, on_accept_error);
    if (evhttp_bind_listener(h->server, event) == NULL) {
        evconnlistener_free(event);
        return sem_fail_memory(err, "the HTTP listener");
    }
    listener_name(fd, name);
    log_event(log, LOG_LEVEL_INFO, "http", "address=http%s", name + strlen("tcp"));
    return SEM_OK;
}

static sem_status listen_on(http *h, struct event_base *base, const char *text, sem_log *log, sem_error *err)
{
    endpoint where;
    int fds[LISTENER_SOCKETS_MAX];
    size_t count = 0;
    sem_status status = endpoint_parse_host_port(&where, text, err);
    if (status == SEM_OK)
        status = listener_bind(&where, fds, &count, err);
    for (size_t i = 0; i < count; i++) {
        if (status == SEM_OK)
            status = serve(h, base, fds[i], log, err);
        else
            close(fds[i]);
    }
    return status;
}

sem_status http_create(http **out, struct event_base *base, const char *text, const http_hooks *hooks, sem_log *log,
                       sem_error *err)
{
    http *h = calloc(1, sizeof *h);
    if (h == NULL)
        return sem_fail_memory(err, "the HTTP server");
    h->hooks = *hooks;
    h->server = evhttp_new(base);
    if (h->server == NULL || evhttp_set_cb(h->server, "/livez", on_livez, h) != 0 ||
        evhttp_set_cb(h->server, "/readyz", on_readyz, h) != 0 ||
        evhttp_set_cb(h->server, "/metrics", on_metrics, h) != 0) {
        http_destroy(h);
        return sem_fail_memory(err, "the HTTP server");
    }
    evhttp_set_gencb(h->server, on_other, h);
    evhttp_set_allowed_methods(h->server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(h->server, HEADERS_MAX);
    evhttp_set_max_body_size(h->server, BODY_MAX);
    evhttp_set_timeout(h->server, TIMEOUT_S);
    if (listen_on(h, base, text, log, err) != SEM_OK) {
        http_destroy(h);
        return sem_error_prefix(err, "server.http");
    }
    *out = h;
    return SEM_OK;
}

void http_destroy(http *h)
{
    if (h == NULL)
        return;
    if (h->server != NULL)
        evhttp_free(h->server);
    free(h);
}
