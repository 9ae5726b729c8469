/* AVX-512 with BF16 (vdpbf16ps: two products of bfloat16 added to a float32) and
 * VBMI (vpermi2b: a table of 128 bytes). */
#include "model/attention_levels.h"

#ifdef ATTENTION_X86

#include "model/vectors_avx512.h"

#undef TARGET
#define TARGET                                                                                                         \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx512vbmi,avx512vbmi2,avx2,fma,bmi2")))

#define ROWS  12
#define GROUP 2

typedef __m512i step;

INLINE step load_step(const char *p)
{
    return _mm512_loadu_si512(p);
}

INLINE step load_group(const char *p)
{
    return _mm512_set1_epi32(*(const int32_t *)(const void *)p);
}

/* The instruction itself: of the intrinsics gcc 12 makes two more moves and a store
 * to memory for each product. */
INLINE void add_product(vec *sum, step left, step right)
{
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(*sum) : "v"(left), "v"(right));
}

INLINE vec sum_from(float base)
{
    return vec_splat(base);
}

/* The seven bits of 2^(i / 128) behind its leading one, i of a bfloat16's seven. */
static const uint8_t POWERS[128] = {
    0,   1,   1,   2,   3,   4,   4,   5,   6,   6,   7,   8,   9,   9,   10,  11,  12,  12,  13, 14,  15,  15,
    16,  17,  18,  19,  19,  20,  21,  22,  23,  23,  24,  25,  26,  27,  28,  28,  29,  30,  31, 32,  33,  34,
    34,  35,  36,  37,  38,  39,  40,  41,  42,  43,  43,  44,  45,  46,  47,  48,  49,  50,  51, 52,  53,  54,
    55,  56,  57,  58,  59,  60,  61,  62,  63,  64,  65,  66,  67,  68,  69,  70,  72,  73,  74, 75,  76,  77,
    78,  79,  80,  82,  83,  84,  85,  86,  87,  88,  90,  91,  92,  93,  94,  96,  97,  98,  99, 100, 102, 103,
    104, 105, 107, 108, 109, 111, 112, 113, 115, 116, 117, 118, 120, 121, 123, 124, 125, 127,
};

/* With a unit of 128 and a start of 127 * 128 a sum of products, rounded to an integer, has
 * in its upper bits the exponent of a bfloat16 and in its lower seven the fraction f of
 * a power of two, of which only 1 + f must still become 2^f (Schraudolph 1999 leaves it
 * there). What is too small becomes 0, what is too large infinity. */
INLINE void put_weights(char *out, bool pair, vec a, vec b, float base, bool edge, ptrdiff_t from, ptrdiff_t to)
{
    (void)base;
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    const __m512i infinity = _mm512_set1_epi16(0x7F80), fraction = _mm512_set1_epi16(0x007F);
    __m512i first = _mm512_cvtps_epi32((__m512)a), second = _mm512_setzero_si512();
    if (pair)
        second = _mm512_cvtps_epi32((__m512)b);
    __m512i bits = _mm512_permutexvar_epi64(order, _mm512_packus_epi32(first, second));
    if (edge) {
        const uint64_t low = from < 0 ? 0 : from > 2 * LANES ? 2 * LANES : (uint64_t)from;
        const uint64_t high = to < 0 ? 0 : to > 2 * LANES ? 2 * LANES : (uint64_t)to;
        const __mmask32 in = (__mmask32)(((UINT64_C(1) << high) - 1) & ~((UINT64_C(1) << low) - 1));
        bits = _mm512_maskz_min_epu16(in, bits, infinity);
    } else {
        bits = _mm512_min_epu16(bits, infinity);
    }
    const __m512i powers = _mm512_permutex2var_epi8(_mm512_loadu_si512(POWERS), bits, _mm512_loadu_si512(POWERS + 64));
    _mm512_storeu_si512(out, _mm512_ternarylogic_epi32(fraction, powers, bits, 0xCA));
}

#include "model/attention_body.h"
#include "model/vectors_transpose.h"

/* --- sums */

KERNEL void sums(size_t rows, const char *weights, size_t bytes, float *out)
{
    const __m512i ones = _mm512_set1_epi16(0x3F80);
    for (size_t r = 0; r < rows; r++, weights += ATTENTION_STRIDE) {
        vec sum = {0};
        for (size_t i = 0; i < bytes; i += 64)
            add_product(&sum, ones, load_step(weights + i));
        out[r] += vec_sum(sum);
    }
}

/* --- packing */

INLINE __mmask16 columns_mask(size_t columns)
{
    return columns >= 16 ? (__mmask16)0xFFFF : (__mmask16)((1U << columns) - 1);
}

/* 32 values of a row that has `columns` left, times factor: 16 groups. */
INLINE __m512i load_row(const float *x, size_t columns, vec factor)
{
    __m512 low = _mm512_maskz_loadu_ps(columns_mask(columns), x), high = _mm512_setzero_ps();
    if (columns > 16)
        high = _mm512_maskz_loadu_ps(columns_mask(columns - 16), x + 16);
    return (__m512i)_mm512_cvtne2ps_pbh(high * (__m512)factor, low * (__m512)factor);
}

KERNEL void pack_queries(const float *x, size_t stride, size_t rows, size_t width, char *out, size_t out_stride)
{
    for (size_t r = 0; r < rows; r++, x += stride, out += out_stride)
        for (size_t d = 0; d < width; d += 32)
            _mm512_storeu_si512(out + d * 2, load_row(x + d, width - d, vec_splat(1)));
}

KERNEL void pack_keys(const float *x, size_t stride, size_t n, size_t width, float scale, char *out)
{
    const vec factor = vec_splat(scale);
    const size_t steps = (width + 1) / 2;
    for (size_t i = 0; i < n; i += LANES, out += steps * STEP_BYTES) {
        size_t keys = n - i < LANES ? n - i : LANES;
        for (size_t d = 0; d < width; d += 32) {
            vec rows[LANES] = {0};
            for (size_t r = 0; r < keys; r++)
                rows[r] = (vec)load_row(x + (i + r) * stride + d, width - d, factor);
            transpose_square(rows);
            for (size_t s = 0; s < LANES && d / 2 + s < steps; s++)
                _mm512_storeu_si512(out + (d / 2 + s) * STEP_BYTES, (__m512i)rows[s]);
        }
    }
}

KERNEL void pack_values(const float *x, size_t stride, size_t n, size_t width, char *out)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const size_t steps = (n + LANES - 1) / LANES * LANES / 2;
    for (size_t d = 0; d < width; d += LANES, out += steps * STEP_BYTES) {
        const __mmask16 columns = columns_mask(width - d);
        for (size_t s = 0; 2 * s < n; s++) {
            const float *from = x + 2 * s * stride + d;
            __m512 low = _mm512_maskz_loadu_ps(columns, from), high = _mm512_setzero_ps();
            if (2 * s + 1 < n)
                high = _mm512_maskz_loadu_ps(columns, from + stride);
            _mm512_storeu_si512(out + s * STEP_BYTES,
                                _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(high, low)));
        }
    }
}

const attention_level attention_bfloat16 = {
    .name = "avx512-bf16",
    .rows = ROWS,
    .lanes = LANES,
    .group = GROUP,
    .unit = 128,
    .one = 127 * 128,
    .pack_queries = pack_queries,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .weigh = weigh,
    .largest = largest,
    .sums = sums,
    .multiply = multiply,
};

#endif
