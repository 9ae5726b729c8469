/* AVX2 with FMA: 8 lanes. One level a source file: no include guard. */
#define LANES  8
#define TARGET __attribute__((target("avx2,fma")))

#include "model/vectors_types.h"

#include <immintrin.h>

INLINE __m256i vec_first_lanes(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* The last n < LANES values of a row, 0 behind them. */
INLINE vec vec_load_part(const float *p, size_t n)
{
    return (vec)_mm256_maskload_ps(p, vec_first_lanes(n));
}

INLINE void vec_store_part(float *p, vec v, size_t n)
{
    _mm256_maskstore_ps(p, vec_first_lanes(n), (__m256)v);
}

INLINE vec vec_splat(float x)
{
    return (vec)_mm256_set1_ps(x);
}

INLINE vec vec_fma(vec a, vec b, vec c)
{
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

INLINE vec vec_max(vec a, vec b)
{
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
}

INLINE vec vec_min(vec a, vec b)
{
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
}

INLINE float vec_sum(vec v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

INLINE float vec_largest(vec v)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* a[0] b[0] a[1] b[1] ... of the first and of the second halves of a and b. */
INLINE vec vec_first_halves(vec a, vec b)
{
    __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b), high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
    return (vec)_mm256_permute2f128_ps(low, high, 0x20);
}

INLINE vec vec_second_halves(vec a, vec b)
{
    __m256 low = _mm256_unpacklo_ps((__m256)a, (__m256)b), high = _mm256_unpackhi_ps((__m256)a, (__m256)b);
    return (vec)_mm256_permute2f128_ps(low, high, 0x31);
}

INLINE vec vec_round(vec v)
{
    return (vec)_mm256_round_ps((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
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
