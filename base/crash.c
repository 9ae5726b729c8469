#include "base/crash.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 5, PATIENCE_MS = 300 * 1000 /* whoever was to make the file has died */ };

/* Read once: the environment of a process that has threads does not change. */
typedef struct points {
    const char *crash; /* NULL: none */
    size_t crash_length;
    const char *pause;
    const char *until;
} points;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static points wanted;
static atomic_long left;    /* times that the point is still passed */
static atomic_bool paused;  /* it has been */
static atomic_bool nothing; /* neither is wanted, and that is known */

static void read_wanted(void)
{
    wanted.crash = getenv("SEMD_CRASH_AT");
    wanted.pause = getenv("SEMD_PAUSE_AT");
    wanted.until = getenv("SEMD_PAUSE_UNTIL");
    if (wanted.crash != NULL) {
        const char *times = strchr(wanted.crash, ':');
        wanted.crash_length = times != NULL ? (size_t)(times - wanted.crash) : strlen(wanted.crash);
        atomic_store(&left, times != NULL ? strtol(times + 1, NULL, 10) : 1);
    }
    atomic_store(&nothing, wanted.crash == NULL && wanted.pause == NULL);
}

/* Says that the thread is there. Who waits for that has an answer, or his patience ends. */
static void tell_of_pause(void)
{
    char path[4096];
    const int n = snprintf(path, sizeof path, "%s.waits", wanted.until);
    const int fd = n > 0 && (size_t)n < sizeof path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0)
        close(fd);
}

static void wait_for_file(void)
{
    const struct timespec pause = {0, POLL_MS * 1000000L};
    if (wanted.until != NULL)
        tell_of_pause();
    for (int waited = 0; wanted.until != NULL && access(wanted.until, F_OK) != 0 && waited < PATIENCE_MS;
         waited += POLL_MS)
        nanosleep(&pause, NULL);
}

void crash_point(const char *label)
{
    if (atomic_load_explicit(&nothing, memory_order_relaxed))
        return;
    pthread_once(&once, read_wanted);
    if (wanted.pause != NULL && strcmp(label, wanted.pause) == 0 && !atomic_exchange(&paused, true))
        wait_for_file();
    if (wanted.crash == NULL || strlen(label) != wanted.crash_length ||
        memcmp(label, wanted.crash, wanted.crash_length) != 0 || atomic_fetch_sub(&left, 1) != 1)
        return;
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}
