#include "finetune/mix_weights.h"

#include "base/names.h"

#include <math.h>

enum { CAP = 1000000, TEMPERATURE = 5 };

static const char *const METHODS[] = {"equal", "proportional", "temperature", "capped", "weights"};

mix_weighting mix_weighting_defaults(void)
{
    return (mix_weighting){.method = MIX_PROPORTIONAL, .temperature = TEMPERATURE, .cap = CAP};
}

const char *mix_method_name(mix_method method)
{
    return METHODS[method];
}

bool mix_method_parse(const char *name, mix_method *out)
{
    size_t place;
    if (!names_find(METHODS, sizeof METHODS / sizeof *METHODS, name, &place))
        return false;
    *out = (mix_method)place;
    return true;
}

bool mix_needs_sizes(mix_method method)
{
    return method == MIX_PROPORTIONAL || method == MIX_TEMPERATURE || method == MIX_CAPPED;
}

/* What the set's share is proportional to. */
static double mass_of(const mix_weighting *w, uint64_t size, double total, double weight)
{
    switch (w->method) {
    case MIX_EQUAL: return 1;
    case MIX_PROPORTIONAL: return (double)size;
    case MIX_TEMPERATURE: return pow((double)size / total, 1 / w->temperature);
    case MIX_CAPPED: return (double)(size < w->cap ? size : w->cap);
    case MIX_EXPLICIT: return weight;
    }
    return 0;
}

static sem_status check(const mix_weighting *w, const uint64_t *sizes, const double *weights, size_t count,
                        sem_error *err)
{
    if (count == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "there is no data set to draw from");
    if (w->method == MIX_TEMPERATURE && !(w->temperature >= 1 && w->temperature <= 1e6))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the temperature is %g; it must be 1 to 1e6", w->temperature);
    if (w->method == MIX_CAPPED && w->cap == 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the cap is 0 examples; it must be at least 1");
    for (size_t i = 0; i < count; i++) {
        if (mix_needs_sizes(w->method) && sizes[i] == 0)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %zu holds no example", i + 1);
        if (w->method == MIX_EXPLICIT && !(weights[i] > 0 && isfinite(weights[i])))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %zu has weight %g; it must be above 0", i + 1,
                            weights[i]);
    }
    return SEM_OK;
}

sem_status mix_shares_of(const mix_weighting *w, const uint64_t *sizes, const double *weights, size_t count,
                         double *shares, sem_error *err)
{
    sem_status status = check(w, sizes, weights, count, err);
    if (status != SEM_OK)
        return status;
    const bool sized = mix_needs_sizes(w->method);
    double total = 0, sum = 0;
    for (size_t i = 0; i < count && sized; i++)
        total += (double)sizes[i];
    for (size_t i = 0; i < count; i++) {
        shares[i] = mass_of(w, sized ? sizes[i] : 0, total, w->method == MIX_EXPLICIT ? weights[i] : 0);
        sum += shares[i];
    }
    for (size_t i = 0; i < count; i++)
        shares[i] /= sum;
    return SEM_OK;
}

size_t mix_choose(const double *shares, size_t count, double u)
{
    double sum = 0;
    for (size_t i = 0; i + 1 < count; i++) {
        sum += shares[i];
        if (u < sum)
            return i;
    }
    return count - 1;
}
