/* The client: blocking calls with pipelining, for semctl, tests and C programs.
 * One thread at a time. */
#ifndef SEM_PROTO_CLIENT_H
#define SEM_PROTO_CLIENT_H

#include "base/buffer.h"
#include "base/status.h"

#include <msgpack.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct client client;

enum {
    CLIENT_REPLY_MAX = 256 << 20,    /* bytes of one answer */
    CLIENT_NOTIFICATIONS_MAX = 1000, /* that wait to be asked for; the oldest is lost for one more */
    CLIENT_METHOD_MAX = 32,          /* bytes of a notification's method, the final NUL included */
    CLIENT_ROLE_MAX = 16             /* of a role's name, likewise */
};

/* address: tcp://host:port (an IPv6 address in brackets) or unix:/path. The
 * time-out is for each address that the host's name resolves to. */
sem_status client_connect(client **out, const char *address, int timeout_ms, sem_error *err);
void client_close(client *c); /* accepts NULL */

typedef struct client_reply {
    uint32_t msgid;
    bool is_error;
    char code[32]; /* of an error */
    uint32_t retry_after_ms;
    msgpack_object value;    /* the result, or the error map */
    msgpack_unpacked memory; /* owned: client_reply_free */
    unsigned char *frame;    /* owned: strings of value point into it */
} client_reply;

/* A zeroed one and one that was freed are fine. */
void client_reply_free(client_reply *r);

/* SEM_OK, or the error that the answer carries, in *err. */
sem_status client_reply_status(const client_reply *r, sem_error *err);

/* Sends [0, id, method, params]; params is one MessagePack array (size 0: []).
 * *msgid gets the id. Sent at once; blocks while the socket is full, and reads
 * answers into memory meanwhile so that neither side waits for the other. After
 * an error other than SEM_DEADLINE_EXCEEDED of client_receive and client_call
 * the connection is unusable and every call says so. */
sem_status client_send(client *c, const char *method, const void *params, size_t size, uint32_t *msgid, sem_error *err);

/* The next answer, in whatever order they come. SEM_DEADLINE_EXCEEDED after timeout_ms. */
sem_status client_receive(client *c, int timeout_ms, client_reply *out, sem_error *err);

/* What the server sends by itself once it was asked to (watch). */
typedef struct client_notification {
    char method[CLIENT_METHOD_MAX];
    msgpack_object value;    /* the one element of its params */
    uint64_t lost;           /* others before it that nobody had asked for in time */
    msgpack_unpacked memory; /* owned: client_notification_free */
    unsigned char *frame;    /* owned: strings of value point into it */
} client_notification;

/* A zeroed one and one that was freed are fine. */
void client_notification_free(client_notification *n);

/* The next notification, in the order in which they came; those that came between answers are kept for
 * this, and answers that come meanwhile for client_receive. SEM_DEADLINE_EXCEEDED after timeout_ms (below 0: never). */
sem_status client_next_notification(client *c, int timeout_ms, client_notification *out, sem_error *err);

/* Sends and waits for the answer to it; other answers that come meanwhile are
 * kept for client_receive. An error answer is a success of the call with
 * is_error set. */
sem_status client_call(client *c, const char *method, const void *params, size_t size, int timeout_ms,
                       client_reply *out, sem_error *err);

/* Calls auth with the token; *role gets the role that it has, at most CLIENT_ROLE_MAX bytes. An error answer
 * is an error here. The token is in no error. */
sem_status client_auth(client *c, const char *token, int timeout_ms, char role[CLIENT_ROLE_MAX], sem_error *err);

/* --- looking into results: NULL or the default when a key is missing */
const msgpack_object *object_get(const msgpack_object *map, const char *key);
bool object_is(const msgpack_object *o, const char *text); /* a str equal to text */
uint64_t object_uint(const msgpack_object *o, uint64_t otherwise);
double object_double(const msgpack_object *o, double otherwise);

#endif
