/* A daemon that a tool or a test starts and ends. */
#ifndef SEM_BASE_PROCESS_H
#define SEM_BASE_PROCESS_H

#include "base/status.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct process {
    pid_t pid;
    char address[256]; /* where it listens */
    char log[4096];    /* path of its standard error */
} process;

/* Starts argv[0] with its standard error in the file log and waits until it says
 * where it listens. keep: it outlives this program; else the kernel ends it with
 * this program, however that ends. mask: the signal mask that it shall have. */
sem_status process_start(process *out, char *const argv[], const char *log, bool keep, const sigset_t *mask,
                         sem_error *err);

/* Asks it to end, waits, and insists. True if it ended by itself with status 0. */
bool process_stop(process *p);

#endif
