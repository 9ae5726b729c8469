#include "index/codes.h"

#include "base/checked.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LEVELS_OF_4_BITS = 15, BYTE_MAX = 127, BYTE_ZERO = 128 };

const code_kernel *codes_choose(void)
{
    static const code_kernel *const levels[] = {&code_avx512, &code_avx2, &code_generic};
    enum { LEVELS = sizeof levels / sizeof levels[0] };
    size_t first = 0;
    const char *forced = getenv("SEMD_SIMD");
    for (size_t i = 0; forced != NULL && i < LEVELS; i++)
        if (strcmp(forced, levels[i]->name) == 0 || (strcmp(forced, "avxvnni") == 0 && levels[i] == &code_avx2))
            first = i;
    for (size_t i = first; i < LEVELS; i++)
        if (levels[i]->available())
            return levels[i];
    return &code_generic;
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
    /* One piece: the planes lie behind the bytes. */
    q->bytes = checked_alloc_aligned(1, codes_query_width(dim) + codes_lines(dim) * CODES_PLANES * sizeof *q->planes);
    q->planes = q->bytes == NULL ? NULL : (uint64_t *)(void *)(q->bytes + codes_query_width(dim));
    return q->bytes != NULL;
}

void codes_query_free(code_query *q)
{
    free(q->bytes);
    q->bytes = NULL;
    q->planes = NULL;
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
    q->per_one *= by;
    q->per_sum *= by;
    q->rest *= by;
    q->length *= by;
}

typedef struct extent {
    float low, high, sum, squares;
} extent;

static extent measure_extent(const float *vector, size_t dim)
{
    float lows[PARTS], highs[PARTS], sums[PARTS] = {0}, squares[PARTS] = {0};
    extent e = {.low = vector[0], .high = vector[0]};
    for (size_t j = 0; j < PARTS; j++)
        lows[j] = highs[j] = vector[0];
    size_t i = 0;
    for (; i + PARTS <= dim; i += PARTS)
        for (size_t j = 0; j < PARTS; j++) {
            float x = vector[i + j];
            lows[j] = x < lows[j] ? x : lows[j];
            highs[j] = x > highs[j] ? x : highs[j];
            sums[j] += x;
            squares[j] += x * x;
        }
    for (; i < dim; i++) {
        e.low = vector[i] < e.low ? vector[i] : e.low;
        e.high = vector[i] > e.high ? vector[i] : e.high;
        e.sum += vector[i];
        e.squares += vector[i] * vector[i];
    }
    for (size_t j = 0; j < PARTS; j++) {
        e.low = lows[j] < e.low ? lows[j] : e.low;
        e.high = highs[j] > e.high ? highs[j] : e.high;
        e.sum += sums[j];
        e.squares += squares[j];
    }
    return e;
}

/* The p-th bits of eight bytes, in the order of the bytes: the product brings each to a
 * place of its own in the highest byte. */
static inline uint64_t bits_of_eight(uint64_t bytes, size_t p)
{
    return ((bytes >> p & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080)) >> 56;
}

static void write_planes(const uint8_t levels[CODES_LINE], uint64_t planes[CODES_PLANES])
{
    memset(planes, 0, CODES_PLANES * sizeof *planes);
    for (size_t i = 0; i < CODES_LINE; i += 8) {
        uint64_t bytes = 0;
        for (size_t j = 0; j < 8; j++)
            bytes |= (uint64_t)levels[i + j] << 8 * j;
        for (size_t p = 0; p < CODES_PLANES; p++)
            planes[p] |= bits_of_eight(bytes, p) << i;
    }
}

void codes_prepare(code_query *q, const float *vector, size_t dim)
{
    codes_prepare_bytes(q, vector, dim);
    extent e = measure_extent(vector, dim);
    float step = (e.high - e.low) / LEVELS_OF_4_BITS, inverse = step > 0 ? 1.0f / step : 0.0f;
    for (size_t line = 0; line < q->lines; line++) {
        uint8_t levels[CODES_LINE] = {0};
        size_t from = line * CODES_LINE, count = dim - from < CODES_LINE ? dim - from : CODES_LINE;
        for (size_t i = 0; i < count; i++) {
            int level = nearest((vector[from + i] - e.low) * inverse);
            levels[i] = (uint8_t)(level < 0 ? 0 : level > LEVELS_OF_4_BITS ? LEVELS_OF_4_BITS : level);
        }
        write_planes(levels, q->planes + line * CODES_PLANES);
    }
    q->per_one = 2 * e.low;
    q->per_sum = 2 * step;
    q->rest = -e.sum;
    q->length = sqrtf(e.squares);
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
    uint64_t *words = (uint64_t *)(void *)block + lane;
    code_residual_sums sums;
    kernel->residual(vector, centroid, dim, words, &sums);
    uint16_t ones = 0;
    for (size_t line = 0; line < lines; line++)
        ones = (uint16_t)(ones + __builtin_popcountll(words[line * CODES_LANES]));
    code_tail *tail = codes_tail(block, lines);
    double factor = sums.sizes > 0 ? sums.squares / sums.sizes : 0.0;
    float offset = within_floats(sums.along - factor * sums.signs);
    tail->factor[lane] = (float)factor;
    __atomic_store_n(&tail->row[lane], row, __ATOMIC_RELAXED); /* as lists_row() reads it */
    tail->ones[lane] = ones;
    tail->scale[lane] = scale;
    __atomic_store(&tail->offset[lane], &offset, __ATOMIC_RELEASE);
}

void codes_copy_lane(uint8_t *to, size_t to_lane, const uint8_t *from, size_t from_lane, size_t lines)
{
    uint64_t *words = (uint64_t *)(void *)to;
    const uint64_t *from_words = (const uint64_t *)(const void *)from;
    for (size_t line = 0; line < lines; line++)
        words[line * CODES_LANES + to_lane] = from_words[line * CODES_LANES + from_lane];
    code_tail *tail = codes_tail(to, lines);
    const code_tail *from_tail = codes_tail(from, lines);
    tail->factor[to_lane] = from_tail->factor[from_lane];
    tail->row[to_lane] = from_tail->row[from_lane];
    tail->ones[to_lane] = from_tail->ones[from_lane];
    tail->scale[to_lane] = from_tail->scale[from_lane];
    __atomic_store(&tail->offset[to_lane], &from_tail->offset[from_lane], __ATOMIC_RELEASE);
}

void codes_clear_block(uint8_t *block, size_t lines)
{
    memset(block, 0, codes_block_size(lines));
    code_tail *tail = codes_tail(block, lines);
    for (size_t i = 0; i < CODES_LANES; i++)
        tail->offset[i] = -INFINITY;
}
