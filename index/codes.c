#include "index/codes.h"

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

static float largest(const float *vector, size_t dim)
{
    float most = 0;
    for (size_t i = 0; i < dim; i++)
        most = fmaxf(most, fabsf(vector[i]));
    return most;
}

static uint16_t choose_scale(const float *vector, size_t dim, float *inverse)
{
    float most = largest(vector, dim);
    uint16_t half = most >= 1e-30f ? round_scale_up(most / BYTE_MAX) : 0;
    *inverse = half == 0 ? 0.0f : 1.0f / codes_scale(half);
    return half;
}

static int to_byte(float x)
{
    /* The rounded-up scale keeps it within BYTE_MAX but for the rounding of the
     * quotient itself. */
    int byte = (int)lrintf(x);
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
    memset(q->bytes + dim, 0, q->width - dim);
    q->centre = BYTE_ZERO * sum;
    q->stretch = 1.0f;
}

void codes_stretch(code_query *q, float by)
{
    q->stretch *= by;
    q->scale *= by;
    q->per_one *= by;
    q->per_sum *= by;
    q->rest *= by;
}

void codes_prepare(code_query *q, const float *vector, size_t dim)
{
    codes_prepare_bytes(q, vector, dim);
    float low = vector[0], high = vector[0], sum = 0;
    for (size_t i = 0; i < dim; i++) {
        low = fminf(low, vector[i]);
        high = fmaxf(high, vector[i]);
        sum += vector[i];
    }
    float step = (high - low) / LEVELS_OF_4_BITS, inverse = step > 0 ? 1.0f / step : 0.0f;
    memset(q->planes, 0, q->lines * CODES_PLANES * sizeof *q->planes);
    for (size_t i = 0; i < dim; i++) {
        long level = lrintf((vector[i] - low) * inverse);
        level = level < 0 ? 0 : level > LEVELS_OF_4_BITS ? LEVELS_OF_4_BITS : level;
        uint64_t *line = q->planes + i / CODES_LINE * CODES_PLANES;
        for (size_t p = 0; p < CODES_PLANES; p++)
            line[p] |= (uint64_t)(level >> p & 1) << i % CODES_LINE;
    }
    q->per_one = 2 * low;
    q->per_sum = 2 * step;
    q->rest = -sum;
}

void codes_write_lane(uint8_t *block, size_t lane, const float *vector, const float *centroid, size_t dim, uint32_t row,
                      uint16_t scale)
{
    size_t lines = codes_lines(dim);
    uint64_t *words = (uint64_t *)(void *)block;
    double squares = 0, sizes = 0, along = 0, signs = 0;
    uint16_t ones = 0;
    for (size_t line = 0; line < lines; line++) {
        uint64_t bits = 0;
        size_t end = dim - line * CODES_LINE < CODES_LINE ? dim - line * CODES_LINE : CODES_LINE;
        for (size_t i = 0; i < end; i++) {
            float c = centroid[line * CODES_LINE + i], r = vector[line * CODES_LINE + i] - c;
            bool up = r > 0;
            bits |= (uint64_t)up << i;
            squares += (double)r * r;
            sizes += fabs((double)r);
            along += (double)c * r;
            signs += up ? (double)c : -(double)c;
        }
        words[line * CODES_LANES + lane] = bits;
        ones = (uint16_t)(ones + __builtin_popcountll(bits));
    }
    code_tail *tail = codes_tail(block, lines);
    double factor = sizes > 0 ? squares / sizes : 0.0;
    float offset = (float)(along - factor * signs);
    tail->factor[lane] = (float)factor;
    tail->row[lane] = row;
    tail->ones[lane] = ones;
    tail->scale[lane] = scale;
    __atomic_store(&tail->offset[lane], &offset, __ATOMIC_RELEASE);
}

void codes_clear_block(uint8_t *block, size_t lines)
{
    memset(block, 0, codes_block_size(lines));
    code_tail *tail = codes_tail(block, lines);
    for (size_t i = 0; i < CODES_LANES; i++)
        tail->offset[i] = -INFINITY;
}
