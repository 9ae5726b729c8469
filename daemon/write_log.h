/* The write log: what was written since the slowest of those who read it, the lexical index and a job
 * that embeds, came by. */
#ifndef SEM_DAEMON_WRITE_LOG_H
#define SEM_DAEMON_WRITE_LOG_H

#include "base/status.h"
#include "daemon/core.h"

#include <stdint.h>

/* The job under way needs no entry up to this one any more, UINT64_MAX: no entry at all. What the lexical
 * index does not need either goes. Job thread. */
sem_status write_log_trim(core *c, uint64_t upto, sem_error *err);

#endif
