/* AVX2 with FMA: 8 lanes. */
#include "model/kernels_levels.h"

#ifdef KERNELS_X86

#include <immintrin.h>

#define LANES      8
#define TILE_ROWS  4
#define TARGET     __attribute__((target("avx2,fma")))
#define TABLE      kernels_avx2
#define TABLE_NAME "avx2"

#include "model/kernels_types.h"

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

#include "model/kernels_body.h"

#endif
