/* The learning rate over the steps of a run. */
#ifndef SEM_FINETUNE_SCHEDULE_H
#define SEM_FINETUNE_SCHEDULE_H

#include <stddef.h>

/* Steps of the warm-up: warmup_ratio of all steps, rounded up. */
size_t schedule_warmup(size_t steps, double warmup_ratio);

/* The rate of step `step` (from 0) of `steps`: rises linearly to peak at the
 * last step of the warm-up, then falls linearly and would be 0 at step `steps`.
 * No step of a run has rate 0: none is wasted. */
double schedule_rate(double peak, size_t step, size_t warmup, size_t steps);

#endif
