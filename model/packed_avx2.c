/* AVX2 with FMA: two vectors of 8 columns at a time.
 *
 * int8: vpmaddubsw adds two products of an unsigned and a signed byte with saturation to
 * 16 bits. Rows are rounded to bytes of 0 to BYTE_MOST, and the weights of each column so
 * finely that two of them never get there: nothing saturates, and sums are the same
 * integers as the portable products of such rows and weights. What full bytes need, a
 * mask of signs and a fourth instruction for each step, takes a third more time. */
#include "model/packed_256.h"

#ifdef PACKED_X86

#include <math.h>

enum {
    FLOAT_ROWS = 6,
    SHORT_ROWS = 4,
    INT8_ROWS = 4,
    STEPS_MOST = 384, /* 24 KB of weights */
    /* The largest byte of a row. Of all-MiniLM-L6-v2 this leaves the weights of a column 111
     * steps on each side of 0, so that rows and weights are rounded about as finely. */
    BYTE_MOST = 220
};

INLINE __m256 high_part(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(pairs, _mm256_set1_epi32((int)0xFFFF0000U)));
}

INLINE __m256 low_part(__m256i pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16));
}

#define FLOAT_SUM(r)                                                                                                   \
    __m256 sum_a##r = _mm256_setzero_ps(), sum_b##r = sum_a##r;                                                        \
    if (out->begun && rows > (r)) {                                                                                    \
        sum_a##r = load_part(out, r, 0);                                                                               \
        sum_b##r = load_part(out, r, 8);                                                                               \
    }

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

#define FLOAT_STORE(r)                                                                                                 \
    if (rows > (r)) {                                                                                                  \
        store_part(out, r, 0, sum_a##r);                                                                               \
        store_part(out, r, 8, sum_b##r);                                                                               \
    }

INLINE void rows_float32(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                         const packed_tile_out *out)
{
    SIX_ROWS(FLOAT_SUM)
    const char *fetch = out->fetch;
    const size_t fetch_step = out->fetch_step;
    for (size_t p = 0; p < steps; p++, panel += STEP_256, a += 4, fetch += fetch_step) {
        fetch_at(fetch);
        const __m256 first = _mm256_castsi256_ps(load(panel)), second = _mm256_castsi256_ps(load(panel + 32));
        SIX_ROWS(FLOAT32_ROW)
    }
    SIX_ROWS(FLOAT_STORE)
}

INLINE void rows_bfloat16(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                          const packed_tile_out *out)
{
    FOUR_ROWS(FLOAT_SUM)
    for (size_t p = 0; p < steps; p++, panel += STEP_256, a += 4) {
        const __m256i first = load(panel), second = load(panel + 32);
        const __m256 first_low = low_part(first), first_high = high_part(first);
        const __m256 second_low = low_part(second), second_high = high_part(second);
        FOUR_ROWS(BFLOAT16_ROW)
    }
    FOUR_ROWS(FLOAT_STORE)
}

/* Tiles of bfloat16 have at most SHORT_ROWS rows: the last two cases are the fourth
 * again there. */
TILE_FUNCTION(tile_float32, rows_float32)
TILE_FUNCTION(tile_bfloat16, rows_bfloat16)

/* --- int8 */

/* A step of one row. The instructions themselves: gcc 12 moves each sum to another
 * register and back. */
#define INT8_ROW(r)                                                                                                    \
    if (rows > (r)) {                                                                                                  \
        const __m256i x = group(a + (r)*stride);                                                                       \
        __m256i first, second;                                                                                         \
        __asm__("vpmaddubsw %[w0], %[x], %[first]\n\t"                                                                 \
                "vpmaddubsw %[w1], %[x], %[second]\n\t"                                                                \
                "vpmaddwd %[ones], %[first], %[first]\n\t"                                                             \
                "vpmaddwd %[ones], %[second], %[second]\n\t"                                                           \
                "vpaddd %[first], %[a], %[a]\n\t"                                                                      \
                "vpaddd %[second], %[b], %[b]"                                                                         \
                : [a] "+x"(sum_a##r), [b] "+x"(sum_b##r), [first] "=&x"(first), [second] "=&x"(second)                 \
                : [x] "x"(x), [w0] "x"(w0), [w1] "x"(w1), [ones] "x"(ones));                                           \
    }

#define INT8_STORE(r)                                                                                                  \
    if (rows > (r)) {                                                                                                  \
        store_part(out, r, 0, real(out, r, 0, sum_a##r, out->row_zero[r]));                                            \
        store_part(out, r, 8, real(out, r, 8, sum_b##r, out->row_zero[r]));                                            \
    }

INLINE void rows_int8(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                      const packed_tile_out *out)
{
    const __m256i ones = _mm256_set1_epi16(1);
    FOUR_ROWS(INT_SUM)
    const char *fetch = out->fetch;
    const size_t fetch_step = out->fetch_step;
    for (size_t p = 0; p < steps; p++, panel += STEP_256, a += 4, fetch += fetch_step) {
        fetch_at(fetch);
        const __m256i w0 = load(panel), w1 = load(panel + 32);
        FOUR_ROWS(INT8_ROW)
    }
    FOUR_ROWS(INT8_STORE)
}

TILE_FUNCTION(tile_int8, rows_int8)

/* --- rows of x */

/* The least and the greatest of 0 and x[n]. Four of each side by side, since each waits
 * for the one before. */
INLINE void range_of(const float *x, size_t n, float *low, float *high)
{
    __m256 least[4], most[4];
    float lows[8], highs[8];
    for (size_t j = 0; j < 4; j++)
        least[j] = most[j] = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        for (size_t j = 0; j < 4; j++) {
            const __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            least[j] = _mm256_min_ps(least[j], v);
            most[j] = _mm256_max_ps(most[j], v);
        }
    }
    _mm256_storeu_ps(lows, _mm256_min_ps(_mm256_min_ps(least[0], least[1]), _mm256_min_ps(least[2], least[3])));
    _mm256_storeu_ps(highs, _mm256_max_ps(_mm256_max_ps(most[0], most[1]), _mm256_max_ps(most[2], most[3])));
    *low = *high = 0;
    for (size_t j = 0; j < 8; j++) {
        *low = lows[j] < *low ? lows[j] : *low;
        *high = highs[j] > *high ? highs[j] : *high;
    }
    for (; i < n; i++) {
        *low = x[i] < *low ? x[i] : *low;
        *high = x[i] > *high ? x[i] : *high;
    }
}

/* 32 bytes from 32 values: narrowed with saturation in two steps, which leave every lane's
 * four bytes of a vector together. */
INLINE __m256i rounded_32(const float *x, __m256 inverse, __m256i zero16)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i q[4];
    for (size_t j = 0; j < 4; j++)
        q[j] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * j), inverse));
    const __m256i front = _mm256_adds_epi16(_mm256_packs_epi32(q[0], q[1]), zero16);
    const __m256i back = _mm256_adds_epi16(_mm256_packs_epi32(q[2], q[3]), zero16);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(front, back), order);
}

TARGET static void to_int8(const float *x, size_t n, int32_t most, uint8_t *out, float *scale, int32_t *zero)
{
    float low, high;
    range_of(x, n, &low, &high);
    const float inverse = packed_range(low, high, most, scale, zero);
    const __m256i zero16 = _mm256_set1_epi16((short)*zero), limit = _mm256_set1_epi8((char)most);
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i bytes = rounded_32(x + i, _mm256_set1_ps(inverse), zero16);
        _mm256_storeu_si256((__m256i *)(void *)(out + i), _mm256_min_epu8(bytes, limit));
    }
    for (; i < n; i++) {
        long q = lrintf(x[i] * inverse) + *zero;
        out[i] = (uint8_t)(q < 0 ? 0 : q > most ? most : q);
    }
}

void packed_add_avx2(packed_kernels *k)
{
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return;
    k->to_int8 = to_int8;
    k->name[PACKED_FLOAT32] = k->name[PACKED_BFLOAT16] = "avx2";
    k->name[PACKED_INT8] = "avx2-narrow";
    k->tile[PACKED_FLOAT32] = tile_float32;
    k->columns[PACKED_FLOAT32] = k->columns[PACKED_BFLOAT16] = k->columns[PACKED_INT8] = COLUMNS_256;
    k->steps_most[PACKED_FLOAT32] = k->steps_most[PACKED_BFLOAT16] = STEPS_MOST;
    k->tile_rows[PACKED_FLOAT32] = FLOAT_ROWS;
    k->tile[PACKED_BFLOAT16] = tile_bfloat16;
    k->tile_rows[PACKED_BFLOAT16] = SHORT_ROWS;
    k->tile[PACKED_INT8] = tile_int8;
    k->tile_rows[PACKED_INT8] = INT8_ROWS;
    k->byte_most = BYTE_MOST;
    k->narrow_steps = 1;
    k->fast[PACKED_INT8] = true;
}

#endif
