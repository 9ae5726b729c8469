#include "index/nearest.h"

#if defined(__x86_64__)
#include <immintrin.h>

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
    near_cells_note_lanes(near, cell, passed, scores);
}

/* The next dimensions of a row with those of four panels. */
INLINE void add(__m512i sums[PANELS_AT_ONCE], const __m512i x[PANELS_AT_ONCE], const int8_t *row)
{
    __m512i y = _mm512_set1_epi32(nearest_step(row));
    sums[0] = _mm512_dpbusd_epi32(sums[0], x[0], y);
    sums[1] = _mm512_dpbusd_epi32(sums[1], x[1], y);
    sums[2] = _mm512_dpbusd_epi32(sums[2], x[2], y);
    sums[3] = _mm512_dpbusd_epi32(sums[3], x[3], y);
}

/* Four rows with four panels: sixteen chains of sums. */
TARGET static void tile(const panels *p, size_t panel, const byte_rows *rows, const size_t at[ROWS_AT_ONCE],
                        size_t count, near_cells *near)
{
    const __m512i zero = _mm512_setzero_si512();
    __m512i a_sums[PANELS_AT_ONCE] = {zero, zero, zero, zero}, b_sums[PANELS_AT_ONCE] = {zero, zero, zero, zero};
    __m512i c_sums[PANELS_AT_ONCE] = {zero, zero, zero, zero}, d_sums[PANELS_AT_ONCE] = {zero, zero, zero, zero};
    const size_t panel_bytes = p->width * PANEL_LANES;
    const uint8_t *at_panel = p->bytes + panel * panel_bytes;
    const int8_t *a = rows->bytes + at[0] * p->width, *b = rows->bytes + at[1] * p->width;
    const int8_t *c = rows->bytes + at[2] * p->width, *d = rows->bytes + at[3] * p->width;
    for (size_t i = 0; i < p->width; i += PANEL_STEP, at_panel += PANEL_LANES * PANEL_STEP) {
        const __m512i x[PANELS_AT_ONCE] = {_mm512_load_si512(at_panel), _mm512_load_si512(at_panel + panel_bytes),
                                           _mm512_load_si512(at_panel + 2 * panel_bytes),
                                           _mm512_load_si512(at_panel + 3 * panel_bytes)};
        add(a_sums, x, a + i);
        add(b_sums, x, b + i);
        add(c_sums, x, c + i);
        add(d_sums, x, d + i);
    }
    /* Copied, so that those above stay in registers. */
    const __m512i sums[ROWS_AT_ONCE][PANELS_AT_ONCE] = {{a_sums[0], a_sums[1], a_sums[2], a_sums[3]},
                                                        {b_sums[0], b_sums[1], b_sums[2], b_sums[3]},
                                                        {c_sums[0], c_sums[1], c_sums[2], c_sums[3]},
                                                        {d_sums[0], d_sums[1], d_sums[2], d_sums[3]}};
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
