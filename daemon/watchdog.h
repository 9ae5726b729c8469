/* After a flip: whether people click less than they did (finetune/clickthrough.h), by the log.
 *
 * Searches of the generation that serves are compared with those of the one before it, each
 * when it is old enough for its clicks to have come. The log is read once, in pieces, as it
 * grows: nothing of this is on the way of a request. A significant fall is told in the log and
 * in /metrics, and where finetune.watchdog_rollback says so the generation before comes back. */
#ifndef SEM_DAEMON_WATCHDOG_H
#define SEM_DAEMON_WATCHDOG_H

#include "base/status.h"
#include "daemon/core.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct watchdog watchdog;

sem_status watchdog_create(watchdog **out, core *c, sem_error *err);
void watchdog_destroy(watchdog *w); /* accepts NULL */

/* Reads what is new in the log, looks where it is time to, and starts a rollback where one is
 * due. Gives up early when *stop. Index thread. */
void watchdog_work(watchdog *w, const atomic_bool *stop);

typedef struct watchdog_state {
    bool watching;      /* the generation is still being compared */
    bool alarm;         /* of the generation that serves */
    uint64_t alarms;    /* since the start of the daemon */
    size_t searches[2]; /* counted, of the generation before and of the one that serves */
    double rates[2];    /* debiased click-through at the last look; 0 before the first */
} watchdog_state;

/* Any thread. */
void watchdog_get_state(watchdog *w, watchdog_state *out);

#endif
