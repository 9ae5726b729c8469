/* Talking with the service manager: readiness, status, watchdog, and sockets
 * that it opened for us. Without one (no $NOTIFY_SOCKET) all of it does
 * nothing. Any thread. */
#ifndef SEM_DAEMON_NOTIFY_H
#define SEM_DAEMON_NOTIFY_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

void notify_ready(const char *status);
/* Still starting, and still at work: asks for more time. */
void notify_progress(const char *status);
void notify_status(const char *status);
void notify_reloading(void);
void notify_stopping(void);
void notify_alive(void);

/* Milliseconds between two notify_alive(): half of what the manager asks for;
 * 0: it asks for none. */
uint64_t notify_watchdog_ms(void);

/* The listening stream sockets handed over (socket activation), at most max;
 * *count is 0 where there are none. Removes the variables from the environment. */
sem_status notify_sockets(int *fds, size_t max, size_t *count, sem_error *err);

#endif
