/* Listening sockets: binding them, and accepting without spinning when file
 * descriptors run out. */
#ifndef SEM_DAEMON_LISTENER_H
#define SEM_DAEMON_LISTENER_H

#include "base/log.h"
#include "base/status.h"
#include "daemon/endpoint.h"

#include <event2/event.h>
#include <event2/listener.h>

#include <stddef.h>

enum { LISTENER_SOCKETS_MAX = 8 /* of one address: what a host name may resolve to */ };

typedef struct listener listener;

/* Binds and listens on every address that a resolves to; fds gets up to
 * LISTENER_SOCKETS_MAX non-blocking close-on-exec descriptors. A stale Unix
 * socket that nobody listens on is removed; the new one has mode 0660. */
sem_status listener_bind(const endpoint *a, int fds[LISTENER_SOCKETS_MAX], size_t *count, sem_error *err);

/* Loop thread. Accepts on fd and hands each connection to accepted(), which
 * owns it. Takes ownership of fd in every case. unlink_path (may be NULL) is a
 * Unix socket's path that is removed with the listener. */
sem_status listener_create(listener **out, struct event_base *base, int fd, const char *unlink_path,
                           evconnlistener_cb accepted, void *context, sem_log *log, sem_error *err);
void listener_destroy(listener *l); /* accepts NULL */

/* "tcp://127.0.0.1:41234" or "unix:/path" of a bound socket into text. */
const char *listener_name(int fd, char text[ENDPOINT_TEXT_MAX]);
const char *listener_text(const listener *l); /* the same of l's socket */

#endif
