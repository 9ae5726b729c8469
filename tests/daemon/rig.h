/* A server with a fake engine behind it, in a thread of its own, and raw
 * clients. Included by the tests that need it. */
#ifndef SEM_TESTS_DAEMON_RIG_H
#define SEM_TESTS_DAEMON_RIG_H

#include "tests/common/testing.h"

#include "base/clock.h"
#include "proto/pack.h"
#include "proto/request.h"
#include "daemon/server.h"

#include <event2/event.h>
#include <msgpack.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { RIG_HELD_MAX = 4096, RIG_LARGE = 1 << 20 /* bytes of the answer to `get` */, RIG_PATIENCE_S = 20 };

typedef struct rig {
    config config;
    struct event_base *base;
    server *server;
    pthread_t thread;
    int command_fd;
    struct event *command_event;
    void (*command)(struct rig *r); /* runs once on the loop thread */
    pthread_mutex_t lock;
    pthread_cond_t commanded;
    struct {
        uint64_t connection;
        uint32_t msgid;
    } held[RIG_HELD_MAX]; /* `count` requests, which wait for rig_release() */
    size_t held_count;
    atomic_size_t notifications;
    atomic_size_t texts; /* of the last encode */
    atomic_bool idle;
    server_stats stats; /* after rig_stats() */
} rig;

static inline void rig_answer(rig *r, uint64_t connection, uint32_t msgid, size_t size)
{
    buffer reply = {0};
    packer p;
    pack_init(&p, &reply);
    reply_begin(&p, msgid);
    if (size == 0) {
        pack_str(&p, "pong");
    } else {
        unsigned char *bytes = calloc(size, 1);
        pack_bin(&p, bytes, size);
        free(bytes);
    }
    server_reply(r->server, connection, &reply);
}

static inline void rig_hold(rig *r, uint64_t connection, uint32_t msgid)
{
    pthread_mutex_lock(&r->lock);
    if (r->held_count < RIG_HELD_MAX) {
        r->held[r->held_count].connection = connection;
        r->held[r->held_count++].msgid = msgid;
    }
    pthread_mutex_unlock(&r->lock);
}

static inline void rig_request(void *context, uint64_t connection, request *q, uint64_t arrived_ns)
{
    rig *r = context;
    (void)arrived_ns;
    if (q->method == METHOD_WATCH)
        server_watch(r->server, connection, q->u.watch.topics);
    if (q->notification)
        r->notifications++;
    else if (q->method == METHOD_COUNT || q->method == METHOD_UPSERT)
        rig_hold(r, connection, q->msgid);
    else
        rig_answer(r, connection, q->msgid, q->method == METHOD_GET ? RIG_LARGE : 0);
    if (q->method == METHOD_ENCODE)
        r->texts = q->u.encode.count;
    request_free(q);
}

/* How many requests wait. */
static inline size_t rig_held(rig *r)
{
    pthread_mutex_lock(&r->lock);
    size_t count = r->held_count;
    pthread_mutex_unlock(&r->lock);
    return count;
}

/* Answers what is held, from this thread, newest first; returns how many. */
static inline size_t rig_release(rig *r)
{
    for (size_t answered = 0;; answered++) {
        pthread_mutex_lock(&r->lock);
        size_t count = r->held_count;
        uint64_t connection = count > 0 ? r->held[count - 1].connection : 0;
        uint32_t msgid = count > 0 ? r->held[count - 1].msgid : 0;
        r->held_count -= count > 0;
        pthread_mutex_unlock(&r->lock);
        if (count == 0)
            return answered;
        rig_answer(r, connection, msgid, 0);
    }
}

static inline void rig_on_command(evutil_socket_t fd, short what, void *arg)
{
    rig *r = arg;
    eventfd_t count;
    (void)what;
    (void)eventfd_read(fd, &count);
    pthread_mutex_lock(&r->lock);
    r->command(r);
    r->command = NULL;
    pthread_cond_signal(&r->commanded);
    pthread_mutex_unlock(&r->lock);
}

/* Runs command on the loop thread and waits for its end. */
static inline void rig_do(rig *r, void (*command)(rig *r))
{
    pthread_mutex_lock(&r->lock);
    r->command = command;
    (void)eventfd_write(r->command_fd, 1);
    while (r->command != NULL)
        pthread_cond_wait(&r->commanded, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static inline void rig_read_stats(rig *r)
{
    server_get_stats(r->server, &r->stats);
}

static inline const server_stats *rig_stats(rig *r)
{
    rig_do(r, rig_read_stats);
    return &r->stats;
}

static inline void rig_on_idle(void *context)
{
    rig *r = context;
    r->idle = true;
}

static inline void rig_drain(rig *r)
{
    server_drain(r->server, rig_on_idle, r);
}

static inline void rig_break(rig *r)
{
    event_base_loopbreak(r->base);
}

static inline void *rig_loop(void *arg)
{
    event_base_dispatch(((rig *)arg)->base);
    return NULL;
}

/* Starts a server with r->config (rig_init fills it; change it in between). */
static inline void rig_init(rig *r)
{
    memset(r, 0, sizeof *r);
    signal(SIGPIPE, SIG_IGN);
    config_defaults(&r->config);
    strcpy(r->config.server.listen[0], "tcp://127.0.0.1:0");
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->commanded, NULL);
    r->base = event_base_new();
    r->command_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r->command_event = event_new(r->base, r->command_fd, EV_READ | EV_PERSIST, rig_on_command, r);
    event_add(r->command_event, NULL);
}

static inline void rig_start(rig *r)
{
    sem_error error;
    server_hooks hooks = {.context = r, .request = rig_request};
    ck_ok(server_create(&r->server, r->base, &r->config, NULL, 0, &hooks, NULL, &error));
    ck_assert_int_eq(pthread_create(&r->thread, NULL, rig_loop, r), 0);
}

static inline void rig_stop(rig *r)
{
    rig_do(r, rig_break);
    pthread_join(r->thread, NULL);
    server_destroy(r->server);
    event_free(r->command_event);
    event_base_free(r->base);
    close(r->command_fd);
}

/* --- clients */

static inline int rig_dial(const char *address)
{
    struct timeval patience = {.tv_sec = RIG_PATIENCE_S};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    struct sockaddr_in inet = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (is_unix)
        strcpy(local.sun_path, address + 5);
    else
        inet.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    const struct sockaddr *where = is_unix ? (struct sockaddr *)&local : (struct sockaddr *)&inet;
    if (connect(fd, where, is_unix ? sizeof local : sizeof inet) == 0)
        return fd;
    close(fd);
    return -1;
}

static inline int rig_connect(rig *r)
{
    int fd = rig_dial(server_address(r->server, 0));
    ck_assert_msg(fd >= 0, "cannot connect: %s", strerror(errno));
    return fd;
}

static inline void rig_send(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
        ck_assert_msg(n > 0, "cannot send: %s", strerror(errno));
        p += n;
        size -= (size_t)n;
    }
}

/* A request appended to out: with ids for get and delete, the topic job for watch, else without params. */
static inline void rig_pack(buffer *out, uint32_t msgid, const char *method)
{
    packer p;
    pack_init(&p, out);
    request_begin(&p, msgid, method);
    if (strcmp(method, "get") == 0 || strcmp(method, "delete") == 0) {
        pack_array(&p, 1);
        pack_map(&p, 1);
        pack_str(&p, "ids");
        pack_array(&p, 1);
        pack_uint(&p, 1);
    } else if (strcmp(method, "watch") == 0) {
        pack_array(&p, 1);
        pack_map(&p, 1);
        pack_str(&p, "topics");
        pack_array(&p, 1);
        pack_str(&p, "job");
    } else {
        pack_array(&p, 0);
    }
    ck_assert(!p.failed);
}

static inline void rig_ask(int fd, uint32_t msgid, const char *method)
{
    buffer out = {0};
    rig_pack(&out, msgid, method);
    rig_send(fd, out.data, out.size);
    buffer_free(&out);
}

/* Answers as they come on one socket. */
typedef struct rig_reader {
    int fd;
    msgpack_unpacker unpacker;
    msgpack_unpacked answer;
    uint32_t msgid;
    char code[32]; /* "" unless an error */
    char message[256];
    bool retry;      /* the error carries retry_after_ms */
    char method[32]; /* "" unless a notification */
} rig_reader;

static inline void rig_reader_init(rig_reader *r, int fd)
{
    memset(r, 0, sizeof *r);
    r->fd = fd;
    ck_assert(msgpack_unpacker_init(&r->unpacker, 65536));
    msgpack_unpacked_init(&r->answer);
}

static inline void rig_reader_free(rig_reader *r)
{
    msgpack_unpacked_destroy(&r->answer);
    msgpack_unpacker_destroy(&r->unpacker);
    close(r->fd);
}

static inline void rig_copy(char *into, size_t size, const msgpack_object *text)
{
    snprintf(into, size, "%.*s", (int)text->via.str.size, text->via.str.ptr);
}

static inline void rig_read_error(rig_reader *r, const msgpack_object *error)
{
    r->code[0] = r->message[0] = '\0';
    r->retry = false;
    if (error->type != MSGPACK_OBJECT_MAP)
        return;
    for (uint32_t i = 0; i < error->via.map.size; i++) {
        const msgpack_object_kv *kv = &error->via.map.ptr[i];
        const char *key = kv->key.via.str.ptr;
        if (strncmp(key, "code", 4) == 0)
            rig_copy(r->code, sizeof r->code, &kv->val);
        else if (strncmp(key, "message", 7) == 0)
            rig_copy(r->message, sizeof r->message, &kv->val);
        else if (strncmp(key, "retry_after_ms", 14) == 0)
            r->retry = true;
    }
}

/* The next answer or notification; false at the end of the stream. */
static inline bool rig_next(rig_reader *r)
{
    while (msgpack_unpacker_next(&r->unpacker, &r->answer) != MSGPACK_UNPACK_SUCCESS) {
        ck_assert(msgpack_unpacker_reserve_buffer(&r->unpacker, 65536));
        ssize_t n = recv(r->fd, msgpack_unpacker_buffer(&r->unpacker), 65536, 0);
        ck_assert_msg(n >= 0 || errno == ECONNRESET || errno == EPIPE, "no answer: %s", strerror(errno));
        if (n <= 0)
            return false;
        msgpack_unpacker_buffer_consumed(&r->unpacker, (size_t)n);
    }
    const msgpack_object *o = &r->answer.data;
    ck_assert_int_eq(o->type, MSGPACK_OBJECT_ARRAY);
    r->method[0] = '\0';
    if (o->via.array.size == 3) {
        ck_assert_uint_eq(o->via.array.ptr[0].via.u64, 2);
        rig_copy(r->method, sizeof r->method, &o->via.array.ptr[1]);
        return true;
    }
    ck_assert_uint_eq(o->via.array.size, 4);
    ck_assert_uint_eq(o->via.array.ptr[0].via.u64, 1);
    r->msgid = (uint32_t)o->via.array.ptr[1].via.u64;
    rig_read_error(r, &o->via.array.ptr[2]);
    return true;
}

/* Waits (without a bound of its own: the test's time-out is one) until done(). */
#define rig_until(condition)                                                                                           \
    do {                                                                                                               \
        while (!(condition))                                                                                           \
            poll(NULL, 0, 2);                                                                                          \
    } while (0)

#endif
