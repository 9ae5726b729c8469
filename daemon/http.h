/* The operator's side door over HTTP: /livez, /readyz, /metrics. GET and HEAD
 * only; it answers nothing about documents. */
#ifndef SEM_DAEMON_HTTP_H
#define SEM_DAEMON_HTTP_H

#include "base/buffer.h"
#include "base/log.h"
#include "base/status.h"

#include <event2/event.h>

#include <stdbool.h>

typedef struct http http;

/* Called on the loop thread; none may block. */
typedef struct http_hooks {
    void *context;
    bool (*alive)(void *context);
    /* NULL when requests are answered, else why not: "starting", "draining". */
    const char *(*unready)(void *context);
    /* Appends Prometheus text; false when memory is out. */
    bool (*metrics)(void *context, buffer *out);
} http_hooks;

/* text is host:port. Logs event=http address=http://... with the real port. */
sem_status http_create(http **out, struct event_base *base, const char *text, const http_hooks *hooks, sem_log *log,
                       sem_error *err);
/* Accepts NULL. The loop must not run afterwards. */
void http_destroy(http *h);

#endif
