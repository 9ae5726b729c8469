#include "index/nearest.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")))
#define INLINE TARGET __attribute__((always_inline)) static inline

static bool has_all(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

/* Sums of a row with 16 centroids of one panel. */
INLINE void note(const panels *p, size_t panel, __m512i sums, const byte_rows *rows, size_t row, near_cells *near)
{
    size_t cell = panel * PANEL_LANES;
    __m512 product = _mm512_cvtepi32_ps(_mm512_sub_epi32(sums, _mm512_set1_epi32(128 * rows->sums[row])));
    __m512 scale = _mm512_mul_ps(_mm512_set1_ps(rows->scales[row]), _mm512_loadu_ps(p->scales + cell));
    __m512 extra = _mm512_mul_ps(_mm512_set1_ps(rows->extras[row]), _mm512_loadu_ps(p->extras + cell));
    __m512 score = _mm512_add_ps(_mm512_mul_ps(product, scale), extra);
    unsigned passed = _mm512_cmp_ps_mask(score, _mm512_set1_ps(near_cells_threshold(near)), _CMP_GE_OQ);
    if (passed == 0)
        return;
    float scores[PANEL_LANES];
    _mm512_storeu_ps(scores, score);
    for (; passed != 0; passed &= passed - 1) {
        unsigned lane = (unsigned)__builtin_ctz(passed);
        near_cells_note(near, (uint32_t)(cell + lane), scores[lane]);
    }
}

/* Four dimensions of a row, for all lanes. */
INLINE __m512i spread(const int8_t *four)
{
    int32_t as_one;
    memcpy(&as_one, four, sizeof as_one);
    return _mm512_set1_epi32(as_one);
}

/* Four rows with four panels: sixteen chains of sums. */
TARGET static void tile(const panels *p, size_t panel, const byte_rows *rows, const size_t at[ROWS_AT_ONCE],
                        size_t count, near_cells *near)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i a0 = zero, a1 = zero, a2 = zero, a3 = zero, b0 = zero, b1 = zero, b2 = zero, b3 = zero;
    __m512i c0 = zero, c1 = zero, c2 = zero, c3 = zero, d0 = zero, d1 = zero, d2 = zero, d3 = zero;
    const size_t panel_bytes = p->width * PANEL_LANES;
    const uint8_t *x = p->bytes + panel * panel_bytes;
    const int8_t *a = rows->bytes + at[0] * p->width, *b = rows->bytes + at[1] * p->width;
    const int8_t *c = rows->bytes + at[2] * p->width, *d = rows->bytes + at[3] * p->width;
    for (size_t i = 0; i < p->width; i += PANEL_STEP, x += PANEL_LANES * PANEL_STEP) {
        __m512i x0 = _mm512_load_si512(x), x1 = _mm512_load_si512(x + panel_bytes);
        __m512i x2 = _mm512_load_si512(x + 2 * panel_bytes), x3 = _mm512_load_si512(x + 3 * panel_bytes);
        __m512i y = spread(a + i);
        a0 = _mm512_dpbusd_epi32(a0, x0, y);
        a1 = _mm512_dpbusd_epi32(a1, x1, y);
        a2 = _mm512_dpbusd_epi32(a2, x2, y);
        a3 = _mm512_dpbusd_epi32(a3, x3, y);
        y = spread(b + i);
        b0 = _mm512_dpbusd_epi32(b0, x0, y);
        b1 = _mm512_dpbusd_epi32(b1, x1, y);
        b2 = _mm512_dpbusd_epi32(b2, x2, y);
        b3 = _mm512_dpbusd_epi32(b3, x3, y);
        y = spread(c + i);
        c0 = _mm512_dpbusd_epi32(c0, x0, y);
        c1 = _mm512_dpbusd_epi32(c1, x1, y);
        c2 = _mm512_dpbusd_epi32(c2, x2, y);
        c3 = _mm512_dpbusd_epi32(c3, x3, y);
        y = spread(d + i);
        d0 = _mm512_dpbusd_epi32(d0, x0, y);
        d1 = _mm512_dpbusd_epi32(d1, x1, y);
        d2 = _mm512_dpbusd_epi32(d2, x2, y);
        d3 = _mm512_dpbusd_epi32(d3, x3, y);
    }
    const __m512i sums[ROWS_AT_ONCE][PANELS_AT_ONCE] = {
        {a0, a1, a2, a3}, {b0, b1, b2, b3}, {c0, c1, c2, c3}, {d0, d1, d2, d3}};
    for (size_t r = 0; r < count; r++)
        for (size_t n = 0; n < PANELS_AT_ONCE; n++)
            note(p, panel + n, sums[r][n], rows, at[r], &near[r]);
}

const nearest_kernel nearest_avx512 = {.name = "avx512", .tile = tile, .available = has_all};

#else

static bool never(void)
{
    return false;
}

const nearest_kernel nearest_avx512 = {.name = "avx512", .available = never};

#endif
