#include "daemon/notify.h"

#include <systemd/sd-daemon.h>

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { START_EXTENSION_S = 300 /* for one step of the start: a large index takes minutes */ };

/* The manager reads lines: a message must not begin one of its own. A manager
 * that can't be reached is no reason to stop, so results are not looked at. */
static void send_status(const char *before, const char *status, const char *after)
{
    char line[512];
    snprintf(line, sizeof line, "%s", status);
    for (char *p = line; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20)
            *p = ' ';
    (void)sd_notifyf(0, "%sSTATUS=%s%s", before, line, after);
}

void notify_ready(const char *status)
{
    send_status("READY=1\n", status, "");
}

void notify_progress(const char *status)
{
    char more[64];
    snprintf(more, sizeof more, "\nEXTEND_TIMEOUT_USEC=%llu", START_EXTENSION_S * 1000000ULL);
    send_status("", status, more);
}

void notify_status(const char *status)
{
    send_status("", status, "");
}

void notify_reloading(void)
{
    (void)sd_notify(0, "RELOADING=1\nSTATUS=Reloading");
}

void notify_stopping(void)
{
    (void)sd_notify(0, "STOPPING=1\nSTATUS=Draining");
}

void notify_alive(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}

uint64_t notify_watchdog_ms(void)
{
    uint64_t limit_us = 0;
    if (sd_watchdog_enabled(0, &limit_us) <= 0)
        return 0;
    return limit_us / 2000 > 0 ? limit_us / 2000 : 1;
}

sem_status notify_sockets(int *fds, size_t max, size_t *count, sem_error *err)
{
    char reason[128];
    *count = 0;
    int n = sd_listen_fds(1);
    if (n < 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "cannot take the sockets of LISTEN_FDS: %s",
                        strerror_r(-n, reason, sizeof reason));
    if ((size_t)n > max)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "LISTEN_FDS hands over %d sockets (at most %zu)", n, max);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "descriptor %d of LISTEN_FDS is no listening stream socket (ListenStream=, Accept=no)", fd);
        fds[i] = fd;
    }
    *count = (size_t)n;
    return SEM_OK;
}
