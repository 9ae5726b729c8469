/* How much a thread gives way to others. */
#ifndef SEM_BASE_NICENESS_H
#define SEM_BASE_NICENESS_H

#include "base/status.h"

enum {
    NICENESS_IDLE = 20 /* beyond all nice values: only what no other thread wants */
};

/* Adds to the nice value of the calling thread, up to 19; 0 changes nothing. Where the system can do so (Linux from 6.12
 * on) a thread that wakes takes the processor from it at once, and not at the clock's next tick, milliseconds later. With
 * NICENESS_IDLE it runs where no thread of another kind wants to (SCHED_IDLE), and stays so for good: the way back
 * needs a right. Threads that it creates are as it is. SEM_INTERNAL where the system does not let it. */
sem_status niceness_add(int added, sem_error *err);

#endif
