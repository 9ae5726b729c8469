/* The inner loops of the encoder that are not matrix products of a library:
 * one table of functions for each instruction set, all made from the same text
 * (kernels_body.h). The generic table runs on any machine. */
#ifndef SEM_MODEL_KERNELS_H
#define SEM_MODEL_KERNELS_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

/* Columns that multiply() writes at once: what it reads and writes is padded to this. */
enum { KERNEL_COLUMNS = 16 };

/* Values that spread() mixes with each other only in rows of up to SPREAD_LANES_MAX:
 * in longer ones the others are many enough. */
enum { SPREAD_BLOCK = 16, SPREAD_LANES_MAX = 1024 };

/* What decides which values of one row are dropped. */
typedef struct kernel_mask {
    uint32_t key[2];
    uint32_t threshold; /* of 2^24: the probability of being dropped */
    float scale;        /* of what is kept: 1 / (1 - probability) */
} kernel_mask;

typedef struct kernels {
    const char *name; /* as in SEMD_SIMD */

    /* c[m, n] = a b, or c += a b when add. a(i, p) is a[i * a_row + p * a_column],
     * so that a transposed a costs nothing. n is a multiple of KERNEL_COLUMNS. */
    void (*multiply)(size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_column, const float *b,
                     size_t ldb, float *c, size_t ldc, int add);

    /* y[m, n] += x[m, k] w[n, k]^T, rows without gaps. For few rows of x: w is
     * read once and never packed. */
    void (*multiply_few)(size_t m, size_t n, size_t k, const float *x, const float *w, float *y);

    /* y[n] = x * Phi(x), Phi the normal distribution function (the erf form of
     * GELU); y may be x. */
    void (*gelu)(const float *x, size_t n, float *y);
    /* The same with an error of up to 1.5e-4: well below that of what is rounded to
     * bfloat16 or int8 afterwards. */
    void (*gelu_quick)(const float *x, size_t n, float *y);
    /* u[n] becomes gelu(u), d[n] becomes d * gelu'(u). */
    void (*gelu_backward)(float *u, float *d, size_t n);

    /* The same for the other activations: GELU by tanh (Hendrycks and Gimpel
     * 2016, section 2), x sigmoid(x), max(x, 0). */
    void (*gelu_tanh)(const float *x, size_t n, float *y);
    void (*gelu_tanh_backward)(float *u, float *d, size_t n);
    void (*silu)(const float *x, size_t n, float *y);
    void (*silu_backward)(float *u, float *d, size_t n);
    void (*relu)(const float *x, size_t n, float *y);
    void (*relu_backward)(float *u, float *d, size_t n);

    /* Rotates a row: y = c R x, R orthogonal and c = kernels_spread_gain(n); y may be x.
     * A value far larger than the others of its row is spread over many, so that rounding
     * the row to few bits loses less (Ashkboos et al. 2024, "QuaRot"). Sums and
     * differences of whole vectors (Hadamard's matrices), then of thirds and lanes;
     * what is behind the last SPREAD_BLOCK stays as it is, times c. */
    void (*spread)(const float *x, size_t n, float *y);

    /* s = x + residual (may be NULL); xhat (may be NULL) = (s - mean) * rstd;
     * y = xhat * weight + bias. Returns rstd. y and xhat may be x. */
    float (*layer_norm)(const float *x, const float *residual, const float *weight, const float *bias, float eps,
                        size_t n, float *xhat, float *y);
    /* Adds to d_weight and d_bias; dx may be dy. */
    void (*layer_norm_backward)(const float *dy, const float *xhat, float rstd, const float *weight, size_t n,
                                float *d_weight, float *d_bias, float *dx);
    /* y = x * weight + bias */
    void (*scale_shift)(const float *x, const float *weight, const float *bias, size_t n, float *y);

    /* s[n] becomes exp(scale * (s - max)), s[n .. padded) becomes 0; returns the
     * sum. Only then values are dropped, where mask is not NULL. padded is a multiple of
     * KERNEL_COLUMNS. */
    float (*softmax)(float *s, size_t n, size_t padded, float scale, const kernel_mask *mask);
    /* Scores s[n] become what softmax and then dropout (mask; NULL: none) make of scale * s,
     * and d[n], the gradient of that, becomes the gradient of s. Both are overwritten up to
     * padded, a multiple of KERNEL_COLUMNS. */
    void (*softmax_backward)(float *s, float *d, size_t n, size_t padded, float scale, const kernel_mask *mask);

    /* x = x * scale or 0, by a hash of the mask's key and the position in the row. */
    void (*dropout)(float *x, size_t n, const kernel_mask *mask);

    /* x[n] and x[n .. 2n) become x cos - y sin and y cos + x sin, the sine taken
     * `direction` times (1 or -1). */
    void (*rotate)(float *x, size_t n, const float *cos, const float *sin, float direction);

    /* y *= x */
    void (*times)(const float *x, float *y, size_t n);
    /* y += a * x */
    void (*axpy)(float a, const float *x, float *y, size_t n);
    void (*scale)(float a, float *x, size_t n);
    float (*dot)(const float *x, const float *y, size_t n);

    /* to[columns, rows] = the transpose of from[rows, columns], of any values of 32 bits;
     * strides in values. */
    void (*transpose)(const uint32_t *from, size_t stride, size_t rows, size_t columns, uint32_t *to, size_t to_stride);
    /* out[n]: even as bfloat16 (nearest, ties to even) in the lower half, odd (NULL: zeros) in
     * the upper one. */
    void (*pair_rows)(const float *even, const float *odd, size_t n, uint32_t *out);
    /* The way back; odd may be NULL. */
    void (*part_rows)(const uint32_t *pairs, size_t n, float *even, float *odd);
} kernels;

extern const kernels kernels_generic;

/* Blocks that spread() mixes at a time, a power of two, and the factor by which it
 * makes rows of n values longer. */
size_t kernels_spread_group(size_t n);
float kernels_spread_gain(size_t n);

/* The tables that this machine can run, slowest first, NULL after the last. */
enum { KERNELS_MAX = 5 };
void kernels_available(const kernels *out[KERNELS_MAX + 1]);

/* The fastest, or the one that the environment variable SEMD_SIMD names
 * (generic, avx2, avxvnni, avx512, amx); an unknown name or a level that the
 * machine lacks is refused. avxvnni and amx are avx2 and avx512 with other products
 * (packed.h). */
sem_status kernels_choose(const kernels **out, sem_error *err);

#endif
