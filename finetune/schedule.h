/* The learning rate over the steps of a run. */
#ifndef SEM_FINETUNE_SCHEDULE_H
#define SEM_FINETUNE_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>

/* What follows the warm-up. */
typedef enum schedule_shape {
    SCHEDULE_LINEAR,  /* falls by the same amount in each step */
    SCHEDULE_COSINE,  /* falls along half a cosine (Loshchilov and Hutter 2017, "SGDR") */
    SCHEDULE_CONSTANT /* stays at its peak */
} schedule_shape;

/* "linear", "cosine", "constant"; false for any other name. */
bool schedule_shape_of(const char *name, schedule_shape *out);

/* Steps of the warm-up: warmup_ratio of all steps, rounded up. */
size_t schedule_warmup(size_t steps, double warmup_ratio);

/* The rate of step `step` (from 0) of `steps`: rises linearly to peak at the
 * last step of the warm-up; what falls then would be 0 at step `steps`.
 * No step of a run has rate 0: none is wasted. */
double schedule_rate(schedule_shape shape, double peak, size_t step, size_t warmup, size_t steps);

#endif
