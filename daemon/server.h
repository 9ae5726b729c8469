/* The network side: listeners, connections, framing, back-pressure, time-outs.
 * One event-loop thread owns every socket; replies come from any thread. */
#ifndef SEM_DAEMON_SERVER_H
#define SEM_DAEMON_SERVER_H

#include "base/buffer.h"
#include "base/log.h"
#include "base/status.h"
#include "proto/request.h"
#include "daemon/config.h"
#include "daemon/tokens.h"

#include <event2/event.h>

#include <stdbool.h>
#include <stdint.h>

typedef struct server server;

typedef struct server_hooks {
    void *context;
    /* Loop thread. Takes ownership of r (request_free); must not block; every request that is
     * no notification is answered by exactly one server_reply with this
     * connection number, at once or later. arrived_ns is monotonic. */
    void (*request)(void *context, uint64_t connection, request *r, uint64_t arrived_ns);
    /* Loop thread: the connection is gone, and some of its requests are not answered
     * yet; nobody would get their answers. NULL: nobody wants to know. */
    void (*gone)(void *context, uint64_t connection);
    pool *memory; /* borrowed: of requests and answers on their way; NULL: malloc */
} server_hooks;

/* c is borrowed; its limits and time-outs are read at each use, so a reload
 * takes effect. inherited: descriptors from systemd (socket activation), used
 * in place of server.listen when count > 0; they are the server's in every case
 * once it was created. Accepts at once. SIGPIPE must be ignored. */
sem_status server_create(server **out, struct event_base *base, const config *c, const int *inherited, size_t count,
                         const server_hooks *hooks, sem_log *log, sem_error *err);
void server_destroy(server *s); /* accepts NULL; closes all connections */

/* Loop thread: the tokens from now on; borrowed, until the next call or server_destroy. Until then none are
 * needed. A request in flight is not affected; a connection that watches and may no longer is closed. */
void server_set_tokens(server *s, const tokens *t);

/* Logs event=listening address=... for each socket: the sign that requests are
 * answered. Port 0 has become a real one. */
void server_announce(const server *s);
/* The i-th listening address, or NULL. */
const char *server_address(const server *s, size_t i);

/* Any thread. Takes the bytes out of reply (which is left empty) and sends them
 * on the connection, or drops them if it is gone. An empty reply (memory ran out
 * while it was packed) closes the connection. */
void server_reply(server *s, uint64_t id, buffer *reply);

/* Loop thread: from now on the connection gets notifications of these topics (TOPIC_ bits), and of no others. */
void server_watch(server *s, uint64_t id, unsigned topics);
/* Any thread. Takes the bytes, a whole notification, and sends them to every connection that watches one of the
 * topics, in the order of these calls and behind the answers handed over before. Costs next to nothing while
 * nobody watches. */
void server_notify(server *s, unsigned topics, buffer *bytes);

/* Any thread: wakes the loop. */
void server_wake(server *s);

/* Loop thread: sends the answers that wait. attended: the loop promises to call this again
 * soon, and until it says otherwise nobody wakes it for an answer. */
void server_attend(server *s, bool attended);

/* Loop thread: stops accepting and reading; connections close when their
 * answers are out. idle() runs once when the last one is closed. */
void server_drain(server *s, void (*idle)(void *context), void *context);

/* Loop thread: closes every connection now; after server_drain, when its time is up. */
void server_close_connections(server *s);

typedef struct server_stats {
    uint64_t connections, accepted, requests, replies, notifications, bytes_in, bytes_out, protocol_errors,
        auth_failures, denied;
} server_stats;

/* Loop thread. */
void server_get_stats(const server *s, server_stats *out);

#endif
