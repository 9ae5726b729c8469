/* A daemon in a process of its own, its log read line by line, and the service
 * manager's side of the notification socket. */
#ifndef SEM_TESTS_DAEMON_DAEMON_PROCESS_H
#define SEM_TESTS_DAEMON_DAEMON_PROCESS_H

#include "tests/common/testing.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DAEMON_PATIENCE_S = 60 };

typedef struct daemon_process {
    pid_t pid;
    FILE *log;
    char line[4096]; /* the last one read */
    int notify_fd;   /* -1: none */
    char notify_path[108];
} daemon_process;

/* Makes the notification socket; the child gets its path in NOTIFY_SOCKET. */
static inline void daemon_notify_open(daemon_process *d)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = DAEMON_PATIENCE_S};
    snprintf(d->notify_path, sizeof d->notify_path, "%s/notify", testing_folder());
    memcpy(where.sun_path, d->notify_path, sizeof where.sun_path);
    d->notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(d->notify_fd, 0);
    ck_assert_int_eq(bind(d->notify_fd, (struct sockaddr *)&where, sizeof where), 0);
    setsockopt(d->notify_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
}

/* Reads messages until one holds a line `text`. */
static inline void daemon_notify_expect(daemon_process *d, const char *text)
{
    char message[4096];
    size_t length = strlen(text);
    for (;;) {
        ssize_t n = recv(d->notify_fd, message, sizeof message - 1, 0);
        ck_assert_msg(n > 0, "no %s was sent: %s", text, strerror(errno));
        message[n] = '\0';
        for (char *line = message; line != NULL; line = strchr(line, '\n'), line += line != NULL)
            if (strncmp(line, text, length) == 0)
                return;
    }
}

/* Forks; the child runs body(context) with its standard error in d->log. */
static inline void daemon_fork(daemon_process *d, int (*body)(void *context), void *context)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    d->pid = fork();
    ck_assert_int_ge(d->pid, 0);
    if (d->pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        if (d->notify_path[0] != '\0')
            setenv("NOTIFY_SOCKET", d->notify_path, 1);
        else
            unsetenv("NOTIFY_SOCKET");
        unsetenv("JOURNAL_STREAM");
        _exit(body(context));
    }
    close(ends[1]);
    d->log = fdopen(ends[0], "r");
    ck_assert_ptr_nonnull(d->log);
}

/* Reads the log up to a line that holds text, which is left in d->line. */
static inline void daemon_log_expect(daemon_process *d, const char *text)
{
    alarm(DAEMON_PATIENCE_S);
    while (fgets(d->line, sizeof d->line, d->log) != NULL)
        if (strstr(d->line, text) != NULL) {
            alarm(0);
            return;
        }
    ck_abort_msg("the log ended without '%s'; last line: %s", text, d->line);
}

/* What stands behind "address=" in d->line. */
static inline const char *daemon_address(daemon_process *d)
{
    char *address = strstr(d->line, "address=");
    ck_assert_ptr_nonnull(address);
    address += strlen("address=");
    address[strcspn(address, " \n")] = '\0';
    return address;
}

/* The exit status; reads the log to its end. */
static inline int daemon_wait(daemon_process *d)
{
    int status = 0;
    char rest[4096];
    alarm(DAEMON_PATIENCE_S);
    while (fgets(rest, sizeof rest, d->log) != NULL)
        ;
    ck_assert_int_eq(waitpid(d->pid, &status, 0), d->pid);
    alarm(0);
    fclose(d->log);
    ck_assert_msg(WIFEXITED(status), "ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static inline int daemon_stop(daemon_process *d)
{
    kill(d->pid, SIGTERM);
    return daemon_wait(d);
}

#endif
