/* AVX2 with FMA: two vectors of 8 columns at a time, a panel in two halves.
 *
 * int8: vpmaddubsw adds two products of an unsigned and a signed byte with
 * saturation to 16 bits. x is moved to [-128, 127] and split into |x| and a mask m of
 * its sign. w xor m is w or -w - 1, so that
 *
 *   sum x w = sum |x| (w xor m) + sum |x| where x < 0
 *
 * in which the last sum is the same for all columns. |w| <= 127 makes two products
 * at least -2 * 128 * 128 and at most 2 * 128 * 126: nothing saturates, and sums are
 * the same integers as everywhere. The processor has an instruction that negates by
 * sign, but not at the multiplications' side (Zen 4: 1.6 cycles a step, this 1.0). */
#include "model/packed_256.h"

#ifdef PACKED_X86

#include <math.h>

enum { FLOAT_ROWS = 6, SHORT_ROWS = 4, INT8_ROWS = 12 };
/* Groups of int8 that are multiplied at a time: with the weights they stay in the
 * first-level cache for all rows of a tile. */
enum { PART = 96 };

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

#define FLOAT_STORE(r)                                                                                                 \
    if (rows > (r)) {                                                                                                  \
        store_part(out, r, column, sum_a##r);                                                                          \
        store_part(out, r, column + 8, sum_b##r);                                                                      \
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

/* Tiles of bfloat16 have at most SHORT_ROWS rows: the last two cases are the fourth
 * again there. */
TILE_FUNCTION(tile_float32, rows_float32)
TILE_FUNCTION(tile_bfloat16, rows_bfloat16)

/* --- int8 */

/* Some groups of a tile's rows, split: all panels' columns need both halves. */
typedef struct signed_rows {
    char masks[INT8_ROWS][PART * 4], sizes[INT8_ROWS][PART * 4];
} signed_rows;

/* Returns the sum of |x| where x < 0. */
INLINE int32_t split_row(size_t bytes, const char *a, char *masks, char *sizes)
{
    __m256i negative = _mm256_setzero_si256();
    for (size_t i = 0; i < bytes; i += 32) {
        char last[32];
        const bool whole = i + 32 <= bytes;
        if (!whole) {
            memset(last, 0x80, sizeof last);
            memcpy(last, a + i, bytes - i);
        }
        const __m256i x = _mm256_xor_si256(load(whole ? a + i : last), _mm256_set1_epi8((char)0x80));
        const __m256i mask = _mm256_cmpgt_epi8(_mm256_setzero_si256(), x), size = _mm256_abs_epi8(x);
        _mm256_storeu_si256((__m256i *)(void *)(masks + i), mask);
        _mm256_storeu_si256((__m256i *)(void *)(sizes + i), size);
        negative = _mm256_add_epi64(negative, _mm256_sad_epu8(_mm256_and_si256(mask, size), _mm256_setzero_si256()));
    }
    int64_t parts[4];
    _mm256_storeu_si256((__m256i *)(void *)parts, negative);
    return (int32_t)(parts[0] + parts[1] + parts[2] + parts[3]);
}

/* One row's step with all columns. The instructions themselves: gcc 12 moves each sum
 * to another register and back. Four times each, so that few wait in the scheduler for
 * the one before. */
#define EACH_VECTOR(DO) DO(0) DO(1) DO(2) DO(3)
#define INT8_FLIP(v)    "vpxor %c[at" #v "](%[panel]), %[mask], %[t" #v "]\n\t"
#define INT8_PAIRS(v)   "vpmaddubsw %[t" #v "], %[size], %[t" #v "]\n\t"
#define INT8_FOURS(v)   "vpmaddwd %[ones], %[t" #v "], %[t" #v "]\n\t"
#define INT8_ADD(v)     "vpaddd %[t" #v "], %[s" #v "], %[s" #v "]\n\t"
#define INT8_STEP(p0, p1, p2, p3)                                                                                      \
    do {                                                                                                               \
        __m256i t0, t1, t2, t3;                                                                                        \
        __asm__(EACH_VECTOR(INT8_FLIP) EACH_VECTOR(INT8_PAIRS) EACH_VECTOR(INT8_FOURS) EACH_VECTOR(INT8_ADD)           \
                : [s0] "+x"(p0), [s1] "+x"(p1), [s2] "+x"(p2), [s3] "+x"(p3), [t0] "=&x"(t0), [t1] "=&x"(t1),          \
                  [t2] "=&x"(t2), [t3] "=&x"(t3)                                                                       \
                : [mask] "x"(mask), [size] "x"(size), [ones] "x"(ones), [panel] "r"(panel), [at0] "i"(0),              \
                  [at1] "i"(32), [at2] "i"(64), [at3] "i"(96), "m"(*(const char(*)[PACKED_STEP])(const void *)panel)); \
    } while (0)

#define TWO_ROWS(DO) DO(0) DO(1)
#define INT8_LOAD(r)                                                                                                   \
    __m256i sum_a##r = load((char *)sums[r]), sum_b##r = load((char *)(sums[r] + 8));                                  \
    __m256i sum_c##r = load((char *)(sums[r] + 16)), sum_d##r = load((char *)(sums[r] + 24));
#define INT8_ROW(r)                                                                                                    \
    if (rows > (r)) {                                                                                                  \
        const __m256i mask = group(masks + (r)*PART * 4), size = group(sizes + (r)*PART * 4);                          \
        INT8_STEP(sum_a##r, sum_b##r, sum_c##r, sum_d##r);                                                             \
    }
#define INT8_KEEP(r)                                                                                                   \
    if (rows > (r)) {                                                                                                  \
        keep(sums[r], sum_a##r);                                                                                       \
        keep(sums[r] + 8, sum_b##r);                                                                                   \
        keep(sums[r] + 16, sum_c##r);                                                                                  \
        keep(sums[r] + 24, sum_d##r);                                                                                  \
    }

INLINE void keep(int32_t *to, __m256i sum)
{
    _mm256_storeu_si256((__m256i *)(void *)to, sum);
}

/* Adds to the sums of one or two rows. */
INLINE void add_int8(const size_t rows, size_t groups, const char *masks, const char *sizes, const char *panel,
                     int32_t (*sums)[PACKED_COLUMNS])
{
    const __m256i ones = _mm256_set1_epi16(1);
    TWO_ROWS(INT8_LOAD)
    for (size_t p = 0; p < groups; p++, panel += PACKED_STEP, masks += 4, sizes += 4) {
        TWO_ROWS(INT8_ROW)
    }
    TWO_ROWS(INT8_KEEP)
}

/* Sums are of x - 128, so the byte of 0 moves as far. */
INLINE void store_int8(size_t rows, int32_t (*sums)[PACKED_COLUMNS], const int32_t *negative,
                       const packed_tile_out *out)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t column = 0; column < out->columns; column += 8) {
            __m256i sum = _mm256_add_epi32(load((const char *)(sums[r] + column)), _mm256_set1_epi32(negative[r]));
            store_part(out, r, column, real(out, r, column, sum, out->row_zero[r] - 128));
        }
    }
}

TARGET static void tile_int8(size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                             const packed_tile_out *out)
{
    int32_t sums[INT8_ROWS + 1][PACKED_COLUMNS] = {0}, negative[INT8_ROWS] = {0};
    signed_rows x;
    for (size_t p = 0; p < steps; p += PART, panel += (size_t)PART * PACKED_STEP) {
        const size_t groups = steps - p < PART ? steps - p : PART;
        for (size_t r = 0; r < rows; r++)
            negative[r] += split_row(groups * 4, a + r * stride + 4 * p, x.masks[r], x.sizes[r]);
        size_t r = 0;
        for (; r + 2 <= rows; r += 2)
            add_int8(2, groups, x.masks[r], x.sizes[r], panel, sums + r);
        if (r < rows)
            add_int8(1, groups, x.masks[r], x.sizes[r], panel, sums + r);
    }
    store_int8(rows, sums, negative, out);
}

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
    k->tile_rows[PACKED_INT8] = INT8_ROWS;
    k->fast[PACKED_INT8] = true;
}

#endif
