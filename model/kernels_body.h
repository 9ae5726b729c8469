/* The kernels, written once in the compiler's vectors of LANES floats and
 * compiled by each kernels_<level>.c for its instruction set. */

#define UNROLL _Pragma("GCC unroll 16")

/* A tile of one panel, and where registers are many of two: a value of a is then
 * brought into a register once for twice as many products. */
enum { TILE_VECTORS = KERNEL_COLUMNS / LANES, WIDE_VECTORS = LANES == 16 ? 2 : TILE_VECTORS };

/* --- products of small matrices */

/* One tile of TILE_ROWS rows and so many vectors of columns, held in registers. Where
 * there are fewer rows the last one is computed again and not stored. */
INLINE void multiply_tile(const size_t vectors, size_t rows, size_t k, const float *a, size_t a_row, size_t a_column,
                          const float *b, size_t ldb, float *c, size_t ldc, int add)
{
    const float *row[TILE_ROWS];
    vec sum[TILE_ROWS][WIDE_VECTORS];
    UNROLL for (size_t r = 0; r < TILE_ROWS; r++)
    {
        row[r] = a + (r < rows ? r : rows - 1) * a_row;
        UNROLL for (size_t j = 0; j < vectors; j++) sum[r][j] = (vec){0};
    }
    for (size_t p = 0; p < k; p++) {
        vec right[WIDE_VECTORS];
        UNROLL for (size_t j = 0; j < vectors; j++) right[j] = vec_load(b + p * ldb + j * LANES);
        UNROLL for (size_t r = 0; r < TILE_ROWS; r++)
        {
            vec left = vec_splat(row[r][p * a_column]);
            UNROLL for (size_t j = 0; j < vectors; j++) sum[r][j] = vec_fma(left, right[j], sum[r][j]);
        }
    }
    UNROLL for (size_t r = 0; r < TILE_ROWS; r++)
    {
        if (r >= rows)
            break;
        UNROLL for (size_t j = 0; j < vectors; j++)
        {
            float *out = c + r * ldc + j * LANES;
            vec_store(out, add ? vec_load(out) + sum[r][j] : sum[r][j]);
        }
    }
}

KERNEL void multiply(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_column, const float *b,
                     size_t ldb, float *c, size_t ldc, int add)
{
    const size_t wide = WIDE_VECTORS * LANES;
    size_t j = 0;
    for (; WIDE_VECTORS > TILE_VECTORS && j + wide <= n; j += wide)
        for (size_t i = 0; i < m; i += TILE_ROWS)
            multiply_tile(WIDE_VECTORS, m - i < TILE_ROWS ? m - i : TILE_ROWS, k, a + i * a_row, a_row, a_column, b + j,
                          ldb, c + i * ldc + j, ldc, add);
    for (; j < n; j += KERNEL_COLUMNS)
        for (size_t i = 0; i < m; i += TILE_ROWS)
            multiply_tile(TILE_VECTORS, m - i < TILE_ROWS ? m - i : TILE_ROWS, k, a + i * a_row, a_row, a_column, b + j,
                          ldb, c + i * ldc + j, ldc, add);
}

enum { DOT_ROWS = TILE_ROWS / 2, DOT_COLUMNS = 4 };

/* One step of LANES products for every pair of a row of x and a row of w. */
INLINE void dot_step(vec sum[DOT_ROWS][DOT_COLUMNS], const vec left[DOT_ROWS], const vec right[DOT_COLUMNS])
{
    UNROLL for (size_t r = 0; r < DOT_ROWS; r++)
    {
        UNROLL for (size_t j = 0; j < DOT_COLUMNS; j++) sum[r][j] = vec_fma(left[r], right[j], sum[r][j]);
    }
}

/* DOT_ROWS rows of x with DOT_COLUMNS rows of w; where there are fewer the last
 * one is computed again and not stored. */
INLINE void dot_tile(size_t rows, size_t columns, size_t k, const float *x, const float *w, float *y, size_t n)
{
    const float *from_x[DOT_ROWS], *from_w[DOT_COLUMNS];
    vec sum[DOT_ROWS][DOT_COLUMNS], left[DOT_ROWS], right[DOT_COLUMNS];
    UNROLL for (size_t j = 0; j < DOT_COLUMNS; j++) from_w[j] = w + (j < columns ? j : columns - 1) * k;
    UNROLL for (size_t r = 0; r < DOT_ROWS; r++)
    {
        from_x[r] = x + (r < rows ? r : rows - 1) * k;
        UNROLL for (size_t j = 0; j < DOT_COLUMNS; j++) sum[r][j] = (vec){0};
    }
    size_t p = 0;
    for (; p + LANES <= k; p += LANES) {
        UNROLL for (size_t r = 0; r < DOT_ROWS; r++) left[r] = vec_load(from_x[r] + p);
        UNROLL for (size_t j = 0; j < DOT_COLUMNS; j++) right[j] = vec_load(from_w[j] + p);
        dot_step(sum, left, right);
    }
    if (p < k) {
        UNROLL for (size_t r = 0; r < DOT_ROWS; r++) left[r] = vec_load_part(from_x[r] + p, k - p);
        UNROLL for (size_t j = 0; j < DOT_COLUMNS; j++) right[j] = vec_load_part(from_w[j] + p, k - p);
        dot_step(sum, left, right);
    }
    UNROLL for (size_t r = 0; r < DOT_ROWS; r++)
    {
        UNROLL for (size_t j = 0; j < DOT_COLUMNS; j++)
        {
            if (r < rows && j < columns)
                y[r * n + j] += vec_sum(sum[r][j]);
        }
    }
}

KERNEL void multiply_few(size_t m, size_t n, size_t k, const float *x, const float *w, float *y)
{
    for (size_t j = 0; j < n; j += DOT_COLUMNS)
        for (size_t i = 0; i < m; i += DOT_ROWS)
            dot_tile(m - i < DOT_ROWS ? m - i : DOT_ROWS, n - j < DOT_COLUMNS ? n - j : DOT_COLUMNS, k, x + i * k,
                     w + j * k, y + i * n + j, n);
}

/* --- exp and GELU */

/* e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2, e^r by its series to r^6:
 * relative error below 2e-7. Adding 1.5 * 2^23 rounds and leaves n in the low
 * bits. Arguments are cut to where the result is a normal number. */
INLINE vec vec_exp(vec x)
{
    const vec rounder = vec_splat(12582912.0f);
    x = vec_max(vec_min(x, vec_splat(88.0f)), vec_splat(-87.0f));
    vec shifted = vec_fma(x, vec_splat(1.44269504f), rounder);
    vec n = shifted - rounder;
    vec r = vec_fma(n, vec_splat(-0.693359375f), x); /* ln 2 in two parts, the first exact */
    r = vec_fma(n, vec_splat(2.12194440e-4f), r);
    vec p = vec_splat(1.0f / 720);
    p = vec_fma(p, r, vec_splat(1.0f / 120));
    p = vec_fma(p, r, vec_splat(1.0f / 24));
    p = vec_fma(p, r, vec_splat(1.0f / 6));
    p = vec_fma(p, r, vec_splat(0.5f));
    p = vec_fma(p, r, vec_splat(1.0f));
    p = vec_fma(p, r, vec_splat(1.0f));
    return (vec)((uvec)p + ((uvec)shifted << 23));
}

/* Phi(x) and *density = exp(-x^2 / 2). erfc by Abramowitz and Stegun 1964,
 * formula 7.1.26: absolute error of Phi below 1e-7. */
INLINE vec vec_phi(vec x, vec *density)
{
    const uvec sign = (uvec)vec_splat(-0.0f);
    vec magnitude = (vec)((uvec)x & ~sign);
    vec e = vec_exp(x * x * vec_splat(-0.5f));
    vec t = vec_splat(1.0f) / vec_fma(magnitude, vec_splat(0.3275911f * 0.70710678f), vec_splat(1.0f));
    vec p = vec_splat(0.5f * 1.061405429f);
    p = vec_fma(p, t, vec_splat(0.5f * -1.453152027f));
    p = vec_fma(p, t, vec_splat(0.5f * 1.421413741f));
    p = vec_fma(p, t, vec_splat(0.5f * -0.284496736f));
    p = vec_fma(p, t, vec_splat(0.5f * 0.254829592f));
    vec half = vec_splat(0.5f) - p * t * e; /* of erf(|x| / sqrt 2) */
    *density = e;
    return vec_splat(0.5f) + (vec)((uvec)half ^ ((uvec)x & sign));
}

/* Phi(x), cut to [0, 1]. (Phi(x) - 1/2) / x is even: a polynomial in x^2 moved to
 * [-1, 1], fitted for the smallest largest error of x Phi(x) up to |x| = limit, and
 * constant beyond, so that Phi reaches 0 and 1 there. */
INLINE vec phi_polynomial(vec x, float limit, const float *coefficients, size_t count)
{
    vec square = vec_min(x * x, vec_splat(limit * limit));
    vec u = vec_fma(square, vec_splat(2 / (limit * limit)), vec_splat(-1.0f));
    vec p = vec_splat(coefficients[count - 1]);
    UNROLL for (size_t i = count - 1; i > 0; i--) p = vec_fma(p, u, vec_splat(coefficients[i - 1]));
    return vec_max(vec_min(vec_fma(x, p, vec_splat(0.5f)), vec_splat(1.0f)), vec_splat(0.0f));
}

/* Error below 1e-6. */
INLINE vec vec_gelu(vec x)
{
    static const float coefficients[] = {0.135949981f,   -0.0677436182f,  0.0500256151f,  -0.0399319863f,
                                         0.0319739163f,  -0.0246988372f,  0.0180387732f,  -0.0126196701f,
                                         0.00836509535f, -0.00454229552f, 0.00200518088f, -0.00146878839f,
                                         0.00118868553f, -0.000388230337f};
    return x * phi_polynomial(x, 5.2f, coefficients, sizeof coefficients / sizeof *coefficients);
}

/* Error below 1.5e-4, at 4; below 4e-5 up to 3.9. */
INLINE vec vec_gelu_quick(vec x)
{
    static const float coefficients[] = {0.175947751f,  -0.0843574768f, 0.0560507988f,  -0.0364952989f,
                                         0.0216217574f, -0.0132601963f, 0.00821123601f, -0.00272885314f};
    return x * phi_polynomial(x, 4.0f, coefficients, sizeof coefficients / sizeof *coefficients);
}

KERNEL void gelu(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_gelu(vec_load(x + i)));
    if (i < n)
        vec_store_part(y + i, vec_gelu(vec_load_part(x + i, n - i)), n - i);
}

KERNEL void gelu_quick(const float *x, size_t n, float *y)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_gelu_quick(vec_load(x + i)));
    if (i < n)
        vec_store_part(y + i, vec_gelu_quick(vec_load_part(x + i, n - i)), n - i);
}

/* gelu'(u) = Phi(u) + u phi(u) */
INLINE vec gelu_pair(vec u, vec *d)
{
    vec density;
    vec phi = vec_phi(u, &density);
    *d *= vec_fma(u * density, vec_splat(0.39894228f), phi);
    return vec_gelu(u);
}

KERNEL void gelu_backward(float *u, float *d, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec slope = vec_load(d + i);
        vec_store(u + i, gelu_pair(vec_load(u + i), &slope));
        vec_store(d + i, slope);
    }
    if (i < n) {
        vec slope = vec_load_part(d + i, n - i);
        vec_store_part(u + i, gelu_pair(vec_load_part(u + i, n - i), &slope), n - i);
        vec_store_part(d + i, slope, n - i);
    }
}

/* --- the other activations */

enum { GELU_TANH, SILU, RELU };

INLINE vec vec_sigmoid(vec x)
{
    return vec_splat(1.0f) / (vec_splat(1.0f) + vec_exp(-x));
}

/* 0.5 (1 + tanh(c (x + 0.044715 x^3))) = sigmoid(2c (x + 0.044715 x^3)), c = sqrt(2 / pi);
 * *slope is its derivative. Beyond 20 the sigmoid is 0 or 1 to the last bit. */
INLINE vec vec_gate(vec x, vec *slope)
{
    const vec one = vec_splat(1.0f), twice_c = vec_splat(1.59576912f);
    x = vec_min(vec_max(x, vec_splat(-20.0f)), vec_splat(20.0f));
    vec square = x * x;
    vec s = vec_sigmoid(twice_c * x * vec_fma(square, vec_splat(0.044715f), one));
    *slope = s * (one - s) * twice_c * vec_fma(square, vec_splat(3 * 0.044715f), one);
    return s;
}

/* f(u); *slope = f'(u). What is no number stays none. */
INLINE vec activated(int kind, vec u, vec *slope)
{
    const vec zero = {0}, one = vec_splat(1.0f);
    if (kind == RELU) {
        *slope = (vec)((uvec)one & (uvec)(u > zero));
        return vec_max(zero, u);
    }
    vec s;
    if (kind == SILU) {
        s = vec_sigmoid(u);
        *slope = s * vec_fma(u, one - s, one);
    } else {
        vec gate_slope;
        s = vec_gate(u, &gate_slope);
        *slope = vec_fma(u, gate_slope, s);
    }
    return u * s;
}

INLINE void activate(int kind, const float *x, size_t n, float *y)
{
    vec slope;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, activated(kind, vec_load(x + i), &slope));
    if (i < n)
        vec_store_part(y + i, activated(kind, vec_load_part(x + i, n - i), &slope), n - i);
}

INLINE void activate_backward(int kind, float *u, float *d, size_t n)
{
    vec slope;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec_store(u + i, activated(kind, vec_load(u + i), &slope));
        vec_store(d + i, vec_load(d + i) * slope);
    }
    if (i < n) {
        vec_store_part(u + i, activated(kind, vec_load_part(u + i, n - i), &slope), n - i);
        vec_store_part(d + i, vec_load_part(d + i, n - i) * slope, n - i);
    }
}

KERNEL void gelu_tanh(const float *x, size_t n, float *y)
{
    activate(GELU_TANH, x, n, y);
}

KERNEL void gelu_tanh_backward(float *u, float *d, size_t n)
{
    activate_backward(GELU_TANH, u, d, n);
}

KERNEL void silu(const float *x, size_t n, float *y)
{
    activate(SILU, x, n, y);
}

KERNEL void silu_backward(float *u, float *d, size_t n)
{
    activate_backward(SILU, u, d, n);
}

KERNEL void relu(const float *x, size_t n, float *y)
{
    activate(RELU, x, n, y);
}

KERNEL void relu_backward(float *u, float *d, size_t n)
{
    activate_backward(RELU, u, d, n);
}

/* --- layer normalisation (Ba, Kiros and Hinton 2016) */

/* y = x + residual; returns the sum of y. */
INLINE float add_and_sum(const float *x, const float *residual, float *y, size_t n)
{
    vec sums = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec s = vec_load(x + i);
        if (residual != NULL)
            s += vec_load(residual + i);
        sums += s;
        vec_store(y + i, s);
    }
    float sum = vec_sum(sums);
    for (; i < n; i++) {
        y[i] = x[i] + (residual != NULL ? residual[i] : 0);
        sum += y[i];
    }
    return sum;
}

INLINE float squared_distance(const float *x, float centre, size_t n)
{
    vec sums = {0}, centres = vec_splat(centre);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec d = vec_load(x + i) - centres;
        sums = vec_fma(d, d, sums);
    }
    float sum = vec_sum(sums);
    for (; i < n; i++)
        sum += (x[i] - centre) * (x[i] - centre);
    return sum;
}

KERNEL float layer_norm(const float *x, const float *residual, const float *weight, const float *bias, float eps,
                        size_t n, float *xhat, float *y)
{
    float mean = add_and_sum(x, residual, y, n) / (float)n;
    float rstd = 1.0f / sqrtf(squared_distance(y, mean, n) / (float)n + eps);
    vec means = vec_splat(mean), rstds = vec_splat(rstd);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec h = (vec_load(y + i) - means) * rstds;
        if (xhat != NULL)
            vec_store(xhat + i, h);
        vec_store(y + i, vec_fma(h, vec_load(weight + i), vec_load(bias + i)));
    }
    for (; i < n; i++) {
        float h = (y[i] - mean) * rstd;
        if (xhat != NULL)
            xhat[i] = h;
        y[i] = h * weight[i] + bias[i];
    }
    return rstd;
}

KERNEL void layer_norm_backward(const float *dy, const float *xhat, float rstd, const float *weight, size_t n,
                                float *d_weight, float *d_bias, float *dx)
{
    vec sums = {0}, products = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec d = vec_load(dy + i), h = vec_load(xhat + i), g = d * vec_load(weight + i);
        sums += g;
        products = vec_fma(g, h, products);
        vec_store(d_weight + i, vec_fma(d, h, vec_load(d_weight + i)));
        vec_store(d_bias + i, vec_load(d_bias + i) + d);
    }
    float sum = vec_sum(sums), product = vec_sum(products);
    for (; i < n; i++) {
        sum += dy[i] * weight[i];
        product += dy[i] * weight[i] * xhat[i];
        d_weight[i] += dy[i] * xhat[i];
        d_bias[i] += dy[i];
    }
    sum /= (float)n;
    product /= (float)n;
    vec mean_g = vec_splat(sum), mean_gh = vec_splat(product), rstds = vec_splat(rstd);
    for (i = 0; i + LANES <= n; i += LANES) {
        vec g = vec_load(dy + i) * vec_load(weight + i) - mean_g;
        vec_store(dx + i, rstds * (g - vec_load(xhat + i) * mean_gh));
    }
    for (; i < n; i++)
        dx[i] = rstd * (dy[i] * weight[i] - sum - xhat[i] * product);
}

KERNEL void scale_shift(const float *x, const float *weight, const float *bias, size_t n, float *y)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_fma(vec_load(x + i), vec_load(weight + i), vec_load(bias + i)));
    for (; i < n; i++)
        y[i] = x[i] * weight[i] + bias[i];
}

INLINE float dot_product(const float *x, const float *y, size_t n)
{
    vec first = {0}, second = {0};
    size_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        first = vec_fma(vec_load(x + i), vec_load(y + i), first);
        second = vec_fma(vec_load(x + i + LANES), vec_load(y + i + LANES), second);
    }
    for (; i + LANES <= n; i += LANES)
        first = vec_fma(vec_load(x + i), vec_load(y + i), first);
    float sum = vec_sum(first + second);
    for (; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

KERNEL float dot(const float *x, const float *y, size_t n)
{
    return dot_product(x, y, n);
}

#include "model/kernels_softmax.h"

/* --- rotary positions */

KERNEL void rotate(float *x, size_t n, const float *cos, const float *sin, float direction)
{
    float *y = x + n;
    vec directions = vec_splat(direction);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec c = vec_load(cos + i), s = vec_load(sin + i) * directions;
        vec first = vec_load(x + i), second = vec_load(y + i);
        vec_store(x + i, first * c - second * s);
        vec_store(y + i, second * c + first * s);
    }
    for (; i < n; i++) {
        float first = x[i], second = y[i], s = sin[i] * direction;
        x[i] = first * cos[i] - second * s;
        y[i] = second * cos[i] + first * s;
    }
}

/* --- vectors */

KERNEL void times(const float *x, float *y, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_load(x + i) * vec_load(y + i));
    for (; i < n; i++)
        y[i] *= x[i];
}

KERNEL void axpy(float a, const float *x, float *y, size_t n)
{
    vec factor = vec_splat(a);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, vec_fma(factor, vec_load(x + i), vec_load(y + i)));
    for (; i < n; i++)
        y[i] += a * x[i];
}

KERNEL void scale(float a, float *x, size_t n)
{
    vec factor = vec_splat(a);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(x + i, factor * vec_load(x + i));
    for (; i < n; i++)
        x[i] *= a;
}

#include "model/kernels_move.h"
#include "model/kernels_spread.h"

#ifndef UPPER_PAIR_ROWS
#define UPPER_PAIR_ROWS pair_rows
#endif

#define TABLE_OF(TITLE, PAIR_ROWS)                                                                                     \
    {                                                                                                                  \
        .name = (TITLE), .multiply = multiply, .multiply_few = multiply_few, .gelu = gelu, .gelu_quick = gelu_quick,   \
        .gelu_backward = gelu_backward, .gelu_tanh = gelu_tanh, .gelu_tanh_backward = gelu_tanh_backward,              \
        .silu = silu, .silu_backward = silu_backward, .relu = relu, .relu_backward = relu_backward, .spread = spread,  \
        .layer_norm = layer_norm, .layer_norm_backward = layer_norm_backward, .scale_shift = scale_shift,              \
        .softmax = softmax, .softmax_backward = softmax_backward, .dropout = dropout, .rotate = rotate,                \
        .times = times, .axpy = axpy, .scale = scale, .dot = dot, .transpose = transpose, .pair_rows = PAIR_ROWS,      \
        .part_rows = part_rows,                                                                                        \
    }

const kernels TABLE = TABLE_OF(TABLE_NAME, pair_rows);
#ifdef UPPER_TABLE
/* A level that differs in products only (packed.h), and in how pairs of bfloat16 are made. */
const kernels UPPER_TABLE = TABLE_OF(UPPER_NAME, UPPER_PAIR_ROWS);
#endif
