#include "bench/online/memory.h"

#include "base/files.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOK_MS = 50, STATUS_BYTES_MAX = 8192 };

struct memory_watch {
    pthread_t thread;
    atomic_bool stop;
    _Atomic uint64_t peak;
    char path[64];
};

uint64_t memory_parse(const char *status)
{
    static const char name[] = "RssAnon:";
    const char *line = strstr(status, name);
    return line == NULL ? 0 : strtoull(line + sizeof name - 1, NULL, 10) * 1024;
}

static uint64_t look(const char *path)
{
    char text[STATUS_BYTES_MAX];
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return 0;
    text[fread(text, 1, sizeof text - 1, in)] = '\0';
    fclose(in);
    return memory_parse(text);
}

static void *run(void *argument)
{
    memory_watch *m = argument;
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    while (!atomic_load(&m->stop)) {
        uint64_t now = look(m->path), most = atomic_load(&m->peak);
        while (now > most && !atomic_compare_exchange_weak(&m->peak, &most, now))
            ;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

sem_status memory_watch_start(memory_watch **out, pid_t pid, sem_error *err)
{
    memory_watch *m = calloc(1, sizeof *m);
    if (m == NULL)
        return sem_fail_memory(err, "a look at memory");
    snprintf(m->path, sizeof m->path, "/proc/%d/status", (int)pid);
    sem_status status = look(m->path) > 0 ? SEM_OK : sem_fail(err, SEM_INTERNAL, "%s says no RssAnon", m->path);
    if (status == SEM_OK && pthread_create(&m->thread, NULL, run, m) != 0)
        status = sem_fail(err, SEM_RESOURCE_EXHAUSTED, "cannot start a thread");
    if (status != SEM_OK) {
        free(m);
        return status;
    }
    *out = m;
    return SEM_OK;
}

uint64_t memory_watch_peak(memory_watch *m)
{
    uint64_t now = look(m->path), most = atomic_exchange(&m->peak, 0);
    return now > most ? now : most;
}

void memory_watch_stop(memory_watch *m)
{
    if (m == NULL)
        return;
    atomic_store(&m->stop, true);
    pthread_join(m->thread, NULL);
    free(m);
}
