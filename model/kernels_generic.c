/* Four lanes in the compiler's own vectors: SSE2 on any x86-64, NEON on ARM,
 * plain arithmetic elsewhere. */
#include "model/kernels.h"

#define LANES     4
#define TILE_ROWS 2
#define TARGET
#define TABLE      kernels_generic
#define TABLE_NAME "generic"

#include "model/kernels_types.h"

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

#include "model/kernels_body.h"
