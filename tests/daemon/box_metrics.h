/* What the real daemon's /metrics says. */
#ifndef SEM_TESTS_DAEMON_BOX_METRICS_H
#define SEM_TESTS_DAEMON_BOX_METRICS_H

#include "tests/daemon/blackbox.h"

#include <netdb.h>
#include <sys/socket.h>

static inline int box_http_socket(const box *b)
{
    sem_error error;
    char *text, host[64], port[8];
    size_t size;
    ck_ok(files_read(b->log, 1 << 20, &text, &size, &error));
    const char *at = strstr(text, "address=http://");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(sscanf(at, "address=http://%63[^:]:%7[0-9]", host, port), 2);
    free(text);
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    ck_assert_int_eq(getaddrinfo(host, port, &hints, &found), 0);
    int fd = socket(found->ai_family, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, found->ai_addr, found->ai_addrlen), 0);
    freeaddrinfo(found);
    return fd;
}

/* The answer to GET /metrics, cut to size, of a daemon with server.http. */
static inline void box_metrics(const box *b, char *out, size_t size)
{
    static const char get[] = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    int fd = box_http_socket(b);
    ck_assert_int_eq(write(fd, get, sizeof get - 1), sizeof get - 1);
    size_t used = 0;
    for (ssize_t n; used + 1 < size && (n = read(fd, out + used, size - used - 1)) > 0;)
        used += (size_t)n;
    out[used] = '\0';
    close(fd);
}

#endif
