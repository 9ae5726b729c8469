/* Generations that nobody will return to give their disk back. */
#ifndef SEM_DAEMON_RETIRE_H
#define SEM_DAEMON_RETIRE_H

#include "daemon/core.h"

#include <stddef.h>

/* Job thread, or before it starts, while no job embeds. Candidates' records are
 * removed, but for the one that a job will go on with (candidate; 0: none); of the generations that were current before, `keep` stay and the
 * others become retired; the one that just_left names (0: none) stays before all
 * others, for requests that are still under it. Spaces and model folders that only those named
 * are removed; what can't be is logged and removed at the next start. */
void retire_generations(core *owner, size_t keep, uint32_t just_left, uint32_t candidate);

#endif
