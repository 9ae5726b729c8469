#include "finetune/schedule.h"

#include <math.h>

size_t schedule_warmup(size_t steps, double warmup_ratio)
{
    /* The small term keeps 0.1 * 40, which is 4.000000000000001 for some ratios, at 4. */
    double warmup = ceil(warmup_ratio * (double)steps - 1e-9);
    return warmup <= 0 ? 0 : (size_t)warmup < steps ? (size_t)warmup : steps;
}

double schedule_rate(double peak, size_t step, size_t warmup, size_t steps)
{
    if (step < warmup)
        return peak * (double)(step + 1) / (double)warmup;
    if (step >= steps)
        return 0;
    return peak * (double)(steps - step) / (double)(steps - warmup);
}
