/* AVX-512 F and DQ: 16 lanes. */
#include "model/kernels_levels.h"

#ifdef KERNELS_X86

#include <immintrin.h>

#define LANES      16
#define TILE_ROWS  8
#define TARGET     __attribute__((target("avx512f,avx512dq,avx2,fma")))
#define TABLE      kernels_avx512
#define TABLE_NAME "avx512"

#include "model/kernels_types.h"

INLINE vec vec_splat(float x)
{
    return (vec)_mm512_set1_ps(x);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

INLINE vec vec_max(vec a, vec b)
{
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
}

INLINE vec vec_min(vec a, vec b)
{
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
}

INLINE float vec_sum(vec v)
{
    return _mm512_reduce_add_ps((__m512)v);
}

INLINE float vec_largest(vec v)
{
    return _mm512_reduce_max_ps((__m512)v);
}

#include "model/kernels_body.h"

#endif
