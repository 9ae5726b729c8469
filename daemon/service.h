/* The daemon's life: bind, start the engine, serve, reload, drain, end. */
#ifndef SEM_DAEMON_SERVICE_H
#define SEM_DAEMON_SERVICE_H

#include "base/log.h"
#include "base/status.h"
#include "daemon/config.h"

#include <stdbool.h>
#include <stddef.h>

/* Where the configuration came from, for a reload. Borrowed. */
typedef struct service_source {
    const char *path; /* NULL: no file */
    const char *const *overrides;
    size_t count;
} service_source;

/* Runs in the calling thread, which becomes the loop thread, until SIGTERM or
 * SIGINT: SEM_OK after a drain, SEM_CANCELLED when a second signal cut it
 * short. SIGHUP reloads into c. *abandoned: threads still run (the engine could
 * not be waited for) and use log and c, so the process must leave through _exit(). */
sem_status service_run(config *c, const service_source *source, sem_log *log, bool *abandoned, sem_error *err);

#endif
