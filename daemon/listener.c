#include "daemon/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    REARM_MS = 100, /* after running out of descriptors: long enough for some to come back, short for who waits */
    UNIX_MODE = 0660
};

struct listener {
    struct evconnlistener *event;
    struct event *rearm;
    evconnlistener_cb accepted;
    void *context;
    int spare;     /* given up for a moment to turn a client away when descriptors run out; -1: none */
    bool starving; /* logged; until the next accept */
    char name[ENDPOINT_TEXT_MAX];
    char unlink_path[ENDPOINT_PATH_MAX]; /* "": none */
    dev_t device;                        /* of the file at unlink_path: another daemon's file stays */
    ino_t inode;
    sem_log *log;
};

/* --- binding */

static sem_status bind_fail(sem_error *err, const char *what, const char *where, int code)
{
    char reason[128];
    sem_status status = code == EADDRINUSE ? SEM_ALREADY_EXISTS : SEM_UNAVAILABLE;
    return sem_fail(err, status, "cannot %s %s: %s", what, where, strerror_r(code, reason, sizeof reason));
}

/* A socket file that nobody answers on is left from a daemon that was killed. */
static sem_status remove_stale(const struct sockaddr_un *where, sem_error *err)
{
    struct stat found;
    if (lstat(where->sun_path, &found) != 0)
        return errno == ENOENT ? SEM_OK : bind_fail(err, "look at", where->sun_path, errno);
    if (!S_ISSOCK(found.st_mode))
        return sem_fail(err, SEM_ALREADY_EXISTS, "%s exists and is no socket (remove it or choose another path)",
                        where->sun_path);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0)
        return bind_fail(err, "open a socket for", where->sun_path, errno);
    int code = connect(probe, (const struct sockaddr *)where, sizeof *where) == 0 ? 0 : errno;
    close(probe);
    if (code != ECONNREFUSED && code != ENOENT)
        return sem_fail(err, SEM_ALREADY_EXISTS, "another process listens on %s", where->sun_path);
    if (unlink(where->sun_path) != 0 && errno != ENOENT)
        return bind_fail(err, "remove the stale", where->sun_path, errno);
    return SEM_OK;
}

static sem_status bind_unix(const endpoint *a, int *out, sem_error *err)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    memcpy(where.sun_path, a->path, sizeof where.sun_path);
    if (remove_stale(&where, err) != SEM_OK)
        return err->code;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return bind_fail(err, "open a socket for", a->path, errno);
    /* Nobody can connect between bind() and listen(), so the mode is right in time. */
    if (bind(fd, (const struct sockaddr *)&where, sizeof where) == 0) {
        if (chmod(a->path, UNIX_MODE) == 0 && listen(fd, SOMAXCONN) == 0) {
            *out = fd;
            return SEM_OK;
        }
        int code = errno;
        unlink(a->path);
        errno = code;
    }
    bind_fail(err, "listen on", a->path, errno);
    close(fd);
    return err->code;
}

/* One resolved address; -1 with errno set. */
static int bind_one(const struct addrinfo *where)
{
    int on = 1;
    int fd = socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        (where->ai_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0) &&
        bind(fd, where->ai_addr, where->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0)
        return fd;
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

static sem_status bind_tcp(const endpoint *a, int *fds, size_t *count, sem_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    char text[ENDPOINT_TEXT_MAX];
    int last = EADDRNOTAVAIL;
    snprintf(text, sizeof text, "tcp://%s:%s", a->host[0] == '\0' ? "*" : a->host, a->port);
    int code = getaddrinfo(a->host[0] == '\0' ? NULL : a->host, a->port, &hints, &found);
    if (code != 0)
        return sem_fail(err, SEM_UNAVAILABLE, "cannot resolve %s: %s", text, gai_strerror(code));
    for (const struct addrinfo *at = found; at != NULL && *count < LISTENER_SOCKETS_MAX; at = at->ai_next) {
        int fd = bind_one(at);
        if (fd >= 0) {
            fds[(*count)++] = fd;
            continue;
        }
        last = errno;
        /* A host without IPv6 still resolves to ::1; what is left must bind. */
        if (last != EADDRNOTAVAIL && last != EAFNOSUPPORT)
            break;
    }
    freeaddrinfo(found);
    if (*count > 0 && (last == EADDRNOTAVAIL || last == EAFNOSUPPORT))
        return SEM_OK;
    while (*count > 0)
        close(fds[--*count]);
    return bind_fail(err, "listen on", text, last);
}

sem_status listener_bind(const endpoint *a, int fds[LISTENER_SOCKETS_MAX], size_t *count, sem_error *err)
{
    *count = 0;
    if (!a->is_unix)
        return bind_tcp(a, fds, count, err);
    if (bind_unix(a, &fds[0], err) != SEM_OK)
        return err->code;
    *count = 1;
    return SEM_OK;
}

const char *listener_name(int fd, char text[ENDPOINT_TEXT_MAX])
{
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_storage space;
    } where;
    socklen_t length = sizeof where;
    char host[128], port[8];
    memset(&where, 0, sizeof where);
    snprintf(text, ENDPOINT_TEXT_MAX, "unknown");
    if (getsockname(fd, &where.any, &length) != 0)
        return text;
    if (where.any.sa_family == AF_UNIX)
        snprintf(text, ENDPOINT_TEXT_MAX, "unix:%.*s", (int)sizeof where.local.sun_path, where.local.sun_path);
    else if (getnameinfo(&where.any, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) ==
             0)
        snprintf(text, ENDPOINT_TEXT_MAX, where.any.sa_family == AF_INET6 ? "tcp://[%s]:%s" : "tcp://%s:%s", host,
                 port);
    return text;
}

/* --- accepting */

static int open_spare(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void on_accept(struct evconnlistener *event, evutil_socket_t fd, struct sockaddr *peer, int length, void *arg)
{
    listener *l = arg;
    l->starving = false;
    l->accepted(event, fd, peer, length, l->context);
}

/* The reserve takes one waiting client, who then sees a closed connection
 * instead of silence. */
static void turn_one_away(listener *l)
{
    if (l->spare < 0)
        return;
    close(l->spare);
    int fd = accept4(evconnlistener_get_fd(l->event), NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        close(fd);
    l->spare = open_spare();
}

/* Without descriptors accept() fails at once, again and again: the listener
 * rests until the timer. */
static void on_accept_error(struct evconnlistener *event, void *arg)
{
    listener *l = arg;
    int code = errno;
    char reason[128], quoted[160];
    struct timeval wait = {.tv_usec = REARM_MS * 1000};
    if (!l->starving) {
        l->starving = true;
        log_event(l->log, LOG_LEVEL_WARNING, "accept_failed", "address=%s reason=%s", l->name,
                  log_value(quoted, sizeof quoted, strerror_r(code, reason, sizeof reason)));
    }
    if (code == EMFILE || code == ENFILE)
        turn_one_away(l);
    evconnlistener_disable(event);
    if (event_add(l->rearm, &wait) != 0)
        evconnlistener_enable(event);
}

static void on_rearm(evutil_socket_t fd, short what, void *arg)
{
    listener *l = arg;
    (void)fd;
    (void)what;
    if (l->spare < 0)
        l->spare = open_spare();
    evconnlistener_enable(l->event);
}

static void remember_file(listener *l, const char *path)
{
    struct stat file;
    if (path == NULL || stat(path, &file) != 0)
        return;
    snprintf(l->unlink_path, sizeof l->unlink_path, "%s", path);
    l->device = file.st_dev;
    l->inode = file.st_ino;
}

sem_status listener_create(listener **out, struct event_base *base, int fd, const char *unlink_path,
                           evconnlistener_cb accepted, void *context, sem_log *log, sem_error *err)
{
    listener *l = calloc(1, sizeof *l);
    if (l == NULL) {
        close(fd);
        return sem_fail_memory(err, "a listener");
    }
    l->accepted = accepted;
    l->context = context;
    l->log = log;
    l->spare = open_spare();
    listener_name(fd, l->name);
    remember_file(l, unlink_path);
    l->rearm = evtimer_new(base, on_rearm, l);
    evutil_make_socket_nonblocking(fd);
    l->event = evconnlistener_new(base, on_accept, l, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (l->event == NULL)
        close(fd);
    if (l->event == NULL || l->rearm == NULL) {
        listener_destroy(l);
        return sem_fail_memory(err, "a listener");
    }
    evconnlistener_set_error_cb(l->event, on_accept_error);
    *out = l;
    return SEM_OK;
}

void listener_destroy(listener *l)
{
    struct stat file;
    if (l == NULL)
        return;
    if (l->event != NULL)
        evconnlistener_free(l->event);
    if (l->rearm != NULL)
        event_free(l->rearm);
    if (l->spare >= 0)
        close(l->spare);
    if (l->unlink_path[0] != '\0' && lstat(l->unlink_path, &file) == 0 && file.st_dev == l->device &&
        file.st_ino == l->inode)
        unlink(l->unlink_path);
    free(l);
}

const char *listener_text(const listener *l)
{
    return l->name;
}
