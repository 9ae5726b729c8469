#include "proto/address.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char TCP_SCHEME[] = "tcp://";
static const char UNIX_SCHEME[] = "unix:";

enum { HOST_MAX = 256, PORT_MAX = 8 /* bytes, NUL included */ };

/* 0 or an errno. */
static int wait_connected(int fd, int timeout_ms)
{
    uint64_t end = clock_monotonic_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    for (;;) {
        uint64_t now = clock_monotonic_ms();
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        int n = poll(&p, 1, timeout_ms < 0 ? -1 : now < end ? (int)(end - now) : 0);
        if (n == 0)
            return ETIMEDOUT;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        int error = 0;
        socklen_t length = sizeof error;
        return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
    }
}

/* 0 and *fd, or an errno. */
static int connect_one(int family, const struct sockaddr *address, socklen_t length, int timeout_ms, int *out)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    int error = connect(fd, address, length) == 0 ? 0 : errno;
    if (error == EINPROGRESS || error == EINTR)
        error = wait_connected(fd, timeout_ms);
    if (error != 0) {
        close(fd);
        return error;
    }
    int on = 1;
    if (family != AF_UNIX) /* only a matter of speed: a failure changes nothing */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    *out = fd;
    return 0;
}

static sem_status fail_connect(const char *address, int error, sem_error *err)
{
    sem_status code = error == ETIMEDOUT ? SEM_DEADLINE_EXCEEDED : SEM_UNAVAILABLE;
    char text[128];
    return sem_fail(err, code, "cannot connect to %s: %s; is semd running there?", address,
                    strerror_r(error, text, sizeof text));
}

static sem_status connect_unix(const char *address, int timeout_ms, int *fd, sem_error *err)
{
    const char *path = address + sizeof UNIX_SCHEME - 1;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof a.sun_path)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: the path of a Unix socket has 1 to %zu bytes, found %zu",
                        address, sizeof a.sun_path - 1, length);
    memcpy(a.sun_path, path, length + 1);
    int error = connect_one(AF_UNIX, (const struct sockaddr *)&a, sizeof a, timeout_ms, fd);
    return error == 0 ? SEM_OK : fail_connect(address, error, err);
}

static sem_status split_host(const char *address, char host[HOST_MAX], char port[PORT_MAX], sem_error *err)
{
    const char *start = address + sizeof TCP_SCHEME - 1;
    const char *colon = strrchr(start, ':');
    size_t length = colon != NULL ? (size_t)(colon - start) : 0;
    size_t digits = colon != NULL ? strspn(colon + 1, "0123456789") : 0;
    if (length >= 2 && start[0] == '[' && start[length - 1] == ']') {
        start++;
        length -= 2;
    } else if (length > 0 && memchr(start, ':', length) != NULL) {
        length = 0; /* an IPv6 address without brackets: which colon is the port's is a guess */
    }
    if (length == 0 || length >= HOST_MAX || digits == 0 || digits >= PORT_MAX || colon[1 + digits] != '\0')
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: a TCP address is tcp://host:port, with an IPv6 address in brackets", address);
    memcpy(host, start, length);
    host[length] = '\0';
    memcpy(port, colon + 1, digits + 1);
    return SEM_OK;
}

static sem_status connect_tcp(const char *address, int timeout_ms, int *fd, sem_error *err)
{
    char host[HOST_MAX], port[PORT_MAX];
    sem_status status = split_host(address, host, port, err);
    if (status != SEM_OK)
        return status;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0)
        return sem_fail(err, SEM_UNAVAILABLE, "cannot resolve %s: %s", address, gai_strerror(failed));
    int error = EADDRNOTAVAIL;
    for (const struct addrinfo *a = found; a != NULL && error != 0; a = a->ai_next)
        error = connect_one(a->ai_family, a->ai_addr, a->ai_addrlen, timeout_ms, fd);
    freeaddrinfo(found);
    return error == 0 ? SEM_OK : fail_connect(address, error, err);
}

sem_status address_connect(const char *address, int timeout_ms, int *fd, sem_error *err)
{
    if (strncmp(address, TCP_SCHEME, sizeof TCP_SCHEME - 1) == 0)
        return connect_tcp(address, timeout_ms, fd, err);
    if (strncmp(address, UNIX_SCHEME, sizeof UNIX_SCHEME - 1) == 0)
        return connect_unix(address, timeout_ms, fd, err);
    return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: an address is tcp://host:port or unix:/path", address);
}
