/* Background work cut into chunks, on a few threads that live as long as it does. */
#ifndef SEM_INDEX_PARALLEL_H
#define SEM_INDEX_PARALLEL_H

#include <stddef.h>

/* Calls f for each chunk below chunks, in any order, on this thread and up to
 * threads - 1 others; fewer where they cannot be started. Returns when all are done. */
void parallel_run(unsigned threads, size_t chunks, void (*f)(void *context, size_t chunk), void *context);

#endif
