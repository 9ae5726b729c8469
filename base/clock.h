/* Time: monotonic for time-outs, wall clock for what users see. */
#ifndef SEM_BASE_CLOCK_H
#define SEM_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_monotonic_ns(void);
uint64_t clock_monotonic_ms(void);
/* Unix time in milliseconds. */
int64_t clock_wall_ms(void);

#endif
