/* How much a thread gives way to others: its nice value. */
#ifndef SEM_BASE_NICENESS_H
#define SEM_BASE_NICENESS_H

#include "base/status.h"

/* Adds to the nice value of the calling thread, up to 19; 0 changes nothing. SEM_INTERNAL where the system does not
 * let it. */
sem_status niceness_add(int added, sem_error *err);

#endif
