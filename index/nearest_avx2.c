#include "index/nearest.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET __attribute__((always_inline)) static inline

enum { HALF = PANEL_LANES / 2 };

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2");
}

/* Products of a row with 8 centroids, the first of which is `cell`. */
INLINE void note(const panels *p, size_t cell, __m256i products, const byte_rows *rows, size_t row, near_cells *near)
{
    __m256 scale = _mm256_mul_ps(_mm256_set1_ps(rows->scales[row]), _mm256_loadu_ps(p->scales + cell));
    __m256 extra = _mm256_mul_ps(_mm256_set1_ps(rows->extras[row]), _mm256_loadu_ps(p->extras + cell));
    __m256 score = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(products), scale), extra);
    __m256 least = _mm256_set1_ps(near_cells_threshold(near));
    unsigned passed = (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(score, least, _CMP_GE_OQ));
    if (passed == 0)
        return;
    float scores[HALF];
    _mm256_storeu_ps(scores, score);
    near_cells_note_lanes(near, cell, passed, scores);
}

/* Pairs of products of sizes up to 127 fit into 16 bits. size, signs: the centroids' bytes. */
INLINE __m256i add(__m256i sum, __m256i size, __m256i signs, const int8_t *row)
{
    __m256i pairs = _mm256_maddubs_epi16(size, _mm256_sign_epi8(_mm256_set1_epi32(nearest_step(row)), signs));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Four rows with half a panel. */
TARGET static void four_rows(const panels *p, size_t cell, const byte_rows *rows, const size_t at[ROWS_AT_ONCE],
                             size_t count, near_cells *near)
{
    const __m256i zero_byte = _mm256_set1_epi8((char)-128);
    const uint8_t *x = p->bytes + cell / PANEL_LANES * PANEL_LANES * p->width + cell % PANEL_LANES * PANEL_STEP;
    const int8_t *a = rows->bytes + at[0] * p->width, *b = rows->bytes + at[1] * p->width;
    const int8_t *c = rows->bytes + at[2] * p->width, *d = rows->bytes + at[3] * p->width;
    __m256i sums[ROWS_AT_ONCE];
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (size_t i = 0; i < p->width; i += PANEL_STEP, x += PANEL_LANES * PANEL_STEP) {
        __m256i bytes = _mm256_load_si256((const __m256i *)(const void *)x);
        __m256i signs = _mm256_xor_si256(bytes, zero_byte), size = _mm256_abs_epi8(signs);
        s0 = add(s0, size, signs, a + i);
        s1 = add(s1, size, signs, b + i);
        s2 = add(s2, size, signs, c + i);
        s3 = add(s3, size, signs, d + i);
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
    for (size_t r = 0; r < count; r++)
        note(p, cell, sums[r], rows, at[r], &near[r]);
}

static void tile(const panels *p, size_t first_panel, const byte_rows *rows, const size_t at[ROWS_AT_ONCE],
                 size_t count, near_cells *near)
{
    size_t first = first_panel * PANEL_LANES;
    for (size_t cell = first; cell < first + PANELS_AT_ONCE * PANEL_LANES; cell += HALF)
        four_rows(p, cell, rows, at, count, near);
}

const nearest_kernel nearest_avx2 = {.name = "avx2", .tile = tile, .available = has_avx2};

#else

static bool never(void)
{
    return false;
}

const nearest_kernel nearest_avx2 = {.name = "avx2", .available = never};

#endif
