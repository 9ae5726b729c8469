#include "base/process.h"

#include "base/clock.h"
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    START_TIMEOUT_MS = 120 * 1000, /* loading 90 MB from a cold disk and the self-tests */
    STOP_TIMEOUT_MS = 30 * 1000,   /* draining ends by itself sooner */
    POLL_MS = 20,
    LOG_BYTES_MAX = 64 << 20,
    LOG_TAIL = 600 /* bytes of it in an error message */
};

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    nanosleep(&time, NULL);
}

static void run_child(char *const argv[], const char *log, bool keep, const sigset_t *mask, pid_t parent)
{
    int out = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out < 0 || in < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
        _exit(127);
    /* Of its own session, it does not get the terminal's Ctrl-C: this program ends
     * it in order. */
    setsid();
    if (!keep && (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent))
        _exit(127);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execv(argv[0], argv);
    fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

/* The first address that the log names, once its line is whole. */
static bool read_address(process *p)
{
    char *content;
    size_t size;
    if (files_read(p->log, LOG_BYTES_MAX, &content, &size, NULL) != SEM_OK)
        return false;
    bool found = false;
    for (char *line = strtok(content, "\n"); line != NULL && !found; line = strtok(NULL, "\n")) {
        const char *address = strstr(line, "address=");
        if (strstr(line, "event=listening") == NULL || address == NULL)
            continue;
        address += strlen("address=");
        address += *address == '"';
        size_t length = strcspn(address, " \"");
        found = line + strlen(line) < content + size && length > 0 && length < sizeof p->address;
        if (found)
            snprintf(p->address, sizeof p->address, "%.*s", (int)length, address);
    }
    free(content);
    return found;
}

static sem_status start_failed(const process *p, const char *what, sem_error *err)
{
    char *content = NULL;
    size_t size = 0;
    files_read(p->log, LOG_BYTES_MAX, &content, &size, NULL);
    const char *tail = content == NULL ? "" : content + (size > LOG_TAIL ? size - LOG_TAIL : 0);
    sem_status status = sem_fail(err, SEM_UNAVAILABLE, "the daemon %s; the end of %s:\n%s", what, p->log, tail);
    free(content);
    return status;
}

sem_status process_start(process *out, char *const argv[], const char *log, bool keep, const sigset_t *mask,
                         sem_error *err)
{
    snprintf(out->log, sizeof out->log, "%s", log);
    unlink(log);
    pid_t parent = getpid();
    out->pid = fork();
    if (out->pid < 0)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start %s: %m", argv[0]);
    if (out->pid == 0)
        run_child(argv, log, keep, mask, parent);
    uint64_t end = clock_monotonic_ms() + START_TIMEOUT_MS;
    while (clock_monotonic_ms() < end) {
        if (read_address(out))
            return SEM_OK;
        if (waitpid(out->pid, NULL, WNOHANG) == out->pid) {
            out->pid = 0;
            return start_failed(out, "ended before it listened", err);
        }
        pause_ms(POLL_MS);
    }
    process_stop(out);
    return start_failed(out, "did not listen in time", err);
}

bool process_stop(process *p)
{
    if (p->pid <= 0)
        return false;
    int status = 0;
    kill(p->pid, SIGTERM);
    for (int waited = 0; waited < STOP_TIMEOUT_MS; waited += POLL_MS) {
        if (waitpid(p->pid, &status, WNOHANG) == p->pid) {
            p->pid = 0;
            return WIFEXITED(status) && WEXITSTATUS(status) == 0;
        }
        pause_ms(POLL_MS);
    }
    kill(p->pid, SIGKILL);
    waitpid(p->pid, &status, 0);
    p->pid = 0;
    return false;
}
