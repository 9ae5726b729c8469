/* The thread that keeps the log of searches, clicks and feedback within its time and size
 * (events.keep, events.max_size), erases what it is asked to, and writes the log's file
 * anew where that is due. */
#ifndef SEM_DAEMON_EVENT_UPKEEP_H
#define SEM_DAEMON_EVENT_UPKEEP_H

#include "base/status.h"
#include "daemon/config.h"
#include "daemon/core.h"
#include "daemon/task.h"

typedef struct event_upkeep event_upkeep;

sem_status event_upkeep_create(event_upkeep **out, core *c, sem_error *err);
/* Gives up what is under way, refuses what waits, stops the thread. While the writer
 * still runs. Accepts NULL. */
void event_upkeep_destroy(event_upkeep *u);

/* Takes an events.erase, and answers it when the log's file is free of what was erased. A
 * worker's thread. */
void event_upkeep_erase(event_upkeep *u, task *t);

/* Loop thread: takes no more, and gives up what is under way. Accepts NULL. */
void event_upkeep_drain(event_upkeep *u);

/* Loop thread: [events] of a reloaded configuration. */
void event_upkeep_reload(event_upkeep *u, const config *c);

#endif
