/* Threads that run where no other thread wants to (NICENESS_IDLE) may wait for ever. How long those that work on one
 * thing wait for a processor is noted here, and decides how nice the next ones are. Any thread. */
#ifndef SEM_BASE_PATIENCE_H
#define SEM_BASE_PATIENCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { PATIENCE_NICE = 10 /* when it is at an end: a tenth of a core that others want */ };

/* All zero at first. Only patience.c looks inside. */
typedef struct thread_patience {
    atomic_bool starving;
    atomic_uint_least64_t ran, waited; /* ns since the last decision */
} thread_patience;

/* How nice threads are to be. */
typedef struct niceness {
    int added;                 /* as niceness_add() takes it */
    thread_patience *patience; /* borrowed, of all threads of the same work; NULL: they wait however long it takes */
} niceness;

/* What to add to the nice value of a thread now: PATIENCE_NICE instead of NICENESS_IDLE while such threads starve. */
int patience_nice(niceness n);

/* What a thread had of the processors so far; zeros where the system does not tell. */
typedef struct patience_times {
    uint64_t ran_ns, waited_ns; /* waited: it could have run */
} patience_times;

/* Of the calling thread; zeros too where nobody's patience depends on it. */
patience_times patience_begin(niceness n);

/* The calling thread, as nice as that, has ended a piece of work that it began then. */
void patience_end(niceness n, patience_times began);

/* A thread that runs where no other wants to had this of the processors for a piece of work. */
void patience_note(thread_patience *p, uint64_t ran_ns, uint64_t waited_ns);

#endif
