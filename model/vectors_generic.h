/* Four lanes in the compiler's own vectors: SSE2 on any x86-64, NEON on ARM,
 * plain arithmetic elsewhere. One level a source file: no include guard. */
#define LANES 4
#define TARGET

#include "model/vectors_types.h"

/* The last n < LANES values of a row, 0 behind them. */
INLINE vec vec_load_part(const float *p, size_t n)
{
    vec v = {0};
    memcpy(&v, p, n * sizeof *p);
    return v;
}

INLINE void vec_store_part(float *p, vec v, size_t n)
{
    memcpy(p, &v, n * sizeof *p);
}

INLINE vec vec_splat(float x)
{
    return x - (vec){0};
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

INLINE vec vec_select(ivec mask, vec a, vec b)
{
    return (vec)(((ivec)a & mask) | ((ivec)b & ~mask));
}

INLINE vec vec_max(vec a, vec b)
{
    return vec_select(a > b, a, b);
}

INLINE vec vec_min(vec a, vec b)
{
    return vec_select(a < b, a, b);
}

INLINE float vec_sum(vec v)
{
    return (v[0] + v[2]) + (v[1] + v[3]);
}

INLINE float vec_largest(vec v)
{
    float a = v[0] > v[1] ? v[0] : v[1];
    float b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}

/* a[0] b[0] a[1] b[1] ... of the first and of the second halves of a and b. */
INLINE vec vec_first_halves(vec a, vec b)
{
    return (vec){a[0], b[0], a[1], b[1]};
}

INLINE vec vec_second_halves(vec a, vec b)
{
    return (vec){a[2], b[2], a[3], b[3]};
}

/* Adding 1.5 * 2^23 rounds to the nearest integer, for |v| < 2^22. */
INLINE vec vec_round(vec v)
{
    const vec rounder = vec_splat(12582912.0f);
    return v + rounder - rounder;
}

/* v 2^n for integers n that are cut to where 2^n is a normal number. */
INLINE vec vec_times_power(vec v, vec n)
{
    n = vec_max(vec_min(n, vec_splat(127.0f)), vec_splat(-126.0f));
    return v * (vec)((uvec)(n + vec_splat(12582912.0f + 127)) << 23);
}

/* inside in the lanes [from, to), which need not lie between 0 and LANES, outside
 * in the others. */
INLINE vec vec_between(vec inside, vec outside, ptrdiff_t from, ptrdiff_t to)
{
    ivec lane;
    for (int32_t l = 0; l < LANES; l++)
        lane[l] = l;
    const int32_t low = from < 0 ? 0 : from > LANES ? LANES : (int32_t)from;
    const int32_t high = to < 0 ? 0 : to > LANES ? LANES : (int32_t)to;
    const ivec in = (lane >= low) & (lane < high);
    return (vec)(((ivec)inside & in) | ((ivec)outside & ~in));
}
