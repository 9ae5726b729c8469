/* The engine's counters and gauges in Prometheus text form. */
#ifndef SEM_DAEMON_CORE_METRICS_H
#define SEM_DAEMON_CORE_METRICS_H

#include "base/buffer.h"
#include "daemon/core.h"

#include <stdbool.h>

/* Appends; false when memory is out. Any thread; takes short locks only. */
bool core_metrics(core *c, buffer *out);

#endif
