/* LMDB trusts its pages: one that is damaged can end the process that reads it. So
 * a store is verified in a process of its own, whose death is a finding. */
#include "index/store_verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PART_MAX = 64 };

typedef enum message_kind { MESSAGE_FOUND = 1, MESSAGE_PART, MESSAGE_END } message_kind;

/* On the pipe between the two, followed by `size` bytes. */
typedef struct message {
    uint32_t kind, size;
} message;

/* The last message: both run the same program, so it goes as it is. */
typedef struct ending {
    sem_status status;
    sem_error error;
    verify_result result;
} ending;

/* --- the child */

/* With nobody to read, there is nothing left to do. */
static void send_bytes(int fd, const void *data, size_t size)
{
    const char *p = data;
    while (size > 0) {
        ssize_t n = write(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            _exit(1);
        p += n;
        size -= (size_t)n;
    }
}

static void send_message(int fd, message_kind kind, const void *data, size_t size)
{
    message head = {.kind = kind, .size = (uint32_t)size};
    send_bytes(fd, &head, sizeof head);
    send_bytes(fd, data, size);
}

static void send_found(void *context, const char *text)
{
    send_message(*(const int *)context, MESSAGE_FOUND, text, strlen(text) + 1);
}

static void send_part(void *context, const char *part)
{
    send_message(*(const int *)context, MESSAGE_PART, part, strlen(part) + 1);
}

static void run_child(int fd, const verify_options *options, verify_run *run)
{
    const struct rlimit none = {0};
    verify_options o = *options;
    ending e = {.status = SEM_OK};
    (void)setrlimit(RLIMIT_CORE, &none);
    o.found = send_found;
    o.begun = send_part;
    o.context = &fd;
    e.status = run(&o, &e.result, &e.error);
    send_message(fd, MESSAGE_END, &e, sizeof e);
    _exit(0);
}

/* --- the parent */

static bool receive_bytes(int fd, void *data, size_t size)
{
    char *p = data;
    while (size > 0) {
        ssize_t n = read(fd, p, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        size -= (size_t)n;
    }
    return true;
}

typedef struct receiver {
    const verify_options *options;
    uint64_t violations;
    char part[PART_MAX]; /* that was begun last */
    ending end;
} receiver;

/* False when there is no other; *ended: it was the last one. */
static bool receive(receiver *r, int fd, bool *ended)
{
    message head;
    char text[VERIFY_TEXT];
    *ended = false;
    if (!receive_bytes(fd, &head, sizeof head))
        return false;
    if (head.kind == MESSAGE_END) {
        *ended = head.size == sizeof r->end && receive_bytes(fd, &r->end, sizeof r->end);
        return false;
    }
    if (head.size == 0 || head.size > sizeof text || !receive_bytes(fd, text, head.size))
        return false;
    text[head.size - 1] = '\0';
    if (head.kind == MESSAGE_FOUND) {
        r->violations++;
        r->options->found(r->options->context, text);
        return true;
    }
    snprintf(r->part, sizeof r->part, "%.*s", PART_MAX - 1, text);
    if (r->options->begun != NULL)
        r->options->begun(r->options->context, text);
    return true;
}

static void report_death(receiver *r, int status)
{
    char text[VERIFY_TEXT], how[64];
    if (WIFSIGNALED(status))
        snprintf(how, sizeof how, "signal %d, %s", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(how, sizeof how, "exit status %d", WEXITSTATUS(status));
    snprintf(text, sizeof text, "pages are damaged: reading %s ended with %s; what follows was not looked at", r->part,
             how);
    r->violations++;
    r->options->found(r->options->context, text);
}

sem_status verify_in_child(const verify_options *options, verify_run *run, verify_result *out, sem_error *err)
{
    receiver r = {.options = options, .part = "the store's files"};
    int ends[2], status = 0;
    bool ended = false;
    *out = (verify_result){0};
    if (pipe(ends) != 0)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot make a pipe: %s", strerror(errno));
    pid_t child = fork();
    if (child < 0) {
        close(ends[0]);
        close(ends[1]);
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a process: %s", strerror(errno));
    }
    if (child == 0) {
        close(ends[0]);
        run_child(ends[1], options, run);
    }
    close(ends[1]);
    while (receive(&r, ends[0], &ended))
        ;
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (!ended)
        report_death(&r, status);
    *out = r.end.result;
    out->violations = r.violations - r.end.result.caches; /* all that was found, less those */
    if (ended && r.end.status != SEM_OK && err != NULL)
        *err = r.end.error;
    return ended ? r.end.status : SEM_OK;
}
