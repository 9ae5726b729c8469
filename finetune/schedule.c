#include "finetune/schedule.h"

#include "base/names.h"

#include <math.h>

bool schedule_shape_of(const char *name, schedule_shape *out)
{
    static const char *const names[] = {"linear", "cosine", "constant"};
    size_t place;
    if (!names_find(names, sizeof names / sizeof *names, name, &place))
        return false;
    *out = (schedule_shape)place;
    return true;
}

size_t schedule_warmup(size_t steps, double warmup_ratio)
{
    /* The small term keeps 0.1 * 40, which is 4.000000000000001 for some ratios, at 4. */
    double warmup = ceil(warmup_ratio * (double)steps - 1e-9);
    return warmup <= 0 ? 0 : (size_t)warmup < steps ? (size_t)warmup : steps;
}

double schedule_rate(schedule_shape shape, double peak, size_t step, size_t warmup, size_t steps)
{
    if (step < warmup)
        return peak * (double)(step + 1) / (double)warmup;
    if (step >= steps)
        return 0;
    double left = (double)(steps - step) / (double)(steps - warmup);
    switch (shape) {
    case SCHEDULE_COSINE: return peak * 0.5 * (1 - cos(acos(-1) * left));
    case SCHEDULE_CONSTANT: return peak;
    case SCHEDULE_LINEAR:
    default: return peak * left;
    }
}
