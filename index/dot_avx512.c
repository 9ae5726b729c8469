#include "index/dot.h"

#if defined(__x86_64__)
#include <immintrin.h>

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

__attribute__((target("avx512f,avx2,fma"))) static float sum(__m512 sixteen)
{
    __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(sixteen), 1));
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(sixteen), high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Eight rows keep eight chains of multiply-add busy. */
__attribute__((target("avx512f,avx2,fma"))) static void eight_rows(const float *query,
                                                                   const float *const rows[DOT_BATCH], size_t width,
                                                                   float scores[DOT_BATCH])
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0;
    for (size_t i = 0; i < width; i += DOT_LANES) {
        __m512 q = _mm512_load_ps(query + i);
        s0 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[0] + i), s0);
        s1 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[1] + i), s1);
        s2 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[2] + i), s2);
        s3 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[3] + i), s3);
        s4 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[4] + i), s4);
        s5 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[5] + i), s5);
        s6 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[6] + i), s6);
        s7 = _mm512_fmadd_ps(q, _mm512_loadu_ps(rows[7] + i), s7);
    }
    scores[0] = sum(s0);
    scores[1] = sum(s1);
    scores[2] = sum(s2);
    scores[3] = sum(s3);
    scores[4] = sum(s4);
    scores[5] = sum(s5);
    scores[6] = sum(s6);
    scores[7] = sum(s7);
}

static void dot_rows(const float *query, const float *const *rows, size_t count, size_t width, float *scores)
{
    if (count == DOT_BATCH) {
        eight_rows(query, rows, width, scores);
        return;
    }
    if (count == 0)
        return;
    /* Where rows are missing the last one is taken again. */
    const float *eight[DOT_BATCH];
    float found[DOT_BATCH];
    for (size_t r = 0; r < DOT_BATCH; r++)
        eight[r] = rows[r < count ? r : count - 1];
    eight_rows(query, eight, width, found);
    for (size_t r = 0; r < count; r++)
        scores[r] = found[r];
}

const dot_kernel dot_avx512 = {.name = "avx512", .rows = dot_rows, .available = has_avx512};

#else

static bool never(void)
{
    return false;
}

const dot_kernel dot_avx512 = {.name = "avx512", .rows = NULL, .available = never};

#endif
