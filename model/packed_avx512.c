/* AVX-512: two vectors of 16 columns and up to 12 rows, held in 24 registers.
 * int8 needs VNNI (vpdpbusd: unsigned times signed bytes, added to int32 without
 * saturation). Weights of bfloat16 are multiplied with rows of bfloat16 where BF16
 * (vdpbf16ps) is quick, and else made float32 on their way in, once for all rows. */
#include "model/packed_levels.h"
#include "model/processor.h"
#include "model/tile_rows.h"

#ifdef PACKED_X86

#include <immintrin.h>

#include <string.h>

#define TARGET_F    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")))
#define TARGET_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define INLINE      static inline __attribute__((always_inline))

/* Two sums for each row beside two vectors of weights and one of x. */
enum { TILE_ROWS = 12 };

INLINE TARGET_F __m512i group(const char *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
}

INLINE TARGET_F __mmask16 columns_mask(size_t columns, size_t first)
{
    size_t n = columns > first ? columns - first : 0;
    return n >= 16 ? (__mmask16)0xFFFF : (__mmask16)((1U << n) - 1);
}

#define FLOAT_SUM(r, at) __m512 sum_a##r = _mm512_setzero_ps(), sum_b##r = sum_a##r;
#define INT_SUM(r, at)   __m512i sum_a##r = _mm512_setzero_si512(), sum_b##r = sum_a##r;

/* The instruction itself: of the intrinsics gcc 12 makes two more moves and a
 * store to memory for each product. */
#define ADD_PRODUCT(INSTRUCTION, sum, left, right)                                                                     \
    __asm__(INSTRUCTION " %2, %1, %0" : "+v"(sum) : "v"(left), "v"(right))

#define PRODUCT_ROW(INSTRUCTION, r, at)                                                                                \
    if (rows > (r)) {                                                                                                  \
        const __m512i left = group(at);                                                                                \
        ADD_PRODUCT(INSTRUCTION, sum_a##r, left, first);                                                               \
        ADD_PRODUCT(INSTRUCTION, sum_b##r, left, second);                                                              \
    }
#define FLOAT32_ROW(r, at)       PRODUCT_ROW("vfmadd231ps", r, at)
#define FLOAT32_ROW_LATER(r, at) PRODUCT_ROW("vfmadd231ps", r, (at) + 4)
#define BFLOAT16_ROW(r, at)      PRODUCT_ROW("vdpbf16ps", r, at)
#define INT8_ROW(r, at)          PRODUCT_ROW("vpdpbusd", r, at)

/* A bfloat16 is the upper half of a float32. */
INLINE TARGET_F __m512i earlier_of(__m512i pairs)
{
    return _mm512_slli_epi32(pairs, 16);
}

INLINE TARGET_F __m512i later_of(__m512i pairs)
{
    return _mm512_and_si512(pairs, _mm512_set1_epi32((int)0xFFFF0000));
}

/* What a step does with its 128 bytes of weights: one product with each row's group, or
 * two with pairs of floats. */
#define ONE_PRODUCT(ROW)                                                                                               \
    {                                                                                                                  \
        const __m512i first = _mm512_loadu_si512(panel), second = _mm512_loadu_si512(panel + 64);                      \
        EACH_ROW(ROW)                                                                                                  \
    }
#define TWO_PRODUCTS(ROW)                                                                                              \
    {                                                                                                                  \
        const __m512i pairs = _mm512_loadu_si512(panel), more = _mm512_loadu_si512(panel + 64);                        \
        {                                                                                                              \
            const __m512i first = earlier_of(pairs), second = earlier_of(more);                                        \
            EACH_ROW(ROW)                                                                                              \
        }                                                                                                              \
        {                                                                                                              \
            const __m512i first = later_of(pairs), second = later_of(more);                                            \
            EACH_ROW(ROW##_LATER)                                                                                      \
        }                                                                                                              \
    }

/* GROUP: bytes of a row that a step takes. */
#define TILE_LOOP(SUM, PRODUCTS, ROW, GROUP)                                                                           \
    EACH_ROW(SUM)                                                                                                      \
    const char *b = a + 5 * stride, *c = a + 10 * stride;                                                              \
    const char *fetch = out->fetch;                                                                                    \
    const size_t fetch_step = out->fetch_step;                                                                         \
    for (size_t p = 0; p < steps; p++, panel += PACKED_STEP, a += (GROUP), b += (GROUP), c += (GROUP)) {               \
        _mm_prefetch(fetch, _MM_HINT_T1);                                                                              \
        _mm_prefetch(fetch + 64, _MM_HINT_T1);                                                                         \
        fetch += fetch_step;                                                                                           \
        PRODUCTS(ROW)                                                                                                  \
    }

#define FLOAT_STORE(r, at)                                                                                             \
    if (rows > (r))                                                                                                    \
        store_row(out, r, sum_a##r, sum_b##r);
/* All that a tile of float32 sums does; rows whose results are added to are fetched meanwhile. */
#define FLOAT_TILE(PRODUCTS, ROW, GROUP)                                                                               \
    if (out->begun)                                                                                                    \
        fetch_results(rows, out);                                                                                      \
    TILE_LOOP(FLOAT_SUM, PRODUCTS, ROW, GROUP)                                                                         \
    EACH_ROW(FLOAT_STORE)
#define INT_STORE(r, at)                                                                                               \
    if (rows > (r))                                                                                                    \
        store_int8(out, r, &c8, sum_a##r, sum_b##r);
#define INT_STORE_PART(r, at)                                                                                          \
    if (rows > (r))                                                                                                    \
        store_int8_part(out, r, &c8, sum_a##r, sum_b##r);

/* A function of any number of rows from one of a constant number. */
#define TILE_FUNCTION(NAME, TARGET, ROWS_FUNCTION)                                                                     \
    static TARGET void NAME(size_t rows, size_t steps, const char *a, size_t stride, const char *panel,                \
                            const packed_tile_out *out)                                                                \
    {                                                                                                                  \
        switch (rows) {                                                                                                \
        case 1: ROWS_FUNCTION(1, steps, a, stride, panel, out); break;                                                 \
        case 2: ROWS_FUNCTION(2, steps, a, stride, panel, out); break;                                                 \
        case 3: ROWS_FUNCTION(3, steps, a, stride, panel, out); break;                                                 \
        case 4: ROWS_FUNCTION(4, steps, a, stride, panel, out); break;                                                 \
        case 5: ROWS_FUNCTION(5, steps, a, stride, panel, out); break;                                                 \
        case 6: ROWS_FUNCTION(6, steps, a, stride, panel, out); break;                                                 \
        case 7: ROWS_FUNCTION(7, steps, a, stride, panel, out); break;                                                 \
        case 8: ROWS_FUNCTION(8, steps, a, stride, panel, out); break;                                                 \
        case 9: ROWS_FUNCTION(9, steps, a, stride, panel, out); break;                                                 \
        case 10: ROWS_FUNCTION(10, steps, a, stride, panel, out); break;                                               \
        case 11: ROWS_FUNCTION(11, steps, a, stride, panel, out); break;                                               \
        default: ROWS_FUNCTION(12, steps, a, stride, panel, out); break;                                               \
        }                                                                                                              \
    }

INLINE TARGET_F void store_row(const packed_tile_out *out, size_t r, __m512 first, __m512 second)
{
    float *y = out->y + r * out->stride;
    const __mmask16 front = columns_mask(out->columns, 0), back = columns_mask(out->columns, 16);
    first = _mm512_add_ps(first, _mm512_loadu_ps(out->bias));
    second = _mm512_add_ps(second, _mm512_loadu_ps(out->bias + 16));
    if (out->begun) {
        first = _mm512_add_ps(first, _mm512_maskz_loadu_ps(front, y));
        second = _mm512_add_ps(second, _mm512_maskz_loadu_ps(back, y + 16));
    }
    _mm512_mask_storeu_ps(y, front, first);
    if (out->columns > 16)
        _mm512_mask_storeu_ps(y + 16, back, second);
}

/* What makes results of the sums of a tile's columns, read once for all its rows. */
typedef struct columns {
    __m512i sums[2];
    __m512 scale[2], bias[2];
} columns;

INLINE TARGET_F columns load_columns(const packed_tile_out *out)
{
    return (columns){{_mm512_loadu_si512(out->sums), _mm512_loadu_si512(out->sums + 16)},
                     {_mm512_loadu_ps(out->scale), _mm512_loadu_ps(out->scale + 16)},
                     {_mm512_loadu_ps(out->bias), _mm512_loadu_ps(out->bias + 16)}};
}

/* row_scale * scale * (sum - row_zero * sums) + bias of 16 columns. */
INLINE TARGET_F __m512 real(const packed_tile_out *out, size_t r, const columns *c, size_t half, __m512i sum)
{
    __m512i moved = _mm512_mullo_epi32(_mm512_set1_epi32(out->row_zero[r]), c->sums[half]);
    __m512 scale = _mm512_mul_ps(_mm512_set1_ps(out->row_scale[r]), c->scale[half]);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, moved)), scale, c->bias[half]);
}

INLINE TARGET_F void store_int8(const packed_tile_out *out, size_t r, const columns *c, __m512i first, __m512i second)
{
    float *y = out->y + r * out->stride;
    _mm512_storeu_ps(y, real(out, r, c, 0, first));
    _mm512_storeu_ps(y + 16, real(out, r, c, 1, second));
}

INLINE TARGET_F void store_int8_part(const packed_tile_out *out, size_t r, const columns *c, __m512i first,
                                     __m512i second)
{
    float *y = out->y + r * out->stride;
    _mm512_mask_storeu_ps(y, columns_mask(out->columns, 0), real(out, r, c, 0, first));
    if (out->columns > 16)
        _mm512_mask_storeu_ps(y + 16, columns_mask(out->columns, 16), real(out, r, c, 1, second));
}

/* A tile of int8 is over so soon that its stores would wait for the lines they go to, and what
 * is added to results lies where nothing else has been for long. */
INLINE TARGET_F void fetch_results(size_t rows, const packed_tile_out *out)
{
    for (size_t r = 0; r < rows; r++) {
        const char *y = (const char *)(out->y + r * out->stride);
        __asm__ volatile("prefetchw %0\n\tprefetchw %1" ::"m"(*y), "m"(*(y + 64)));
    }
}

// NOLINTBEGIN(readability-function-size): their statements are those of the macros
INLINE TARGET_F void rows_float32(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                                  const packed_tile_out *out)
{
    FLOAT_TILE(ONE_PRODUCT, FLOAT32_ROW, 4);
}

INLINE TARGET_BF16 void rows_bfloat16(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                                      const packed_tile_out *out)
{
    FLOAT_TILE(ONE_PRODUCT, BFLOAT16_ROW, 4);
}

INLINE TARGET_F void rows_widened(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                                  const packed_tile_out *out)
{
    FLOAT_TILE(TWO_PRODUCTS, FLOAT32_ROW, 8);
}

INLINE TARGET_VNNI void rows_int8(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                                  const packed_tile_out *out)
{
    fetch_results(rows, out);
    TILE_LOOP(INT_SUM, ONE_PRODUCT, INT8_ROW, 4)
    const columns c8 = load_columns(out);
    if (out->columns == PACKED_COLUMNS) {
        EACH_ROW(INT_STORE)
    } else {
        EACH_ROW(INT_STORE_PART)
    }
}
// NOLINTEND(readability-function-size)

TILE_FUNCTION(tile_float32, TARGET_F, rows_float32)
TILE_FUNCTION(tile_bfloat16, TARGET_BF16, rows_bfloat16)
TILE_FUNCTION(tile_widened, TARGET_F, rows_widened)
TILE_FUNCTION(tile_int8, TARGET_VNNI, rows_int8)

/* --- rows of x */

TARGET_F static void to_bfloat16(const float *x, size_t n, uint16_t *out)
{
    const __m512i half = _mm512_set1_epi32(0x7FFF), one = _mm512_set1_epi32(1);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = columns_mask(n, i);
        __m512i bits = _mm512_maskz_loadu_epi32(mask, x + i);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
        bits = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, half), odd), 16);
        _mm512_mask_cvtepi32_storeu_epi16(out + i, mask, bits);
    }
}

/* The same by one instruction, but for denormals, which become 0 as they do in the products. */
TARGET_BF16 static void to_bfloat16_quick(const float *x, size_t n, uint16_t *out)
{
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m512bh both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(x + i + 16), _mm512_loadu_ps(x + i));
        _mm512_storeu_si512(out + i, (__m512i)both);
    }
    for (; i < n; i += 16) {
        const __mmask16 mask = columns_mask(n, i);
        const __m256bh some = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i));
        _mm256_mask_storeu_epi16(out + i, mask, (__m256i)some);
    }
}

/* The least and the greatest of 0 and x[n]. Four of each side by side, since each waits
 * for the one before. */
INLINE TARGET_F void range_of(const float *x, size_t n, float *low, float *high)
{
    __m512 least[4], most[4];
    for (size_t j = 0; j < 4; j++)
        least[j] = most[j] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        for (size_t j = 0; j < 4; j++) {
            const __m512 v = _mm512_loadu_ps(x + i + 16 * j);
            least[j] = _mm512_min_ps(least[j], v);
            most[j] = _mm512_max_ps(most[j], v);
        }
    }
    for (; i < n; i += 16) {
        const __m512 v = _mm512_maskz_loadu_ps(columns_mask(n, i), x + i);
        least[0] = _mm512_min_ps(least[0], v);
        most[0] = _mm512_max_ps(most[0], v);
    }
    *low = _mm512_reduce_min_ps(_mm512_min_ps(_mm512_min_ps(least[0], least[1]), _mm512_min_ps(least[2], least[3])));
    *high = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3])));
}

INLINE TARGET_F __m512i scaled(__m512 v, __m512 inverse)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
}

/* 16 bytes from 16 values. */
INLINE TARGET_F __m128i rounded(__m512 v, __m512 inverse, __m512i zero)
{
    __m512i q = _mm512_add_epi32(scaled(v, inverse), zero);
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512()));
}

/* 64 bytes from 64 values: narrowed with saturation in two steps, which leave every lane's
 * four bytes of a vector together. */
INLINE TARGET_F __m512i rounded_64(const float *x, __m512 inverse, __m512i zero16)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q[4];
    for (size_t j = 0; j < 4; j++)
        q[j] = scaled(_mm512_loadu_ps(x + 16 * j), inverse);
    const __m512i front = _mm512_adds_epi16(_mm512_packs_epi32(q[0], q[1]), zero16);
    const __m512i back = _mm512_adds_epi16(_mm512_packs_epi32(q[2], q[3]), zero16);
    return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(front, back));
}

TARGET_F static void to_int8(const float *x, size_t n, int32_t most, uint8_t *out, float *scale, int32_t *zero)
{
    float low, high;
    range_of(x, n, &low, &high);
    const float inverse = packed_range(low, high, most, scale, zero);
    const __m512 inverses = _mm512_set1_ps(inverse);
    const __m512i zeros = _mm512_set1_epi32(*zero), zeros16 = _mm512_set1_epi16((short)*zero);
    const __m512i limit = _mm512_set1_epi8((char)most);
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        _mm512_storeu_si512(out + i, _mm512_min_epu8(rounded_64(x + i, inverses, zeros16), limit));
    for (; i < n; i += 16) {
        const __mmask16 mask = columns_mask(n, i);
        const __m128i bytes = rounded(_mm512_maskz_loadu_ps(mask, x + i), inverses, zeros);
        _mm_mask_storeu_epi8(out + i, mask, _mm_min_epu8(bytes, _mm512_castsi512_si128(limit)));
    }
}

static void take(packed_kernels *k, packed_precision p, const char *name, packed_tile *tile)
{
    k->name[p] = name;
    k->tile[p] = tile;
    k->tile_rows[p] = TILE_ROWS;
    k->columns[p] = PACKED_COLUMNS;
    k->steps_most[p] = 0;
}

void packed_add_avx512_bf16(packed_kernels *k)
{
    if (!__builtin_cpu_supports("avx512bf16"))
        return;
    take(k, PACKED_BFLOAT16, "avx512-bf16", tile_bfloat16);
    k->to_bfloat16 = to_bfloat16_quick;
    k->reads_floats[PACKED_BFLOAT16] = false;
    k->fast[PACKED_BFLOAT16] = true;
}

void packed_add_avx512(packed_kernels *k)
{
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return;
    k->to_bfloat16 = to_bfloat16;
    k->to_int8 = to_int8;
    take(k, PACKED_FLOAT32, "avx512", tile_float32);
    take(k, PACKED_BFLOAT16, "avx512-widened", tile_widened);
    k->reads_floats[PACKED_BFLOAT16] = true;
    if (processor_has_quick_bf16())
        packed_add_avx512_bf16(k);
    if (__builtin_cpu_supports("avx512vnni")) {
        take(k, PACKED_INT8, "avx512-vnni", tile_int8);
        packed_widen(k);
        k->fast[PACKED_INT8] = true;
    }
}

#endif
