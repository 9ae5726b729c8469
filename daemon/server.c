#include "daemon/server.h"

#include "proto/pack.h"
#include "daemon/connection.h"
#include "daemon/listener.h"

#include <event2/event.h>
#include <event2/listener.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SLOT_BITS = 20, /* a connection's number is serial << SLOT_BITS | slot; slots cover server.max_connections */
    SLOTS_MAX = 1 << SLOT_BITS,
    LISTENERS_MAX = CONFIG_LISTEN_MAX * LISTENER_SOCKETS_MAX,
    RETRY_MS = 1000 /* advice to a client beyond server.max_connections */
};

/* An answer on its way from a worker to the loop. */
typedef struct reply_node {
    struct reply_node *next;
    uint64_t connection;
    unsigned topics; /* not 0: a notification to all that watch one of them */
    buffer bytes;
} reply_node;

typedef struct slot {
    connection *connection; /* NULL: free */
    uint64_t id;
    unsigned topics;  /* that it watches */
    size_t next_free; /* SLOTS_MAX: the last free one */
} slot;

struct server {
    connection_shared shared;
    server_stats stats;
    listener *listeners[LISTENERS_MAX];
    size_t listener_count;
    slot *slots;
    size_t slot_count, slot_capacity, first_free;
    uint64_t serial;
    bool draining;
    void (*idle)(void *context);
    void *idle_context;

    int wake_fd;
    struct event *wake;
    pthread_mutex_t lock; /* guards first, last and attended; rank: innermost, nothing is called under it */
    reply_node *first, *last;
    bool attended;          /* the loop looks for answers by itself: nobody has to wake it */
    atomic_bool reply_lost; /* memory ran out for a reply_node */
    atomic_size_t watchers; /* connections that watch something */
};

/* --- slots: a connection's number to the connection, in constant time */

static connection *find_connection(const server *s, uint64_t id)
{
    size_t at = (size_t)(id & (SLOTS_MAX - 1));
    return at < s->slot_count && s->slots[at].id == id ? s->slots[at].connection : NULL;
}

static bool take_slot(server *s, size_t *at)
{
    if (s->first_free != SLOTS_MAX) {
        *at = s->first_free;
        s->first_free = s->slots[*at].next_free;
        return true;
    }
    if (s->slot_count == s->slot_capacity) {
        size_t capacity = s->slot_capacity == 0 ? 64 : s->slot_capacity * 2;
        slot *slots = capacity > SLOTS_MAX ? NULL : realloc(s->slots, capacity * sizeof *slots);
        if (slots == NULL)
            return false;
        s->slots = slots;
        s->slot_capacity = capacity;
    }
    *at = s->slot_count++;
    return true;
}

static void free_slot(server *s, size_t at)
{
    s->slots[at] = (slot){.next_free = s->first_free};
    s->first_free = at;
}

static void forget_watcher(server *s, size_t at)
{
    if (s->slots[at].topics != 0)
        atomic_fetch_sub(&s->watchers, 1);
    s->slots[at].topics = 0;
}

static void tell_idle(server *s)
{
    void (*idle)(void *) = s->idle;
    if (!s->draining || s->stats.connections > 0 || idle == NULL)
        return;
    s->idle = NULL;
    idle(s->idle_context);
}

static void on_closed(void *owner, uint64_t id)
{
    server *s = owner;
    forget_watcher(s, (size_t)(id & (SLOTS_MAX - 1)));
    free_slot(s, (size_t)(id & (SLOTS_MAX - 1)));
    s->stats.connections--;
    tell_idle(s);
}

/* --- accepting */

/* Best effort: the socket's buffer is empty, so the answer goes out or nothing does. */
static void turn_away(int fd, size_t most)
{
    sem_error error;
    buffer bytes = {0};
    packer p;
    sem_fail(&error, SEM_RESOURCE_EXHAUSTED, "%zu connections are open (server.max_connections)", most);
    error.retry_after_ms = RETRY_MS;
    pack_init(&p, &bytes);
    reply_error(&p, 0, &error);
    if (!p.failed && send(fd, bytes.data, bytes.size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        shutdown(fd, SHUT_WR);
    buffer_free(&bytes);
    close(fd);
}

static void on_accept(struct evconnlistener *event, evutil_socket_t fd, struct sockaddr *peer, int length, void *arg)
{
    server *s = arg;
    sem_error error;
    char quoted[512];
    size_t at;
    size_t most = s->shared.config->server.max_connections;
    (void)event;
    (void)peer;
    (void)length;
    s->stats.accepted++;
    if (s->stats.connections >= most || !take_slot(s, &at)) {
        turn_away(fd, most);
        return;
    }
    uint64_t id = ++s->serial << SLOT_BITS | at;
    s->slots[at] = (slot){.id = id};
    if (connection_create(&s->slots[at].connection, &s->shared, fd, id, &error) != SEM_OK) {
        free_slot(s, at);
        log_event(s->shared.log, LOG_LEVEL_WARNING, "accept_failed", "reason=%s",
                  log_value(quoted, sizeof quoted, error.message));
        return;
    }
    s->stats.connections++;
}

/* --- replies */

static reply_node *take_replies(server *s)
{
    pthread_mutex_lock(&s->lock);
    reply_node *list = s->first;
    s->first = s->last = NULL;
    pthread_mutex_unlock(&s->lock);
    return list;
}

/* Which connection lost its answer is not known: all that wait for one are
 * closed, so that no client waits for ever. */
static void close_waiting(server *s)
{
    log_event(s->shared.log, LOG_LEVEL_ERROR, "reply_lost", "reason=\"out of memory; closing connections in flight\"");
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].connection != NULL && connection_busy(s->slots[i].connection))
            connection_close(s->slots[i].connection);
}

/* Each may be closed by it, which empties its slot. */
static void deliver_notification(server *s, const reply_node *node)
{
    for (size_t i = 0; i < s->slot_count && atomic_load(&s->watchers) > 0; i++)
        if (s->slots[i].connection != NULL && (s->slots[i].topics & node->topics) != 0)
            connection_notify(s->slots[i].connection, &node->bytes);
}

static void deliver(server *s, reply_node *first)
{
    for (reply_node *node = first, *next; node != NULL; node = next) {
        next = node->next;
        if (node->topics != 0)
            deliver_notification(s, node);
        connection *c = node->topics != 0 ? NULL : find_connection(s, node->connection);
        if (c != NULL)
            connection_reply(c, &node->bytes, next != NULL && next->connection == node->connection);
        buffer_free(&node->bytes);
        pool_give(node);
    }
    if (atomic_exchange(&s->reply_lost, false))
        close_waiting(s);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    server *s = arg;
    eventfd_t count;
    (void)what;
    (void)eventfd_read(fd, &count);
    deliver(s, take_replies(s));
}

void server_attend(server *s, bool attended)
{
    pthread_mutex_lock(&s->lock);
    s->attended = attended;
    reply_node *list = s->first;
    s->first = s->last = NULL;
    pthread_mutex_unlock(&s->lock);
    deliver(s, list);
}

void server_wake(server *s)
{
    (void)eventfd_write(s->wake_fd, 1);
}

/* False when memory is out; the bytes are gone then. */
static bool hand_over(server *s, uint64_t id, unsigned topics, buffer *bytes)
{
    reply_node *node = pool_take(s->shared.hooks.memory, sizeof *node);
    if (node == NULL) {
        buffer_free(bytes);
        return false;
    }
    *node = (reply_node){.connection = id, .topics = topics, .bytes = *bytes};
    *bytes = (buffer){.memory = bytes->memory};
    pthread_mutex_lock(&s->lock);
    /* Whoever finds the list empty wakes the loop for all that follow. */
    bool wakes = s->first == NULL && !s->attended;
    if (s->first == NULL)
        s->first = node;
    else
        s->last->next = node;
    s->last = node;
    pthread_mutex_unlock(&s->lock);
    if (wakes)
        server_wake(s);
    return true;
}

void server_reply(server *s, uint64_t id, buffer *reply)
{
    if (hand_over(s, id, 0, reply))
        return;
    atomic_store(&s->reply_lost, true);
    server_wake(s);
}

void server_watch(server *s, uint64_t id, unsigned topics)
{
    size_t at = (size_t)(id & (SLOTS_MAX - 1));
    connection *c = find_connection(s, id);
    if (c == NULL)
        return;
    forget_watcher(s, at);
    if (topics != 0)
        atomic_fetch_add(&s->watchers, 1);
    s->slots[at].topics = topics;
    connection_watch(c, topics != 0);
}

void server_notify(server *s, unsigned topics, buffer *bytes)
{
    if (atomic_load(&s->watchers) == 0)
        buffer_free(bytes);
    else if (!hand_over(s, 0, topics, bytes))
        log_event(s->shared.log, LOG_LEVEL_ERROR, "notification_lost", "reason=\"out of memory\"");
}

void server_set_tokens(server *s, const tokens *t)
{
    s->shared.tokens = t;
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].topics != 0 && !connection_may_watch(s->slots[i].connection))
            connection_close(s->slots[i].connection);
}

/* --- life */

static sem_status add_listener(server *s, int fd, const char *unlink_path, sem_error *err)
{
    if (s->listener_count == LISTENERS_MAX) {
        close(fd);
        return sem_fail(err, SEM_INVALID_ARGUMENT, "more than %d listening sockets", (int)LISTENERS_MAX);
    }
    listener **at = &s->listeners[s->listener_count];
    sem_status status = listener_create(at, s->shared.base, fd, unlink_path, on_accept, s, s->shared.log, err);
    if (status == SEM_OK)
        s->listener_count++;
    return status;
}

static sem_status listen_on(server *s, const char *text, sem_error *err)
{
    endpoint where;
    int fds[LISTENER_SOCKETS_MAX];
    size_t count = 0;
    sem_status status = endpoint_parse(&where, text, err);
    if (status == SEM_OK)
        status = listener_bind(&where, fds, &count, err);
    for (size_t i = 0; i < count; i++) {
        if (status == SEM_OK)
            status = add_listener(s, fds[i], where.is_unix ? where.path : NULL, err);
        else
            close(fds[i]);
    }
    return status;
}

static sem_status open_listeners(server *s, const int *inherited, size_t count, sem_error *err)
{
    const config *c = s->shared.config;
    for (size_t i = 0; i < count; i++)
        if (add_listener(s, inherited[i], NULL, err) != SEM_OK)
            return err->code;
    for (size_t i = 0; count == 0 && i < c->server.listen_count; i++)
        if (listen_on(s, c->server.listen[i], err) != SEM_OK)
            return err->code;
    return SEM_OK;
}

sem_status server_create(server **out, struct event_base *base, const config *c, const int *inherited, size_t count,
                         const server_hooks *hooks, sem_log *log, sem_error *err)
{
    server *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "the server");
    s->shared = (connection_shared){
        .base = base, .config = c, .hooks = *hooks, .owner = s, .closed = on_closed, .stats = &s->stats, .log = log};
    s->first_free = SLOTS_MAX;
    pthread_mutex_init(&s->lock, NULL);
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    s->wake = s->wake_fd < 0 ? NULL : event_new(base, s->wake_fd, EV_READ | EV_PERSIST, on_wake, s);
    sem_status status = SEM_OK;
    if (s->wake == NULL || event_add(s->wake, NULL) != 0)
        status = sem_fail(err, SEM_INTERNAL, "cannot watch for answers");
    if (status == SEM_OK)
        status = open_listeners(s, inherited, count, err);
    if (status != SEM_OK) {
        server_destroy(s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

static void close_listeners(server *s)
{
    while (s->listener_count > 0)
        listener_destroy(s->listeners[--s->listener_count]);
}

void server_destroy(server *s)
{
    if (s == NULL)
        return;
    close_listeners(s);
    for (size_t i = 0; i < s->slot_count; i++)
        connection_destroy(s->slots[i].connection);
    for (reply_node *node = s->first, *next; node != NULL; node = next) {
        next = node->next;
        buffer_free(&node->bytes);
        pool_give(node);
    }
    if (s->wake != NULL)
        event_free(s->wake);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    pthread_mutex_destroy(&s->lock);
    free(s->slots);
    free(s);
}

void server_announce(const server *s)
{
    for (size_t i = 0; i < s->listener_count; i++)
        log_event(s->shared.log, LOG_LEVEL_INFO, "listening", "address=%s", listener_text(s->listeners[i]));
}

const char *server_address(const server *s, size_t i)
{
    return i < s->listener_count ? listener_text(s->listeners[i]) : NULL;
}

void server_drain(server *s, void (*idle)(void *context), void *context)
{
    s->draining = true;
    s->idle = NULL;
    close_listeners(s);
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].connection != NULL)
            connection_drain(s->slots[i].connection);
    s->idle = idle;
    s->idle_context = context;
    tell_idle(s);
}

void server_close_connections(server *s)
{
    for (size_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].connection != NULL)
            connection_close(s->slots[i].connection);
}

void server_get_stats(const server *s, server_stats *out)
{
    *out = s->stats;
}
