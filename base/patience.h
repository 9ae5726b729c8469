/* Threads that run where no other thread wants to (NICENESS_IDLE) may wait for ever. How long those of this process wait
 * for a processor is noted here, and decides how nice the next ones are. Any thread. */
#ifndef SEM_BASE_PATIENCE_H
#define SEM_BASE_PATIENCE_H

#include <stdint.h>

enum { PATIENCE_NICE = 10 /* when it is at an end: a tenth of a core that others want */ };

/* What to add to the nice value of a thread that is asked to add `wanted`: PATIENCE_NICE instead of NICENESS_IDLE while
 * those starve. */
int patience_nice(int wanted);

/* What a thread had of the processors so far; zeros where the system does not tell. */
typedef struct patience_times {
    uint64_t ran_ns, waited_ns; /* waited: it could have run */
} patience_times;

/* Of the calling thread. */
patience_times patience_now(void);

/* A thread that runs where no other wants to had this of the processors for a piece of work. */
void patience_note(uint64_t ran_ns, uint64_t waited_ns);

/* The same of the calling thread, which began then. */
void patience_note_since(patience_times began);

#endif
