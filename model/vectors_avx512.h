/* AVX-512 F and DQ: 16 lanes. One level a source file: no include guard. */
#define LANES  16
#define TARGET __attribute__((target("avx512f,avx512dq,avx2,fma")))

#include "model/vectors_types.h"

#include <immintrin.h>

INLINE __mmask16 vec_first_lanes(size_t n)
{
    return (__mmask16)((UINT32_C(1) << n) - 1);
}

/* The last n < LANES values of a row, 0 behind them. */
INLINE vec vec_load_part(const float *p, size_t n)
{
    return (vec)_mm512_maskz_loadu_ps(vec_first_lanes(n), p);
}

INLINE void vec_store_part(float *p, vec v, size_t n)
{
    _mm512_mask_storeu_ps(p, vec_first_lanes(n), (__m512)v);
}

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

/* a[0] b[0] a[1] b[1] ... of the first and of the second halves of a and b. */
INLINE vec vec_first_halves(vec a, vec b)
{
    const __m512i order = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return (vec)_mm512_permutex2var_ps((__m512)a, order, (__m512)b);
}

INLINE vec vec_second_halves(vec a, vec b)
{
    const __m512i order = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return (vec)_mm512_permutex2var_ps((__m512)a, order, (__m512)b);
}

INLINE vec vec_round(vec v)
{
    return (vec)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* v 2^n for integers n. */
INLINE vec vec_times_power(vec v, vec n)
{
    return (vec)_mm512_scalef_ps((__m512)v, (__m512)n);
}

/* inside in the lanes [from, to), which need not lie between 0 and LANES, outside
 * in the others. */
INLINE vec vec_between(vec inside, vec outside, ptrdiff_t from, ptrdiff_t to)
{
    const uint32_t low = from < 0 ? 0 : from > LANES ? LANES : (uint32_t)from;
    const uint32_t high = to < 0 ? 0 : to > LANES ? LANES : (uint32_t)to;
    const __mmask16 in = (__mmask16)(((UINT32_C(1) << high) - 1) & ~((UINT32_C(1) << low) - 1));
    return (vec)_mm512_mask_mov_ps((__m512)outside, in, (__m512)inside);
}
