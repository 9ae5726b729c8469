/* AVX2 with FMA: two vectors of 8 columns at a time, a panel in two halves.
 *
 * int8: vpmaddubsw adds two products of an unsigned and a signed byte with
 * saturation to 16 bits. x is moved to [-128, 127] and its sign put on the
 * weight: |x| <= 128 and |w| <= 127 make at most 2 * 128 * 127 = 32512, so that
 * nothing saturates and sums are the same integers as everywhere. */
#include "model/packed_256.h"

#ifdef PACKED_X86

#include <math.h>

enum { FLOAT_ROWS = 6, SHORT_ROWS = 4 };

INLINE __m256 high_part(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000U)));
}

INLINE __m256 low_part(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

#define FLOAT_SUM(r) __m256 sum_a##r = _mm256_setzero_ps(), sum_b##r = sum_a##r;

#define FLOAT32_ROW(r)                                                                                                 \
    if (rows > (r)) {                                                                                                  \
        const __m256 left = _mm256_castsi256_ps(group(a + (r)*stride));                                                \
        sum_a##r = _mm256_fmadd_ps(left, first, sum_a##r);                                                             \
        sum_b##r = _mm256_fmadd_ps(left, second, sum_b##r);                                                            \
    }
/* A bfloat16 is the upper half of a float32. */
#define BFLOAT16_ROW(r)                                                                                                \
    if (rows > (r)) {                                                                                                  \
        const __m256i pair = group(a + (r)*stride);                                                                    \
        const __m256 low = low_part(pair), high = high_part(pair);                                                     \
        sum_a##r = _mm256_fmadd_ps(high, first_high, _mm256_fmadd_ps(low, first_low, sum_a##r));                       \
        sum_b##r = _mm256_fmadd_ps(high, second_high, _mm256_fmadd_ps(low, second_low, sum_b##r));                     \
    }
#define INT8_ROW(r)                                                                                                    \
    if (rows > (r)) {                                                                                                  \
        const __m256i left = _mm256_xor_si256(group(a + (r)*stride), _mm256_set1_epi8((char)0x80));                    \
        const __m256i magnitude = _mm256_abs_epi8(left);                                                               \
        sum_a##r = int8_step(sum_a##r, left, magnitude, first);                                                        \
        sum_b##r = int8_step(sum_b##r, left, magnitude, second);                                                       \
    }

#define FLOAT_STORE(r)                                                                                                 \
    if (rows > (r)) {                                                                                                  \
        store_part(out, r, column, sum_a##r);                                                                          \
        store_part(out, r, column + 8, sum_b##r);                                                                      \
    }
#define INT_STORE(r)                                                                                                   \
    if (rows > (r)) {                                                                                                  \
        store_part(out, r, column, real(out, r, column, sum_a##r, out->row_zero[r] - 128));                            \
        store_part(out, r, column + 8, real(out, r, column + 8, sum_b##r, out->row_zero[r] - 128));                    \
    }

INLINE void rows_float32(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                         size_t column, const packed_tile_out *out)
{
    SIX_ROWS(FLOAT_SUM)
    for (size_t p = 0; p < steps; p++, panel += PACKED_STEP, a += 4) {
        const __m256 first = _mm256_castsi256_ps(load(panel)), second = _mm256_castsi256_ps(load(panel + 32));
        SIX_ROWS(FLOAT32_ROW)
    }
    SIX_ROWS(FLOAT_STORE)
}

INLINE void rows_bfloat16(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                          size_t column, const packed_tile_out *out)
{
    FOUR_ROWS(FLOAT_SUM)
    for (size_t p = 0; p < steps; p++, panel += PACKED_STEP, a += 4) {
        const __m256i first = load(panel), second = load(panel + 32);
        const __m256 first_low = low_part(first), first_high = high_part(first);
        const __m256 second_low = low_part(second), second_high = high_part(second);
        FOUR_ROWS(BFLOAT16_ROW)
    }
    FOUR_ROWS(FLOAT_STORE)
}

INLINE __m256i int8_step(__m256i sum, __m256i signs, __m256i magnitude, __m256i weights)
{
    __m256i pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(weights, signs));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

INLINE void rows_int8(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel, size_t column,
                      const packed_tile_out *out)
{
    FOUR_ROWS(INT_SUM)
    for (size_t p = 0; p < steps; p++, panel += PACKED_STEP, a += 4) {
        const __m256i first = load(panel), second = load(panel + 32);
        FOUR_ROWS(INT8_ROW)
    }
    FOUR_ROWS(INT_STORE)
}

/* Tiles of bfloat16 and int8 have at most SHORT_ROWS rows: the last two cases are
 * the fourth again there. */
TILE_FUNCTION(tile_float32, rows_float32)
TILE_FUNCTION(tile_bfloat16, rows_bfloat16)
TILE_FUNCTION(tile_int8, rows_int8)

/* --- rows of x */

TARGET static void to_int8(const float *x, size_t n, uint8_t *out, float *scale, int32_t *zero)
{
    __m256 lows = _mm256_setzero_ps(), highs = lows;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_loadu_ps(x + i);
        lows = _mm256_min_ps(lows, v);
        highs = _mm256_max_ps(highs, v);
    }
    float low[8], high[8];
    _mm256_storeu_ps(low, lows);
    _mm256_storeu_ps(high, highs);
    for (size_t j = 1; j < 8; j++) {
        low[0] = low[j] < low[0] ? low[j] : low[0];
        high[0] = high[j] > high[0] ? high[j] : high[0];
    }
    for (; i < n; i++) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
    }
    float inverse = packed_range(low[0], high[0], scale, zero);
    const __m256i zeros = _mm256_set1_epi32(*zero);
    for (i = 0; i + 8 <= n; i += 8) {
        __m256i q = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse)));
        q = _mm256_add_epi32(q, zeros);
        __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64((__m128i *)(void *)(out + i), _mm_packus_epi16(words, words));
    }
    for (; i < n; i++) {
        long q = lrintf(x[i] * inverse) + *zero;
        out[i] = (uint8_t)(q < 0 ? 0 : q > 255 ? 255 : q);
    }
}

void packed_add_avx2(packed_kernels *k)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return;
    k->to_int8 = to_int8;
    k->name[PACKED_FLOAT32] = k->name[PACKED_BFLOAT16] = k->name[PACKED_INT8] = "avx2";
    k->tile[PACKED_FLOAT32] = tile_float32;
    k->tile_rows[PACKED_FLOAT32] = FLOAT_ROWS;
    k->tile[PACKED_BFLOAT16] = tile_bfloat16;
    k->tile_rows[PACKED_BFLOAT16] = SHORT_ROWS;
    k->tile[PACKED_INT8] = tile_int8;
    k->tile_rows[PACKED_INT8] = SHORT_ROWS;
    k->fast[PACKED_INT8] = true;
}

#endif
