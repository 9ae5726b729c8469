/* The threads that nobody asks: the index thread, which trains lists and
 * reads the log for the watchdog; the columns
 * thread, which fills and merges what filters are evaluated on; and the ticker,
 * which looks after deadlines of those who wait and after intervals. */
#ifndef SEM_DAEMON_BACKGROUND_H
#define SEM_DAEMON_BACKGROUND_H

#include "base/status.h"
#include "daemon/core.h"

typedef struct background background;

sem_status background_create(background **out, core *c, sem_error *err);
/* Stops them; training under way is given up. Accepts NULL. */
void background_destroy(background *b);

#endif
