#include "proto/client.h"

#include "base/checked.h"
#include "base/clock.h"
#include "proto/address.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    READ_SIZE = 64 << 10,       /* bytes asked of the socket at once */
    SEND_STALL_MS = 300 * 1000, /* a server that takes nothing for so long is taken for dead */
    INBOUND_MAX_FRAMES = 2      /* answers kept while sending, in units of the largest */
};

typedef struct kept_reply {
    client_reply reply;
    struct kept_reply *next;
} kept_reply;

typedef struct kept_notification {
    client_notification notification;
    struct kept_notification *next;
} kept_notification;

struct client {
    int fd;
    bool closed; /* the server has hung up; what it said before may still lie in `in` */
    bool broken; /* nothing that lies in `in` can be trusted or awaited */
    uint32_t next_id;
    buffer in; /* bytes read; those before in_start are done with */
    size_t in_start;
    frame_scanner scanner; /* over in.data + in_start */
    uint32_t *waiting;     /* ids sent and not answered, [first, last), oldest first */
    size_t waiting_first, waiting_last, waiting_capacity;
    kept_reply *kept, **kept_end; /* answers to others, come while client_call waited */
    kept_notification *notified, **notified_end;
    size_t notified_count;
    uint64_t lost; /* notifications since the last one that was asked for */
};

static void start_frame(client *c)
{
    frame_limits limits = {.bytes = CLIENT_REPLY_MAX, .depth = FRAME_DEPTH_MAX, .replies = true};
    frame_scanner_init(&c->scanner, &limits);
}

sem_status client_connect(client **out, const char *address, int timeout_ms, sem_error *err)
{
    *out = NULL;
    client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return sem_fail_memory(err, "a client");
    c->kept_end = &c->kept;
    c->notified_end = &c->notified;
    c->next_id = 1; /* 0 is what a server answers that could not read the id */
    sem_status status = address_connect(address, timeout_ms, &c->fd, err);
    if (status != SEM_OK) {
        free(c);
        return status;
    }
    start_frame(c);
    *out = c;
    return SEM_OK;
}

static void drop_notification(client *c)
{
    kept_notification *first = c->notified;
    c->notified = first->next;
    c->notified_count--;
    if (c->notified == NULL)
        c->notified_end = &c->notified;
    client_notification_free(&first->notification);
    free(first);
}

void client_close(client *c)
{
    if (c == NULL)
        return;
    close(c->fd);
    while (c->kept != NULL) {
        kept_reply *next = c->kept->next;
        client_reply_free(&c->kept->reply);
        free(c->kept);
        c->kept = next;
    }
    while (c->notified != NULL)
        drop_notification(c);
    buffer_free(&c->in);
    free(c->waiting);
    free(c);
}

void client_notification_free(client_notification *n)
{
    msgpack_unpacked_destroy(&n->memory);
    free(n->frame);
    *n = (client_notification){0};
}

void client_reply_free(client_reply *r)
{
    msgpack_unpacked_destroy(&r->memory);
    free(r->frame);
    *r = (client_reply){0};
}

/* --- ids that wait for an answer */

static bool waiting_add(client *c, uint32_t id)
{
    if (c->waiting_first > 0 && c->waiting_last == c->waiting_capacity) {
        c->waiting_last -= c->waiting_first;
        memmove(c->waiting, c->waiting + c->waiting_first, c->waiting_last * sizeof *c->waiting);
        c->waiting_first = 0;
    }
    if (c->waiting_last == c->waiting_capacity) {
        size_t capacity = c->waiting_capacity == 0 ? 16 : 2 * c->waiting_capacity;
        uint32_t *ids = checked_realloc(c->waiting, capacity, sizeof *ids);
        if (ids == NULL)
            return false;
        c->waiting = ids;
        c->waiting_capacity = capacity;
    }
    c->waiting[c->waiting_last++] = id;
    return true;
}

/* False when nobody waits for it. Answers come nearly in order: the oldest is looked at first. */
static bool waiting_remove(client *c, uint32_t id)
{
    for (size_t i = c->waiting_first; i < c->waiting_last; i++)
        if (c->waiting[i] == id) {
            memmove(c->waiting + c->waiting_first + 1, c->waiting + c->waiting_first,
                    (i - c->waiting_first) * sizeof *c->waiting);
            c->waiting_first++;
            return true;
        }
    return false;
}

/* --- the socket */

static sem_status fail_closed(sem_error *err)
{
    return sem_fail(err, SEM_UNAVAILABLE, "the connection is closed");
}

static sem_status fail_socket(client *c, const char *what, sem_error *err)
{
    char text[128];
    const char *reason = strerror_r(errno, text, sizeof text);
    c->closed = true;
    return sem_fail(err, SEM_UNAVAILABLE, "cannot %s the server: %s", what, reason);
}

/* Takes what the socket holds now, at most READ_SIZE; notes it when the server has hung up. */
static sem_status read_some(client *c, sem_error *err)
{
    if (c->in_start > 0 && c->in_start >= c->in.size / 2) {
        c->in.size -= c->in_start;
        memmove(c->in.data, c->in.data + c->in_start, c->in.size);
        c->in_start = 0;
    }
    if (!buffer_reserve(&c->in, READ_SIZE)) {
        c->broken = true;
        return sem_fail_memory(err, "answers of the server");
    }
    ssize_t n = recv(c->fd, c->in.data + c->in.size, READ_SIZE, 0);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return fail_socket(c, "read from", err);
    if (n == 0)
        c->closed = true;
    if (n > 0)
        c->in.size += (size_t)n;
    return SEM_OK;
}

/* The time left until `end`, for poll(); -1 when there is no end. */
static int left_ms(uint64_t end, int timeout_ms)
{
    uint64_t now = clock_monotonic_ms();
    return timeout_ms < 0 ? -1 : now < end ? (int)(end - now) : 0;
}

static uint64_t end_of(int timeout_ms)
{
    return clock_monotonic_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
}

/* One turn of sending: waits, reads what has come, writes what fits. */
static sem_status send_some(client *c, const buffer *data, size_t *sent, sem_error *err)
{
    bool room = c->in.size - c->in_start < (size_t)INBOUND_MAX_FRAMES * CLIENT_REPLY_MAX;
    struct pollfd p = {.fd = c->fd, .events = (short)(POLLOUT | (room ? POLLIN : 0))};
    int n = poll(&p, 1, SEND_STALL_MS);
    if (n < 0)
        return errno == EINTR ? SEM_OK : fail_socket(c, "wait for", err);
    if (n == 0) {
        c->closed = true;
        return sem_fail(err, SEM_UNAVAILABLE, "the server took nothing for %d seconds", SEND_STALL_MS / 1000);
    }
    if ((p.revents & (POLLIN | POLLHUP | POLLERR)) != 0 && room) {
        sem_status status = read_some(c, err);
        if (status != SEM_OK)
            return status;
    }
    if (c->closed)
        return fail_closed(err);
    if ((p.revents & POLLOUT) == 0)
        return SEM_OK;
    ssize_t put = send(c->fd, data->data + *sent, data->size - *sent, MSG_NOSIGNAL);
    if (put < 0 && errno != EAGAIN && errno != EINTR)
        return fail_socket(c, "write to", err);
    if (put > 0)
        *sent += (size_t)put;
    return SEM_OK;
}

/* --- answers */

static bool is_array_of(const msgpack_object *o, uint32_t size)
{
    return o->type == MSGPACK_OBJECT_ARRAY && o->via.array.size == size;
}

static sem_status fail_malformed(const char *what, sem_error *err)
{
    return sem_fail(err, SEM_INTERNAL, "the server's answer is malformed: %s", what);
}

/* Fills what a reply says about an error from the map {code, message, ...}. */
static sem_status take_error(client_reply *out, const msgpack_object *error, sem_error *err)
{
    const msgpack_object *code = error->type == MSGPACK_OBJECT_MAP ? object_get(error, "code") : NULL;
    if (code == NULL || code->type != MSGPACK_OBJECT_STR || code->via.str.size >= sizeof out->code)
        return fail_malformed("an error without a code", err);
    out->is_error = true;
    memcpy(out->code, code->via.str.ptr, code->via.str.size);
    out->code[code->via.str.size] = '\0';
    uint64_t retry = object_uint(object_get(error, "retry_after_ms"), 0);
    out->retry_after_ms = retry < UINT32_MAX ? (uint32_t)retry : UINT32_MAX;
    out->value = *error;
    return SEM_OK;
}

/* Copies a scanned frame of so many elements and unpacks it; both are the caller's to free in every case. */
static sem_status unpack_frame(msgpack_unpacked *memory, unsigned char **copy, const unsigned char *frame,
                               size_t length, uint32_t elements, sem_error *err)
{
    *copy = malloc(length);
    if (*copy == NULL)
        return sem_fail_memory(err, "an answer");
    memcpy(*copy, frame, length);
    size_t offset = 0;
    // NOLINTNEXTLINE(clang-analyzer-unix.Malloc): whoever called frees what it gets when this fails
    msgpack_unpack_return got = msgpack_unpack_next(memory, (const char *)*copy, length, &offset);
    if (got == MSGPACK_UNPACK_NOMEM_ERROR)
        return sem_fail_memory(err, "an answer");
    if (got != MSGPACK_UNPACK_SUCCESS || offset != length || !is_array_of(&memory->data, elements))
        return fail_malformed("it can't be unpacked", err);
    return SEM_OK;
}

/* Turns a scanned frame into *out, which owns it. */
static sem_status unpack_reply(client_reply *out, const unsigned char *frame, size_t length, sem_error *err)
{
    *out = (client_reply){0};
    sem_status status = unpack_frame(&out->memory, &out->frame, frame, length, 4, err);
    if (status != SEM_OK)
        return status;
    const msgpack_object *parts = out->memory.data.via.array.ptr;
    out->msgid = (uint32_t)object_uint(&parts[1], 0);
    if (parts[2].type != MSGPACK_OBJECT_NIL)
        return take_error(out, &parts[2], err);
    out->value = parts[3];
    return SEM_OK;
}

static sem_status unpack_notification(client_notification *out, const unsigned char *frame, size_t length,
                                      sem_error *err)
{
    *out = (client_notification){0};
    sem_status status = unpack_frame(&out->memory, &out->frame, frame, length, 3, err);
    if (status != SEM_OK)
        return status;
    const msgpack_object *parts = out->memory.data.via.array.ptr;
    if (parts[1].type != MSGPACK_OBJECT_STR || parts[1].via.str.size >= CLIENT_METHOD_MAX || !is_array_of(&parts[2], 1))
        return fail_malformed("a notification is [2, method, [value]]", err);
    memcpy(out->method, parts[1].via.str.ptr, parts[1].via.str.size);
    out->value = parts[2].via.array.ptr[0];
    return SEM_OK;
}

/* Puts it behind those that wait. */
static sem_status keep_notification(client *c, const unsigned char *frame, size_t length, sem_error *err)
{
    kept_notification *k = calloc(1, sizeof *k);
    if (k == NULL)
        return sem_fail_memory(err, "a notification");
    sem_status status = unpack_notification(&k->notification, frame, length, err);
    if (status != SEM_OK) {
        client_notification_free(&k->notification);
        free(k);
        return status;
    }
    if (c->notified_count == CLIENT_NOTIFICATIONS_MAX) {
        drop_notification(c);
        c->lost++;
    }
    *c->notified_end = k;
    c->notified_end = &k->next;
    c->notified_count++;
    return SEM_OK;
}

/* Checks whose answer it is. Id 0 is the server's last word on a stream that it could not read. */
static sem_status claim_reply(client *c, client_reply *out, sem_error *err)
{
    if (out->msgid == 0 && out->is_error) {
        sem_error said;
        sem_status status = client_reply_status(out, &said);
        return sem_fail(err, status, "the server closes the connection: %s", said.message);
    }
    if (!waiting_remove(c, out->msgid))
        return fail_malformed("it answers nothing that was asked", err);
    return SEM_OK;
}

/* Takes the next whole frame that lies in memory: an answer, or a notification, which is kept. *got: it was an
 * answer; *length 0: there is none. */
static sem_status take_frame(client *c, client_reply *out, bool *got, size_t *length, sem_error *err)
{
    const unsigned char *data = c->in.data != NULL ? c->in.data + c->in_start : NULL;
    *got = false;
    *length = 0;
    if (data == NULL)
        return SEM_OK;
    sem_status status = frame_scan(&c->scanner, data, c->in.size - c->in_start, length, err);
    if (status != SEM_OK || *length == 0)
        return status;
    const bool notifies = c->scanner.is_notification;
    if (notifies)
        status = keep_notification(c, data, *length, err);
    else
        status = unpack_reply(out, data, *length, err);
    c->in_start += *length;
    start_frame(c);
    if (status == SEM_OK && !notifies)
        status = claim_reply(c, out, err);
    if (status != SEM_OK && !notifies)
        client_reply_free(out);
    *got = status == SEM_OK && !notifies;
    return status;
}

/* The next whole answer that lies in memory; *got false when there is none. */
static sem_status take_reply(client *c, client_reply *out, bool *got, sem_error *err)
{
    size_t length;
    sem_status status;
    do
        status = take_frame(c, out, got, &length, err);
    while (status == SEM_OK && !*got && length > 0);
    c->broken = c->broken || status != SEM_OK;
    return status;
}

static sem_status keep_reply(client *c, client_reply *reply, sem_error *err)
{
    kept_reply *k = malloc(sizeof *k);
    if (k == NULL) {
        client_reply_free(reply);
        return sem_fail_memory(err, "an answer");
    }
    *k = (kept_reply){.reply = *reply};
    *c->kept_end = k;
    c->kept_end = &k->next;
    *reply = (client_reply){0};
    return SEM_OK;
}

/* Sending failed, often because the server refused what it got and hung up:
 * what it said is worth more than "connection closed". */
static sem_status last_words(client *c, uint32_t msgid, sem_status status, sem_error *err)
{
    client_reply reply = {0};
    bool got = true;
    while (got) {
        sem_error refusal;
        if (take_reply(c, &reply, &got, &refusal) != SEM_OK)
            return sem_fail(err, refusal.code, "%s", refusal.message);
        if (got && reply.is_error && reply.msgid == msgid) {
            status = client_reply_status(&reply, err);
            client_reply_free(&reply);
        } else if (got && keep_reply(c, &reply, err) != SEM_OK) {
            return SEM_RESOURCE_EXHAUSTED;
        }
    }
    return status;
}

sem_status client_send(client *c, const char *method, const void *params, size_t size, uint32_t *msgid, sem_error *err)
{
    static const unsigned char no_params[] = {0x90};
    if (c->broken || c->closed)
        return fail_closed(err);
    *msgid = c->next_id;
    c->next_id = c->next_id == UINT32_MAX ? 1 : c->next_id + 1;
    buffer data = {0};
    packer p;
    pack_init(&p, &data);
    request_begin(&p, *msgid, method);
    pack_raw(&p, size > 0 ? params : no_params, size > 0 ? size : sizeof no_params);
    if (p.failed || !waiting_add(c, *msgid)) {
        buffer_free(&data);
        return sem_fail_memory(err, "a request");
    }
    sem_status status = SEM_OK;
    for (size_t sent = 0; status == SEM_OK && sent < data.size;)
        status = send_some(c, &data, &sent, err);
    buffer_free(&data);
    return status == SEM_OK ? SEM_OK : last_words(c, *msgid, status, err);
}

/* Waits until the socket has something, and reads it. what: that did not come in time. */
static sem_status await_bytes(client *c, int timeout_ms, uint64_t end, const char *what, sem_error *err)
{
    if (c->closed)
        return fail_closed(err);
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    int n = poll(&p, 1, left_ms(end, timeout_ms));
    if (n == 0)
        return sem_fail(err, SEM_DEADLINE_EXCEEDED, "no %s within %d ms", what, timeout_ms);
    if (n < 0)
        return errno == EINTR ? SEM_OK : fail_socket(c, "wait for", err);
    return read_some(c, err);
}

/* The next answer from the socket, past those kept. */
static sem_status await_reply(client *c, int timeout_ms, uint64_t end, client_reply *out, sem_error *err)
{
    *out = (client_reply){0};
    for (;;) {
        if (c->broken)
            return fail_closed(err);
        bool got;
        sem_status status = take_reply(c, out, &got, err);
        if (status == SEM_OK && !got)
            status = await_bytes(c, timeout_ms, end, "answer", err);
        if (status != SEM_OK || got)
            return status;
    }
}

sem_status client_next_notification(client *c, int timeout_ms, client_notification *out, sem_error *err)
{
    const uint64_t end = end_of(timeout_ms);
    sem_status status = SEM_OK;
    *out = (client_notification){0};
    while (c->notified == NULL && status == SEM_OK) {
        client_reply reply;
        bool got;
        if (c->broken)
            return fail_closed(err);
        status = take_reply(c, &reply, &got, err);
        if (status == SEM_OK && got)
            status = keep_reply(c, &reply, err);
        else if (status == SEM_OK && c->notified == NULL)
            status = await_bytes(c, timeout_ms, end, "notification", err);
    }
    if (c->notified == NULL)
        return status;
    kept_notification *first = c->notified;
    *out = first->notification;
    out->lost = c->lost;
    c->lost = 0;
    first->notification = (client_notification){0};
    drop_notification(c);
    return SEM_OK;
}

sem_status client_receive(client *c, int timeout_ms, client_reply *out, sem_error *err)
{
    if (c->kept == NULL)
        return await_reply(c, timeout_ms, end_of(timeout_ms), out, err);
    kept_reply *first = c->kept;
    *out = first->reply;
    c->kept = first->next;
    if (c->kept == NULL)
        c->kept_end = &c->kept;
    free(first);
    return SEM_OK;
}

sem_status client_call(client *c, const char *method, const void *params, size_t size, int timeout_ms,
                       client_reply *out, sem_error *err)
{
    *out = (client_reply){0};
    uint32_t id;
    uint64_t end = end_of(timeout_ms);
    sem_status status = client_send(c, method, params, size, &id, err);
    while (status == SEM_OK) {
        status = await_reply(c, timeout_ms, end, out, err);
        if (status == SEM_OK && out->msgid == id)
            return SEM_OK;
        if (status == SEM_OK)
            status = keep_reply(c, out, err);
    }
    return status;
}

sem_status client_reply_status(const client_reply *r, sem_error *err)
{
    if (!r->is_error)
        return SEM_OK;
    sem_status code = SEM_INTERNAL;
    for (int i = SEM_INVALID_ARGUMENT; i < SEM_CANCELLED; i++)
        if (strcmp(sem_status_name((sem_status)i), r->code) == 0)
            code = (sem_status)i;
    const msgpack_object *message = object_get(&r->value, "message");
    bool told = message != NULL && message->type == MSGPACK_OBJECT_STR;
    sem_fail(err, code, "%.*s", told ? (int)message->via.str.size : 0, told ? message->via.str.ptr : "");
    if (err != NULL)
        err->retry_after_ms = r->retry_after_ms;
    return code;
}

sem_status client_auth(client *c, const char *token, int timeout_ms, char role[CLIENT_ROLE_MAX], sem_error *err)
{
    buffer params = {0};
    client_reply reply = {0};
    packer p;
    role[0] = '\0';
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "token");
    pack_str(&p, token);
    sem_status status = p.failed ? sem_fail_memory(err, "a request")
                                 : client_call(c, "auth", params.data, params.size, timeout_ms, &reply, err);
    if (params.size > 0)
        explicit_bzero(params.data, params.size);
    buffer_free(&params);
    if (status == SEM_OK)
        status = client_reply_status(&reply, err);
    const msgpack_object *got = status == SEM_OK ? object_get(&reply.value, "role") : NULL;
    if (status == SEM_OK && (got == NULL || got->type != MSGPACK_OBJECT_STR || got->via.str.size >= CLIENT_ROLE_MAX))
        status = fail_malformed("auth without a role", err);
    if (status == SEM_OK)
        snprintf(role, CLIENT_ROLE_MAX, "%.*s", (int)got->via.str.size, got->via.str.ptr);
    client_reply_free(&reply);
    return status;
}

/* --- looking into results */

const msgpack_object *object_get(const msgpack_object *map, const char *key)
{
    if (map == NULL || map->type != MSGPACK_OBJECT_MAP)
        return NULL;
    for (uint32_t i = 0; i < map->via.map.size; i++)
        if (object_is(&map->via.map.ptr[i].key, key))
            return &map->via.map.ptr[i].val;
    return NULL;
}

bool object_is(const msgpack_object *o, const char *text)
{
    return o != NULL && o->type == MSGPACK_OBJECT_STR && o->via.str.size == strlen(text) &&
           memcmp(o->via.str.ptr, text, o->via.str.size) == 0;
}

uint64_t object_uint(const msgpack_object *o, uint64_t otherwise)
{
    return o != NULL && o->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? o->via.u64 : otherwise;
}

double object_double(const msgpack_object *o, double otherwise)
{
    if (o == NULL)
        return otherwise;
    switch (o->type) {
    case MSGPACK_OBJECT_POSITIVE_INTEGER: return (double)o->via.u64;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: return (double)o->via.i64;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: return o->via.f64;
    default: return otherwise;
    }
}
