/* A daemon that the demonstration, or a benchmark, has for itself. */
#ifndef SEM_TOOLS_DEMO_DEMO_DAEMON_H
#define SEM_TOOLS_DEMO_DEMO_DAEMON_H

#include "base/process.h"
#include "base/status.h"
#include "proto/client.h"

#include <signal.h>
#include <stdbool.h>

enum { DEMO_DAEMON_OPTIONS_MAX = 48 };

typedef struct demo_daemon_setup {
    const char *semd, *model; /* the program, the model's folder */
    const char *data, *log;   /* where it stores (made if it is missing), where its standard error goes */
    /* "section.key=value" beside these and a port of its own, ended by NULL; at most
     * DEMO_DAEMON_OPTIONS_MAX. No job starts by itself. */
    const char *const *options;
    bool keep;            /* it outlives this program */
    const sigset_t *mask; /* that it shall have; NULL: this program's */
} demo_daemon_setup;

/* Starts it and returns when it answers. process and client: the caller's, whatever is returned,
 * for process_stop() and client_close(). */
sem_status demo_daemon_start(process *out, client **connection, const demo_daemon_setup *setup, sem_error *err);

#endif
