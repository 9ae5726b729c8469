/* One client: frames in, answers out, time-outs and back-pressure. Loop thread
 * only; server.h is what the rest of the daemon sees. */
#ifndef SEM_DAEMON_CONNECTION_H
#define SEM_DAEMON_CONNECTION_H

#include "base/buffer.h"
#include "base/log.h"
#include "base/status.h"
#include "daemon/auth.h"
#include "daemon/config.h"
#include "daemon/server.h"

#include <event2/event.h>

#include <stdint.h>

typedef struct connection connection;

/* What all connections of a server share; borrowed. */
typedef struct connection_shared {
    struct event_base *base;
    const config *config; /* read at each use */
    const tokens *tokens; /* as config; NULL: none are needed */
    server_hooks hooks;
    void *owner;
    /* The connection is closed and freed; its id is all that is left. */
    void (*closed)(void *owner, uint64_t id);
    server_stats *stats;
    sem_log *log;
} connection_shared;

/* Takes ownership of fd in every case. */
sem_status connection_create(connection **out, const connection_shared *shared, int fd, uint64_t id, sem_error *err);

/* Closes at once; closed() is not called. Accepts NULL. */
void connection_destroy(connection *c);

/* An answer to one of its requests; takes the bytes. May close the connection.
 * more: another one follows at once, with which it may go out. */
void connection_reply(connection *c, buffer *reply, bool more);

/* Whether it watches something: it is then not closed for having nothing in flight. */
void connection_watch(connection *c, bool watches);
/* Whether it may still call watch. */
bool connection_may_watch(connection *c);
/* A notification, of which it takes a copy. May close the connection, as an answer may. */
void connection_notify(connection *c, const buffer *bytes);

/* Reads no more requests; closes when its answers are out. May close at once. */
void connection_drain(connection *c);

/* Closes at once, through closed(). */
void connection_close(connection *c);

bool connection_busy(const connection *c); /* has requests in flight */

#endif
