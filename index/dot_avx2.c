#include "index/dot.h"

#if defined(__x86_64__)
#include <immintrin.h>

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

__attribute__((target("avx2,fma"))) static float sum(__m256 low, __m256 high)
{
    __m256 eight = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/* Four rows keep eight chains of multiply-add busy. */
__attribute__((target("avx2,fma"))) static void four_rows(const float *query, const float *const rows[4], size_t width,
                                                          float scores[4])
{
    __m256 low0 = _mm256_setzero_ps(), low1 = low0, low2 = low0, low3 = low0;
    __m256 high0 = low0, high1 = low0, high2 = low0, high3 = low0;
    for (size_t i = 0; i < width; i += DOT_LANES) {
        __m256 ql = _mm256_load_ps(query + i), qh = _mm256_load_ps(query + i + 8);
        low0 = _mm256_fmadd_ps(ql, _mm256_loadu_ps(rows[0] + i), low0);
        high0 = _mm256_fmadd_ps(qh, _mm256_loadu_ps(rows[0] + i + 8), high0);
        low1 = _mm256_fmadd_ps(ql, _mm256_loadu_ps(rows[1] + i), low1);
        high1 = _mm256_fmadd_ps(qh, _mm256_loadu_ps(rows[1] + i + 8), high1);
        low2 = _mm256_fmadd_ps(ql, _mm256_loadu_ps(rows[2] + i), low2);
        high2 = _mm256_fmadd_ps(qh, _mm256_loadu_ps(rows[2] + i + 8), high2);
        low3 = _mm256_fmadd_ps(ql, _mm256_loadu_ps(rows[3] + i), low3);
        high3 = _mm256_fmadd_ps(qh, _mm256_loadu_ps(rows[3] + i + 8), high3);
    }
    scores[0] = sum(low0, high0);
    scores[1] = sum(low1, high1);
    scores[2] = sum(low2, high2);
    scores[3] = sum(low3, high3);
}

static void dot_rows(const float *query, const float *const *rows, size_t count, size_t width, float *scores)
{
    for (size_t i = 0; i < count; i += 4) {
        /* Where rows are missing the last one is taken again. */
        const float *four[4];
        float found[4];
        size_t left = count - i < 4 ? count - i : 4;
        for (size_t r = 0; r < 4; r++)
            four[r] = rows[i + (r < left ? r : left - 1)];
        four_rows(query, four, width, found);
        for (size_t r = 0; r < left; r++)
            scores[i + r] = found[r];
    }
}

const dot_kernel dot_avx2 = {.name = "avx2", .rows = dot_rows, .available = has_avx2};

#else

static bool never(void)
{
    return false;
}

const dot_kernel dot_avx2 = {.name = "avx2", .rows = NULL, .available = never};

#endif
