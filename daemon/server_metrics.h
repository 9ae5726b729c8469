/* The server's counters in Prometheus text form. */
#ifndef SEM_DAEMON_SERVER_METRICS_H
#define SEM_DAEMON_SERVER_METRICS_H

#include "base/buffer.h"
#include "daemon/server.h"

#include <stdbool.h>

/* Appends; false when memory is out. */
bool server_metrics(const server_stats *stats, bool ready, buffer *out);

#endif
