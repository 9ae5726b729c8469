#include "daemon/connection.h"

#include "base/clock.h"
#include "proto/frame.h"
#include "proto/pack.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BULK_PIECE = 64 << 10,      /* bytes of one direct read of a large frame: libevent reads 4 KiB at a time */
    BULK_BUDGET = 1 << 20,      /* bytes that one client may read before the others have a turn */
    LIBEVENT_PIECE = 4096,      /* a piece of this size says that more is waiting */
    DETACH_BYTES = 16 << 10,    /* a frame from here on keeps the read buffer instead of a copy */
    HELD_BYTES = 64 << 10,      /* a frame from here on is counted while it is in flight */
    REFERENCE_BYTES = 16 << 10, /* an answer from here on is sent from where it is instead of a copy */
    WRITE_BYTES = 256 << 10,    /* of one write */
    FINISH_MS = 5000,           /* after a broken frame, for answers to the requests before it */
    LINGER_MS = 1000,           /* after the last answer, for the client to read it and to close */
    RETRY_MS = 100              /* advice to a client with too many requests in flight */
};

typedef enum connection_state {
    STATE_OPEN,
    STATE_FINISHING, /* input is thrown away; closes when the answers are out */
    STATE_LINGERING  /* nothing more is sent; waits for the client to close, since a close() with unread
                        input would reset the connection and destroy the last answers on their way */
} connection_state;

/* A large request in flight: its memory counts against the connection. */
typedef struct held_frame {
    uint32_t msgid;
    size_t bytes;
} held_frame;

struct connection {
    const connection_shared *shared;
    uint64_t id;
    struct bufferevent *stream;
    struct event *timer;
    connection_state state;
    bool paused;  /* reading is stopped until answers are out */
    bool ended;   /* the client sends no more */
    bool reading; /* EV_READ is enabled */
    bool closing; /* closes at the end of the current event */
    buffer input; /* from `start`: the frame under way, and frames behind it while paused */
    size_t start;
    frame_scanner scanner;
    uint64_t frame_started_ms; /* 0: no frame under way */
    uint64_t active_ms;        /* of the last byte in or answer out */
    uint64_t finish_ms;        /* when FINISHING or LINGERING ends by force; 0: no limit */
    uint64_t armed_ms;         /* when the timer fires; 0: not armed */
    uint64_t write_timeout_ms; /* as set on the stream */
    size_t in_flight;
    size_t held_bytes;
    buffer held;  /* held_frame[] */
    bool watches; /* it gets notifications */
    auth_state auth;
    struct {
        uint64_t due_ms; /* 0: there is none */
        uint32_t msgid;
        bool answers; /* the auth was no notification */
    } refusal;        /* of a wrong token, which is held back; nothing is read meanwhile */
};

static size_t unsent(const connection *c)
{
    return evbuffer_get_length(bufferevent_get_output(c->stream));
}

/* --- sending */

/* context: the pool that data comes from. */
static void free_bytes(const void *data, size_t size, void *context)
{
    buffer_free(&(buffer){.data = (unsigned char *)data, .size = size, .memory = context});
}

/* What the socket takes at once need not wait for the loop to say that it is
 * writable, which costs three system calls more. An error is left for libevent to see. */
static size_t send_at_once(const connection *c, const buffer *bytes)
{
    if (unsent(c) > 0)
        return 0;
    ssize_t n = send(bufferevent_getfd(c->stream), bytes->data, bytes->size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return n > 0 ? (size_t)n : 0;
}

/* Takes the bytes. more: others follow in this pass, and go out with them. */
static void send_bytes(connection *c, buffer *bytes, bool more)
{
    struct evbuffer *out = bufferevent_get_output(c->stream);
    c->shared->stats->bytes_out += bytes->size;
    c->active_ms = clock_monotonic_ms();
    if (bytes->size >= REFERENCE_BYTES &&
        evbuffer_add_reference(out, bytes->data, bytes->size, free_bytes, bytes->memory) == 0) {
        *bytes = (buffer){.memory = bytes->memory};
        return;
    }
    /* A lost answer would leave the client waiting: better a closed connection. */
    size_t sent = more || bytes->size == 0 ? 0 : send_at_once(c, bytes);
    if (bytes->size == 0 || (sent < bytes->size && evbuffer_add(out, bytes->data + sent, bytes->size - sent) != 0))
        c->closing = true;
    buffer_free(bytes);
}

static void send_packed(connection *c, packer *p, buffer *bytes)
{
    c->shared->stats->replies++;
    if (p->failed)
        c->closing = true;
    else
        send_bytes(c, bytes, true);
    buffer_free(bytes);
}

static void send_error(connection *c, uint32_t msgid, const sem_error *err)
{
    buffer bytes = {.memory = c->shared->hooks.memory};
    packer p;
    pack_init(&p, &bytes);
    reply_error(&p, msgid, err);
    send_packed(c, &p, &bytes);
}

static void finish(connection *c, uint64_t limit_ms)
{
    c->state = STATE_FINISHING;
    c->finish_ms = limit_ms;
    c->frame_started_ms = 0;
    buffer_free(&c->input);
    c->start = 0;
}

/* The one error response after which the connection is closed. */
static void fail_stream(connection *c, const sem_error *err)
{
    char quoted[512];
    c->shared->stats->protocol_errors++;
    log_event(c->shared->log, LOG_LEVEL_INFO, "protocol_error", "connection=%llu reason=%s", (unsigned long long)c->id,
              log_value(quoted, sizeof quoted, err->message));
    send_error(c, c->scanner.has_msgid ? c->scanner.msgid : 0, err);
    finish(c, clock_monotonic_ms() + FINISH_MS);
}

/* --- requests in flight */

static bool hold_frame(connection *c, uint32_t msgid, size_t bytes)
{
    held_frame held = {.msgid = msgid, .bytes = bytes};
    if (bytes < HELD_BYTES)
        return true;
    if (!buffer_append(&c->held, &held, sizeof held))
        return false;
    c->held_bytes += bytes;
    return true;
}

static void release_frame(connection *c, const buffer *reply)
{
    uint32_t msgid;
    size_t count = c->held.size / sizeof(held_frame);
    held_frame *held = (held_frame *)(void *)c->held.data;
    if (c->in_flight == 0) {
        buffer_free(&c->held);
        c->held_bytes = 0;
        return;
    }
    if (count == 0 || !frame_reply_msgid(reply->data, reply->size, &msgid))
        return;
    for (size_t i = 0; i < count; i++) {
        if (held[i].msgid != msgid)
            continue;
        c->held_bytes -= held[i].bytes;
        held[i] = held[count - 1];
        c->held.size -= sizeof *held;
        return;
    }
}

/* --- receiving */

static void next_scan(connection *c)
{
    const request_limits *limits = &c->shared->config->limits;
    frame_scanner_init(&c->scanner, &(frame_limits){.bytes = limits->frame_bytes, .depth = limits->depth});
    c->frame_started_ms = 0;
}

/* The frame's bytes as memory of their own; false when memory is out. */
static bool detach_frame(connection *c, size_t length, buffer *frame)
{
    buffer tail = {.memory = c->input.memory};
    *frame = tail;
    size_t behind = c->input.size - c->start - length;
    if (c->start == 0 && length >= DETACH_BYTES && behind <= length) {
        if (!buffer_append(&tail, c->input.data + length, behind))
            return false;
        *frame = c->input;
        frame->size = length;
        c->input = tail;
        return true;
    }
    if (!buffer_append(frame, c->input.data + c->start, length))
        return false;
    c->start += length;
    return true;
}

/* --- roles */

/* Holds the answer back as a request in flight would; nothing else waits for it. */
static void refuse_token(connection *c, const request *r)
{
    c->shared->stats->auth_failures++;
    log_event(c->shared->log, LOG_LEVEL_WARNING, "auth_failed", "connection=%llu failures=%u",
              (unsigned long long)c->id, c->auth.failures);
    c->refusal.due_ms = clock_monotonic_ms() + AUTH_DELAY_MS;
    c->refusal.msgid = r->msgid;
    c->refusal.answers = !r->notification;
    c->in_flight++;
}

static void send_refusal(connection *c)
{
    sem_error error;
    c->refusal.due_ms = 0;
    c->in_flight--;
    auth_refusal(&c->auth, &error);
    if (c->refusal.answers)
        send_error(c, c->refusal.msgid, &error);
    if (c->auth.failures >= AUTH_FAILURES_MAX && c->state == STATE_OPEN)
        finish(c, clock_monotonic_ms() + FINISH_MS);
}

static void answer_auth(connection *c, request *r)
{
    sem_error error;
    buffer bytes = {.memory = c->shared->hooks.memory};
    packer p;
    sem_status status = auth_take(&c->auth, c->shared->tokens, &r->u.auth.token, &error);
    if (status == SEM_UNAUTHENTICATED) {
        refuse_token(c, r);
    } else if (!r->notification) {
        pack_init(&p, &bytes);
        auth_reply(&p, r->msgid, c->auth.role, status == SEM_OK ? NULL : &error);
        send_packed(c, &p, &bytes);
    }
    explicit_bzero(r->frame.data, r->frame.size); /* its memory is used again */
    request_free(r);
}

/* Whether the client may not call what the frame asks for. It is then answered, before
 * anything is made of the arguments. */
static bool forbidden(connection *c, const buffer *frame)
{
    uint32_t msgid;
    bool notification;
    sem_error error;
    if (auth_check_frame(&c->auth, c->shared->tokens, frame, &msgid, &notification, &error) == SEM_OK)
        return false;
    c->shared->stats->denied++;
    if (!notification)
        send_error(c, msgid, &error);
    return true;
}

bool connection_may_watch(connection *c)
{
    return auth_check(&c->auth, c->shared->tokens, METHOD_WATCH, NULL) == SEM_OK;
}

static void submit(connection *c, buffer *frame)
{
    const size_t length = frame->size;
    request *r = NULL;
    uint32_t msgid = 0;
    bool notification = false;
    sem_error error;
    uint64_t arrived = clock_monotonic_ns();
    c->shared->stats->requests++;
    if (forbidden(c, frame)) {
        buffer_free(frame);
        return;
    }
    if (request_parse(&r, frame, &c->shared->config->limits, &msgid, &notification, &error) != SEM_OK) {
        if (!notification)
            send_error(c, msgid, &error);
        return;
    }
    if (r->method == METHOD_AUTH) {
        answer_auth(c, r);
        return;
    }
    if (!r->notification && !hold_frame(c, r->msgid, length)) {
        sem_fail_memory(&error, "a request");
        error.retry_after_ms = RETRY_MS;
        send_error(c, r->msgid, &error);
        request_free(r);
        return;
    }
    if (!r->notification)
        c->in_flight++;
    c->shared->hooks.request(c->shared->hooks.context, c->id, r, arrived);
}

/* A whole frame of `length` bytes lies at the start of the input. */
static void take_frame(connection *c, size_t length)
{
    sem_error error;
    size_t most = c->shared->config->server.max_in_flight;
    bool asks = c->scanner.is_request;
    if (asks && c->in_flight >= most) {
        sem_fail(&error, SEM_RESOURCE_EXHAUSTED,
                 "%zu requests are in flight on this connection (server.max_in_flight %zu)", c->in_flight, most);
        error.retry_after_ms = RETRY_MS;
        c->start += length;
        send_error(c, c->scanner.msgid, &error);
        return;
    }
    buffer frame;
    if (detach_frame(c, length, &frame)) {
        submit(c, &frame);
        return;
    }
    c->start += length;
    sem_fail_memory(&error, "a request");
    error.retry_after_ms = RETRY_MS;
    if (asks)
        send_error(c, c->scanner.msgid, &error);
}

/* True while the client must first take answers, or wait for its large
 * requests or because of a wrong token, before more is read. Resumes at half, so as not to flap. */
static bool crowded(const connection *c)
{
    const config *now = c->shared->config;
    size_t mark = now->server.output_buffer;
    return c->refusal.due_ms != 0 || unsent(c) >= (c->paused ? mark / 2 : mark) ||
           c->held_bytes > now->limits.frame_bytes;
}

/* Moves what is left to the front. Less than one piece lies behind the last
 * whole frame, so this stays linear. */
static void compact(connection *c)
{
    if (c->start == c->input.size) {
        buffer_free(&c->input);
    } else if (c->start > 0) {
        memmove(c->input.data, c->input.data + c->start, c->input.size - c->start);
        c->input.size -= c->start;
    }
    c->start = 0;
}

static void take_frames(connection *c)
{
    sem_error error;
    while (c->state == STATE_OPEN && !c->closing && c->start < c->input.size) {
        size_t length = 0;
        c->paused = crowded(c);
        if (c->paused)
            break;
        if (frame_scan(&c->scanner, c->input.data + c->start, c->input.size - c->start, &length, &error) != SEM_OK) {
            fail_stream(c, &error);
            return;
        }
        if (length == 0) {
            if (c->frame_started_ms == 0)
                c->frame_started_ms = clock_monotonic_ms();
            break;
        }
        take_frame(c, length);
        next_scan(c);
    }
    compact(c);
}

/* Straight from the socket behind what libevent has read: its own reads are too
 * small for large frames. An end or an error is left for libevent to see. */
static void read_bulk(connection *c)
{
    int fd = bufferevent_getfd(c->stream);
    for (size_t total = 0; total < BULK_BUDGET;) {
        if (c->state != STATE_OPEN || c->paused || c->closing || c->frame_started_ms == 0)
            return;
        if (!buffer_reserve(&c->input, BULK_PIECE)) {
            c->closing = true;
            return;
        }
        ssize_t got = recv(fd, c->input.data + c->input.size, BULK_PIECE, MSG_DONTWAIT);
        if (got <= 0)
            return;
        c->input.size += (size_t)got;
        c->shared->stats->bytes_in += (uint64_t)got;
        total += (size_t)got;
        take_frames(c);
    }
}

/* --- the life of a connection */

static void linger(connection *c)
{
    c->state = STATE_LINGERING;
    c->finish_ms = clock_monotonic_ms() + LINGER_MS;
    if (shutdown(bufferevent_getfd(c->stream), SHUT_WR) != 0)
        c->closing = true;
}

/* When something must happen by itself; 0: never. */
static uint64_t deadline(const connection *c)
{
    const config *now = c->shared->config;
    if (c->refusal.due_ms != 0)
        return c->refusal.due_ms;
    if (c->state != STATE_OPEN)
        return c->finish_ms;
    if (c->frame_started_ms != 0)
        return c->paused ? 0 : c->frame_started_ms + now->server.frame_timeout_ms;
    bool idle = now->server.idle_timeout_ms > 0 && c->in_flight == 0 && !c->watches && unsent(c) == 0;
    return idle ? c->active_ms + now->server.idle_timeout_ms : 0;
}

/* The timer is only ever brought forward; when it fires early it looks again. */
static void arm(connection *c)
{
    uint64_t due = deadline(c), now = clock_monotonic_ms();
    if (due == 0 || (c->armed_ms != 0 && c->armed_ms <= due))
        return;
    uint64_t wait = due > now ? due - now : 1;
    struct timeval tv = {.tv_sec = (time_t)(wait / 1000), .tv_usec = (suseconds_t)(wait % 1000 * 1000)};
    if (event_add(c->timer, &tv) == 0)
        c->armed_ms = now + wait;
    else
        c->closing = true;
}

static void set_reading(connection *c, bool wanted)
{
    if (wanted == c->reading)
        return;
    if ((wanted ? bufferevent_enable(c->stream, EV_READ) : bufferevent_disable(c->stream, EV_READ)) != 0)
        c->closing = true;
    c->reading = wanted;
}

/* Ends every event: what has become possible is done, and nothing touches c
 * afterwards. */
static void settle(connection *c)
{
    if (c->state == STATE_OPEN && c->paused && !crowded(c)) {
        c->paused = false;
        if (c->frame_started_ms != 0)
            c->frame_started_ms = clock_monotonic_ms();
        take_frames(c);
    }
    if (c->state == STATE_OPEN && c->ended && !c->paused)
        finish(c, 0);
    if (c->state == STATE_FINISHING && c->in_flight == 0 && unsent(c) == 0) {
        if (c->ended)
            c->closing = true;
        else
            linger(c);
    }
    if (!c->closing) {
        set_reading(c, !c->ended && !(c->state == STATE_OPEN && c->paused));
        arm(c);
    }
    if (c->closing)
        connection_close(c);
}

static void on_read(struct bufferevent *stream, void *arg)
{
    connection *c = arg;
    struct evbuffer *in = bufferevent_get_input(stream);
    size_t got = evbuffer_get_length(in);
    c->shared->stats->bytes_in += got;
    if (c->state != STATE_OPEN) {
        evbuffer_drain(in, got);
    } else if (!buffer_reserve(&c->input, got) || evbuffer_remove(in, c->input.data + c->input.size, got) != (int)got) {
        c->closing = true;
    } else {
        c->input.size += got;
        c->active_ms = clock_monotonic_ms();
        take_frames(c);
        if (got >= LIBEVENT_PIECE)
            read_bulk(c);
    }
    settle(c);
}

static void on_write(struct bufferevent *stream, void *arg)
{
    (void)stream;
    settle(arg);
}

static void on_event(struct bufferevent *stream, short what, void *arg)
{
    connection *c = arg;
    (void)stream;
    if ((what & BEV_EVENT_EOF) != 0 && (what & BEV_EVENT_READING) != 0 && c->state != STATE_LINGERING) {
        c->ended = true;
        c->reading = false;
    } else {
        c->closing = true;
    }
    settle(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    connection *c = arg;
    sem_error error;
    uint64_t due = deadline(c);
    (void)fd;
    (void)what;
    c->armed_ms = 0;
    if (due != 0 && due <= clock_monotonic_ms()) {
        if (c->refusal.due_ms != 0) {
            send_refusal(c);
        } else if (c->state == STATE_OPEN && c->frame_started_ms != 0) {
            sem_fail(&error, SEM_DEADLINE_EXCEEDED, "a frame was not whole after %llu ms (server.frame_timeout)",
                     (unsigned long long)c->shared->config->server.frame_timeout_ms);
            fail_stream(c, &error);
        } else {
            c->closing = true;
        }
    }
    settle(c);
}

static void set_write_timeout(connection *c)
{
    uint64_t wait = c->shared->config->server.write_timeout_ms;
    if (wait == c->write_timeout_ms)
        return;
    struct timeval tv = {.tv_sec = (time_t)(wait / 1000), .tv_usec = (suseconds_t)(wait % 1000 * 1000)};
    bufferevent_set_timeouts(c->stream, NULL, &tv);
    c->write_timeout_ms = wait;
}

sem_status connection_create(connection **out, const connection_shared *shared, int fd, uint64_t id, sem_error *err)
{
    int on = 1;
    connection *c = calloc(1, sizeof *c);
    if (c == NULL) {
        close(fd);
        return sem_fail_memory(err, "a connection");
    }
    c->shared = shared;
    c->id = id;
    c->input.memory = shared->hooks.memory;
    c->stream = bufferevent_socket_new(shared->base, fd, BEV_OPT_CLOSE_ON_FREE);
    c->timer = evtimer_new(shared->base, on_timer, c);
    if (c->stream == NULL)
        close(fd);
    if (c->stream == NULL || c->timer == NULL) {
        connection_destroy(c);
        return sem_fail_memory(err, "a connection");
    }
    /* On a Unix socket both fail, and are not needed. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    bufferevent_setcb(c->stream, on_read, on_write, on_event, c);
    bufferevent_setwatermark(c->stream, EV_WRITE, shared->config->server.output_buffer / 2, 0);
    bufferevent_set_max_single_write(c->stream, WRITE_BYTES);
    set_write_timeout(c);
    next_scan(c);
    c->active_ms = clock_monotonic_ms();
    set_reading(c, true);
    arm(c);
    if (c->closing) {
        connection_destroy(c);
        return sem_fail(err, SEM_INTERNAL, "cannot watch a connection");
    }
    *out = c;
    return SEM_OK;
}

void connection_destroy(connection *c)
{
    if (c == NULL)
        return;
    if (c->stream != NULL)
        bufferevent_free(c->stream);
    if (c->timer != NULL)
        event_free(c->timer);
    buffer_free(&c->input);
    buffer_free(&c->held);
    free(c);
}

void connection_close(connection *c)
{
    const connection_shared *shared = c->shared;
    uint64_t id = c->id;
    bool waits = c->in_flight > 0;
    connection_destroy(c);
    if (waits && shared->hooks.gone != NULL)
        shared->hooks.gone(shared->hooks.context, id);
    shared->closed(shared->owner, id);
}

/* Whether the client has left so much unsent that it is closed instead. */
static bool beyond_limit(connection *c)
{
    size_t limit = c->shared->config->server.output_limit;
    if (unsent(c) < limit)
        return false;
    log_event(c->shared->log, LOG_LEVEL_WARNING, "output_limit", "connection=%llu unsent=%zu limit=%zu",
              (unsigned long long)c->id, unsent(c), limit);
    c->closing = true;
    return true;
}

void connection_reply(connection *c, buffer *reply, bool more)
{
    if (c->in_flight > 0)
        c->in_flight--;
    release_frame(c, reply);
    set_write_timeout(c);
    if (c->state == STATE_LINGERING || beyond_limit(c)) {
        buffer_free(reply);
    } else {
        c->shared->stats->replies++;
        send_bytes(c, reply, more);
    }
    settle(c);
}

void connection_watch(connection *c, bool watches)
{
    c->watches = watches;
}

void connection_notify(connection *c, const buffer *bytes)
{
    buffer copy = {.memory = c->shared->hooks.memory};
    if (c->state != STATE_OPEN)
        return;
    set_write_timeout(c);
    if (beyond_limit(c)) {
        settle(c);
        return;
    }
    c->shared->stats->notifications++;
    /* What is missed is not made up for: better a closed connection. */
    if (buffer_append(&copy, bytes->data, bytes->size))
        send_bytes(c, &copy, false);
    else
        c->closing = true;
    settle(c);
}

void connection_drain(connection *c)
{
    bool idle = c->state == STATE_OPEN && c->in_flight == 0 && unsent(c) == 0 && c->input.size == 0;
    if (c->state == STATE_OPEN)
        finish(c, 0);
    if (idle)
        c->closing = true;
    settle(c);
}

bool connection_busy(const connection *c)
{
    return c->in_flight > 0;
}
