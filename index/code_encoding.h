/* How vectors become codes, in sixteen parts that fit the widest registers: included by each
 * level's file of kernels, which says for which processors by CODE_TARGET and takes both
 * functions into its table. No sum depends on how wide the registers are, so all levels give
 * the same codes to the bit. Vectors are passed by address: how they are passed by value
 * depends on the processor. */
#ifndef SEM_INDEX_CODE_ENCODING_H
#define SEM_INDEX_CODE_ENCODING_H

#include "index/codes.h"

#include <math.h>
#include <string.h>

#ifndef CODE_TARGET
#define CODE_TARGET
#endif
#define CODE_INLINE CODE_TARGET __attribute__((always_inline)) static inline

enum { CODE_PARTS = 16, CODE_NIBBLE_MAX = 15, CODE_NIBBLE_ZERO = 8 };

typedef float code_floats __attribute__((vector_size(CODE_PARTS * sizeof(float))));
typedef int32_t code_ints __attribute__((vector_size(CODE_PARTS * sizeof(int32_t))));
typedef uint8_t code_bytes __attribute__((vector_size(CODE_PARTS)));

/* The next dimensions of `left`; zeros where there are none. */
CODE_INLINE void code_load(const float *from, size_t left, code_floats *out)
{
    if (left >= CODE_PARTS) {
        memcpy(out, from, sizeof *out);
        return;
    }
    *out = (code_floats){0};
    memcpy(out, from, left * sizeof *from);
}

CODE_INLINE double code_sum(const code_floats *parts)
{
    double sum = 0;
    for (size_t j = 0; j < CODE_PARTS; j++)
        sum += (double)(*parts)[j];
    return sum;
}

/* A bit for each part that is all ones, none for one that is zero: the product brings each
 * byte's to a place of its own in the highest byte. */
CODE_INLINE uint32_t code_mask(const code_ints *parts)
{
    code_bytes narrow = __builtin_convertvector(*parts, code_bytes);
    uint64_t halves[2];
    memcpy(halves, &narrow, sizeof halves);
    uint64_t low = (halves[0] & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080) >> 56;
    uint64_t high = (halves[1] & UINT64_C(0x0101010101010101)) * UINT64_C(0x0102040810204080) >> 56;
    return (uint32_t)(low | high << 8);
}

CODE_TARGET static void code_residual(const float *vector, const float *centroid, size_t dim, uint32_t *words,
                                      code_residual_sums *out)
{
    code_floats squares = {0}, sizes = {0}, along = {0}, signs = {0}, x, c;
    uint32_t bits = 0;
    for (size_t i = 0; i < dim; i += CODE_PARTS) {
        code_load(vector + i, dim - i, &x);
        code_load(centroid + i, dim - i, &c);
        code_floats r = x - c;
        code_ints up = r > 0;
        squares += r * r;
        sizes += (code_floats)((code_ints)r & INT32_MAX);
        along += c * r;
        signs += (code_floats)((code_ints)c ^ (~up & INT32_MIN));
        bits |= code_mask(&up) << i % CODES_BITS;
        if ((i + CODE_PARTS) % CODES_BITS == 0 || i + CODE_PARTS >= dim) {
            words[i / CODES_BITS * CODES_LANES] = bits;
            bits = 0;
        }
    }
    *out = (code_residual_sums){code_sum(&squares), code_sum(&sizes), code_sum(&along), code_sum(&signs)};
}

/* To 0 to 15, of numbers that are around 8. */
CODE_INLINE void code_nibble(const code_floats *x, code_ints *out)
{
    code_ints n = __builtin_convertvector(*x + CODE_NIBBLE_ZERO, code_ints);
    n &= ~(n >> 31);
    code_ints above = n > CODE_NIBBLE_MAX;
    *out = (n & ~above) | (CODE_NIBBLE_MAX & above);
}

/* What one step gives: Σ code x, Σ code². */
typedef struct code_fit {
    code_floats along;
    code_ints squares;
} code_fit;

CODE_INLINE void code_fit_add(code_fit *f, const code_floats *x, float inverse)
{
    code_floats wide = *x * inverse;
    code_ints n;
    code_nibble(&wide, &n);
    code_ints code = 2 * n - CODE_NIBBLE_MAX;
    f->along += __builtin_convertvector(code, code_floats) * *x;
    f->squares += code * code;
}

/* The scale that keeps ⟨x, code⟩ at |x|², and what is lost then. */
CODE_INLINE float code_fit_end(const code_fit *f, float squares, float *lost)
{
    int32_t codes = 0;
    for (size_t j = 0; j < CODE_PARTS; j++)
        codes += f->squares[j];
    float scale = squares / (float)code_sum(&f->along); /* signs agree: the product is above 0 */
    *lost = scale * scale * (float)codes - squares;
    return scale;
}

CODE_INLINE void code_measure(const float *vector, size_t dim, float *most, float *squares)
{
    code_ints largest = {0};
    code_floats parts = {0}, x;
    for (size_t i = 0; i < dim; i += CODE_PARTS) {
        code_load(vector + i, dim - i, &x);
        code_ints size = (code_ints)x & INT32_MAX; /* in the order of the floats */
        code_ints more = size > largest;
        largest = (size & more) | (largest & ~more);
    }
    int32_t top = 0;
    for (size_t j = 0; j < CODE_PARTS; j++)
        top = largest[j] > top ? largest[j] : top;
    memcpy(most, &top, sizeof *most);
    float unit = *most >= 1e-30f ? 1.0f / *most : 0.0f;
    for (size_t i = 0; i < dim; i += CODE_PARTS) {
        code_load(vector + i, dim - i, &x);
        x *= unit;
        parts += x * x;
    }
    *squares = (float)code_sum(&parts);
}

CODE_INLINE void code_write_nibbles(const float *vector, size_t dim, float unit, float inverse, uint8_t *nibbles)
{
    for (size_t i = 0; i < dim; i += CODE_PARTS) {
        size_t at = i % (2 * CODES_LINE), left = dim - i < CODE_PARTS ? dim - i : CODE_PARTS;
        uint8_t *to = nibbles + i / (2 * CODES_LINE) * CODES_LINE + at % CODES_LINE;
        code_floats x;
        code_ints n;
        code_bytes there;
        code_load(vector + i, dim - i, &x);
        x = x * unit * inverse;
        code_nibble(&x, &n);
        code_bytes codes = __builtin_convertvector(n, code_bytes) << (at < CODES_LINE ? 0 : 4);
        memcpy(&there, to, sizeof there);
        codes |= there;
        memcpy(to, &codes, left);
    }
}

CODE_TARGET static float code_nibbles_of(const float *vector, size_t dim, uint8_t *nibbles)
{
    /* In root mean squares: 16 steps lose least of a normal distribution there. */
    static const float widest = 2.6f;
    float most, squares, lost, lost_clipped;
    memset(nibbles, 0, codes_nibbles_width(dim));
    code_measure(vector, dim, &most, &squares);
    if (most < 1e-30f)
        return 0;
    /* With a few large dimensions the whole range loses less. */
    float unit = 1.0f / most, whole = CODE_NIBBLE_MAX / 2.0f;
    float clipped = CODE_NIBBLE_ZERO / (widest * sqrtf(squares / (float)dim));
    code_fit fit = {0}, fit_clipped = {0};
    for (size_t i = 0; i < dim; i += CODE_PARTS) {
        code_floats x;
        code_load(vector + i, dim - i, &x);
        x *= unit;
        code_fit_add(&fit, &x, whole);
        code_fit_add(&fit_clipped, &x, clipped);
    }
    /* Parts behind the last dimension are zeros, whose code is 1. */
    int32_t pad = (int32_t)((CODE_PARTS - dim % CODE_PARTS) % CODE_PARTS);
    fit.squares[0] -= pad;
    fit_clipped.squares[0] -= pad;
    float scale = code_fit_end(&fit, squares, &lost);
    float other = code_fit_end(&fit_clipped, squares, &lost_clipped);
    bool clips = lost_clipped < lost;
    code_write_nibbles(vector, dim, unit, clips ? clipped : whole, nibbles);
    return (clips ? other : scale) * most;
}

#endif
