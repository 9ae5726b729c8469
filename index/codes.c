#include "index/codes.h"

#include "base/checked.h"
#include "base/simd.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BYTE_MAX = 127, BYTE_ZERO = 128 };

const code_kernel *codes_choose(void)
{
    static const code_kernel *const kernels[SIMD_WIDTHS] = {&code_generic, &code_avx2, &code_avx512};
    simd_width width = simd_widest();
    while (width > SIMD_GENERIC && !kernels[width]->available())
        width--;
    return kernels[width];
}

float codes_scale(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* The least number of 16 bits that is not below the scale. Rounding comes before the
 * division by it, so nothing is lost by keeping half of the float. */
static uint16_t round_scale_up(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    return (uint16_t)((bits + 0xffff) >> 16);
}

/* Reductions go in so many parts that they fit the widest registers. */
enum { PARTS = 16 };

static float largest(const float *vector, size_t dim)
{
    float parts[PARTS] = {0}, most = 0;
    size_t i = 0;
    for (; i + PARTS <= dim; i += PARTS)
        for (size_t j = 0; j < PARTS; j++) {
            float size = fabsf(vector[i + j]);
            parts[j] = size > parts[j] ? size : parts[j];
        }
    for (size_t j = 0; j < PARTS; j++)
        most = parts[j] > most ? parts[j] : most;
    for (; i < dim; i++)
        most = fabsf(vector[i]) > most ? fabsf(vector[i]) : most;
    return most;
}

static uint16_t choose_scale(const float *vector, size_t dim, float *inverse)
{
    float most = largest(vector, dim);
    uint16_t half = most >= 1e-30f ? round_scale_up(most / BYTE_MAX) : 0;
    *inverse = half == 0 ? 0.0f : 1.0f / codes_scale(half);
    return half;
}

/* To the nearest whole number, for |x| < 2^22: what is behind the point falls off the end
 * of the sum. lrintf does the same, one number at a time. */
static inline int nearest(float x)
{
    const float shift = 12582912.0f; /* 1.5 * 2^23 */
    return (int)((x + shift) - shift);
}

static inline int to_byte(float x)
{
    /* The rounded-up scale keeps it within BYTE_MAX but for the rounding of the
     * quotient itself. */
    int byte = nearest(x);
    return byte > BYTE_MAX ? BYTE_MAX : byte < -BYTE_MAX ? -BYTE_MAX : byte;
}

uint16_t codes_to_bytes(const float *vector, size_t dim, uint8_t *bytes)
{
    float inverse;
    uint16_t scale = choose_scale(vector, dim, &inverse);
    for (size_t i = 0; i < dim; i++)
        bytes[i] = (uint8_t)(BYTE_ZERO + to_byte(vector[i] * inverse));
    memset(bytes + dim, BYTE_ZERO, codes_width(dim) - dim);
    return scale;
}

void codes_from_bytes(const uint8_t *bytes, float scale, size_t dim, float *vector)
{
    for (size_t i = 0; i < dim; i++)
        vector[i] = scale * (float)((int)bytes[i] - BYTE_ZERO);
}

bool codes_query_reserve(code_query *q, size_t dim)
{
    /* One piece: the tables lie behind the bytes. */
    q->bytes = checked_alloc_aligned(1, codes_query_width(dim) + codes_lines(dim) * CODES_TABLES);
    q->tables = q->bytes == NULL ? NULL : (uint8_t *)q->bytes + codes_query_width(dim);
    return q->bytes != NULL;
}

void codes_query_free(code_query *q)
{
    free(q->bytes);
    q->bytes = NULL;
    q->tables = NULL;
}

void codes_prepare_bytes(code_query *q, const float *vector, size_t dim)
{
    q->dim = dim;
    q->lines = codes_lines(dim);
    q->width = codes_width(dim);
    float inverse;
    q->scale = codes_scale(choose_scale(vector, dim, &inverse));
    int32_t sum = 0;
    for (size_t i = 0; i < dim; i++) {
        int byte = to_byte(vector[i] * inverse);
        q->bytes[i] = (int8_t)byte;
        sum += byte;
    }
    memset(q->bytes + dim, 0, codes_query_width(dim) - dim);
    q->sum = sum;
    q->stretch = 1.0f;
}

void codes_stretch(code_query *q, float by)
{
    q->stretch *= by;
    q->scale *= by;
    q->per_sum *= by;
    q->rest *= by;
    q->length *= by;
}

/* What the patterns of four dimensions add up to: a number that is not negative counts where its bit is
 * set, a negative one where it is not. Eight bytes at a time: of the patterns without the highest bit,
 * and of those with it. */
static void write_table(const int8_t numbers[4], uint8_t table[16])
{
    static const uint64_t where[3][2] = {{UINT64_C(0x0100010001000100), UINT64_C(0x0001000100010001)},
                                         {UINT64_C(0x0101000001010000), UINT64_C(0x0000010100000101)},
                                         {UINT64_C(0x0101010100000000), UINT64_C(0x0000000001010101)}};
    uint64_t halves[2] = {0, 0};
    for (size_t i = 0; i < 3; i++)
        halves[0] += (uint64_t)abs(numbers[i]) * where[i][numbers[i] < 0];
    halves[1] = halves[0];
    halves[numbers[3] >= 0] += (uint64_t)abs(numbers[3]) * UINT64_C(0x0101010101010101);
    memcpy(table, halves, sizeof halves);
}

/* The tables of a line's 32 numbers. */
static void write_tables(const int8_t numbers[CODES_BITS], uint8_t tables[CODES_TABLES])
{
    for (size_t byte = 0; byte < 4; byte++)
        for (size_t half = 0; half < 2; half++)
            write_table(numbers + 8 * byte + 4 * half, tables + 16 * (4 * half + byte));
}

static inline int to_number(float x)
{
    int n = nearest(x);
    return n > CODES_MOST ? CODES_MOST : n < -CODES_MOST ? -CODES_MOST : n;
}

void codes_prepare(code_query *q, const float *vector, size_t dim)
{
    codes_prepare_bytes(q, vector, dim);
    float most = largest(vector, dim), inverse = most >= 1e-30f ? CODES_MOST / most : 0.0f;
    float step = most >= 1e-30f ? most / CODES_MOST : 0.0f;
    float parts[PARTS] = {0}, squares = 0;
    int32_t sum = 0;
    for (size_t line = 0; line < q->lines; line++) {
        int8_t numbers[CODES_BITS] = {0};
        size_t from = line * CODES_BITS, count = dim - from < CODES_BITS ? dim - from : CODES_BITS;
        for (size_t i = 0; i < count; i++) {
            numbers[i] = (int8_t)to_number(vector[from + i] * inverse);
            sum += abs(numbers[i]);
            parts[i % PARTS] += vector[from + i] * vector[from + i];
        }
        write_tables(numbers, q->tables + line * CODES_TABLES);
    }
    for (size_t j = 0; j < PARTS; j++)
        squares += parts[j];
    q->per_sum = 2 * step;
    q->rest = -step * (float)sum;
    q->length = sqrtf(squares);
}

/* --- nibbles */

static uint16_t round_scale(float scale)
{
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t codes_to_nibbles(const code_kernel *kernel, const float *vector, size_t dim, uint8_t *nibbles)
{
    return round_scale(kernel->to_nibbles(vector, dim, nibbles));
}

/* An offset of -INFINITY would say that the lane is empty: its row would be in no list, and missed by
 * those who measure recall too. */
static float within_floats(double x)
{
    const double most = (double)FLT_MAX;
    return x > most ? FLT_MAX : x > -most ? (float)x : -FLT_MAX;
}

void codes_write_lane(const code_kernel *kernel, uint8_t *block, size_t lane, const float *vector,
                      const float *centroid, size_t dim, uint32_t row, uint16_t scale)
{
    size_t lines = codes_lines(dim);
    uint32_t *words = (uint32_t *)(void *)block + lane;
    code_residual_sums sums;
    kernel->residual(vector, centroid, dim, words, &sums);
    code_tail *tail = codes_tail(block, lines);
    uint16_t half = round_scale(sums.sizes > 0 ? (float)(sums.squares / sums.sizes) : 0.0f);
    float offset = within_floats(sums.along - (double)codes_scale(half) * sums.signs);
    tail->factor[lane] = half;
    tail->scale[lane] = scale;
    __atomic_store_n(&tail->row[lane], row, __ATOMIC_RELAXED); /* as lists_row() reads it */
    __atomic_store(&tail->offset[lane], &offset, __ATOMIC_RELEASE);
}

void codes_copy_lane(uint8_t *to, size_t to_lane, const uint8_t *from, size_t from_lane, size_t lines)
{
    uint32_t *words = (uint32_t *)(void *)to;
    const uint32_t *from_words = (const uint32_t *)(const void *)from;
    for (size_t line = 0; line < lines; line++)
        words[line * CODES_LANES + to_lane] = from_words[line * CODES_LANES + from_lane];
    code_tail *tail = codes_tail(to, lines);
    const code_tail *from_tail = codes_tail(from, lines);
    tail->factor[to_lane] = from_tail->factor[from_lane];
    tail->scale[to_lane] = from_tail->scale[from_lane];
    tail->row[to_lane] = from_tail->row[from_lane];
    __atomic_store(&tail->offset[to_lane], &from_tail->offset[from_lane], __ATOMIC_RELEASE);
}

void codes_clear_block(uint8_t *block, size_t lines)
{
    memset(block, 0, codes_block_size(lines));
    code_tail *tail = codes_tail(block, lines);
    for (size_t i = 0; i < CODES_LANES; i++)
        tail->offset[i] = -INFINITY;
}
