/* The anonymous memory of another process, looked at all the time. */
#ifndef SEM_BENCH_ONLINE_MEMORY_H
#define SEM_BENCH_ONLINE_MEMORY_H

#include "base/status.h"

#include <stdint.h>
#include <sys/types.h>

typedef struct memory_watch memory_watch;

/* Bytes of RssAnon in the text of a /proc/PID/status; 0 where it has none. */
uint64_t memory_parse(const char *status);

/* Starts a thread that looks every 50 ms. */
sem_status memory_watch_start(memory_watch **out, pid_t pid, sem_error *err);

/* The most bytes since the start or the last call. */
uint64_t memory_watch_peak(memory_watch *m);

/* Accepts NULL. */
void memory_watch_stop(memory_watch *m);

#endif
