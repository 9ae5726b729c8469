/* A daemon of a benchmark's own: everything that it writes lies in one folder. */
#ifndef SEM_BENCH_SERVER_BENCH_DAEMON_H
#define SEM_BENCH_SERVER_BENCH_DAEMON_H

#include "base/files.h"
#include "base/process.h"
#include "bench/numbers.h"
#include "bench/server/caller.h"

/* All zero but `folder` before bench_daemon_arguments(). */
typedef struct bench_daemon {
    const char *folder;       /* data/, socket and log are in it */
    const char *semd, *model; /* the program, the model's folder */
    char place[FILES_PATH_MAX];
    process process;
    caller caller; /* open from bench_daemon_connect() on */
} bench_daemon;

/* Takes [option=value]... SEMD MODEL apart: the numbers, and folder=. False: something is wrong or missing. */
bool bench_daemon_arguments(bench_daemon *d, const number_option *numbers, size_t count, int argc, char **argv);

/* Makes the folder, and `folder` its absolute path: the daemon takes no other for its socket. */
sem_status bench_daemon_place(bench_daemon *d, sem_error *err);

/* settings: "section.key=value" [count]. Returns when it says that it listens. */
sem_status bench_daemon_start(bench_daemon *d, const char *const *settings, size_t count, sem_error *err);
sem_status bench_daemon_connect(bench_daemon *d, sem_error *err);

/* Accepts one that was not started. SEM_INTERNAL: it did not end in order. */
sem_status bench_daemon_stop(bench_daemon *d, sem_error *err);

#endif
