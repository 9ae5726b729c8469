/* Attention's kernels in float32. Included once by each attention_<level>.c after its
 * vectors and ROWS; no include guard, because there is no other use. */
#define GROUP 1

typedef vec step;

INLINE step load_step(const char *p)
{
    return vec_load((const float *)(const void *)p);
}

INLINE step load_group(const char *p)
{
    return vec_splat(*(const float *)(const void *)p);
}

INLINE void add_product(vec *sum, step left, step right)
{
    *sum = vec_fma(left, right, *sum);
}

/* The base is a whole number and goes into the exponent, where it costs no bit of the
 * sums. */
INLINE vec sum_from(float base)
{
    (void)base;
    return (vec){0};
}

/* 2^(x + base) = 2^(n + base) 2^r, n = round(x), 2^r by the polynomial of degree 5
 * with the smallest relative error: 1.5e-7. */
INLINE vec weight(vec x, vec base)
{
    const vec n = vec_round(x), r = x - n;
    vec p = vec_splat(1.3276472e-3f);
    p = vec_fma(p, r, vec_splat(9.6755413e-3f));
    p = vec_fma(p, r, vec_splat(5.5507133e-2f));
    p = vec_fma(p, r, vec_splat(2.4022120e-1f));
    p = vec_fma(p, r, vec_splat(6.9314697e-1f));
    p = vec_fma(p, r, vec_splat(1.0f));
    return vec_times_power(p, n + base);
}

INLINE void put_weights(char *out, bool pair, vec a, vec b, float base, bool edge, ptrdiff_t from, ptrdiff_t to)
{
    float *at = (float *)(void *)out;
    const vec bases = vec_splat(base);
    a = weight(a, bases);
    if (edge)
        a = vec_between(a, (vec){0}, from, to);
    vec_store(at, a);
    if (!pair)
        return;
    b = weight(b, bases);
    if (edge)
        b = vec_between(b, (vec){0}, from - LANES, to - LANES);
    vec_store(at + LANES, b);
}

#include "model/attention_body.h"
#include "model/vectors_transpose.h"

KERNEL void sums(size_t rows, const char *weights, size_t bytes, float *out)
{
    for (size_t r = 0; r < rows; r++, weights += ATTENTION_STRIDE) {
        vec sum = {0};
        for (size_t i = 0; i < bytes; i += STEP_BYTES)
            sum += load_step(weights + i);
        out[r] += vec_sum(sum);
    }
}

/* A vector of a row that has `columns` values left. */
INLINE vec load_columns(const float *x, size_t columns)
{
    return columns < LANES ? vec_load_part(x, columns) : vec_load(x);
}

KERNEL void pack_keys(const float *x, size_t stride, size_t n, size_t width, float scale, char *out)
{
    float *panel = (float *)(void *)out;
    const vec factor = vec_splat(scale);
    for (size_t i = 0; i < n; i += LANES, panel += width * LANES) {
        size_t keys = n - i < LANES ? n - i : LANES;
        for (size_t d = 0; d < width; d += LANES) {
            vec rows[LANES] = {0};
            for (size_t r = 0; r < keys; r++)
                rows[r] = factor * load_columns(x + (i + r) * stride + d, width - d);
            transpose_square(rows);
            for (size_t c = 0; c < LANES && d + c < width; c++)
                vec_store(panel + (d + c) * LANES, rows[c]);
        }
    }
}

KERNEL void pack_values(const float *x, size_t stride, size_t n, size_t width, char *out)
{
    float *panel = (float *)(void *)out;
    size_t steps = (n + LANES - 1) / LANES * LANES;
    for (size_t d = 0; d < width; d += LANES, panel += steps * LANES) {
        for (size_t i = 0; i < n; i++)
            vec_store(panel + i * LANES, load_columns(x + i * stride + d, width - d));
        memset(panel + n * LANES, 0, (steps - n) * LANES * sizeof *panel);
    }
}

const attention_level TABLE = {
    .name = TABLE_NAME,
    .rows = ROWS,
    .lanes = LANES,
    .group = GROUP,
    .unit = 1,
    .one = 0,
    .pack_keys = pack_keys,
    .pack_values = pack_values,
    .weigh = weigh,
    .largest = largest,
    .sums = sums,
    .multiply = multiply,
};
