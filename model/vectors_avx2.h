/* AVX2 with FMA: 8 lanes. One level a source file: no include guard. */
#include <immintrin.h>

#define LANES  8
#define TARGET __attribute__((target("avx2,fma")))

#include "model/vectors_types.h"

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
