#include "model/covariance.h"

#include "base/checked.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Columns of a block. Larger blocks hardly gain, and the time and memory grow with them. */
enum { BLOCK = 192 };

/* Added to the diagonal, as a share of its mean: directions that the measured rows
 * did not have cost something too (Frantar et al. 2023, section 3.3). */
static const double DAMPING = 0.01;

struct covariance {
    const kernels *kernels;
    size_t k, blocks;
    bool finished;
    float *parts; /* [blocks, BLOCK, BLOCK], owned: sums of products, later factors */
};

sem_status covariance_create(covariance **out, const kernels *level, size_t k, sem_error *err)
{
    covariance *c = calloc(1, sizeof *c);
    size_t count;
    if (c == NULL)
        return sem_fail_memory(err, "a covariance");
    c->kernels = level;
    c->k = k;
    c->blocks = (k + BLOCK - 1) / BLOCK;
    c->parts = checked_mul(c->blocks, BLOCK * BLOCK, &count) ? calloc(count, sizeof *c->parts) : NULL;
    if (c->parts == NULL) {
        free(c);
        return sem_fail_memory(err, "a covariance");
    }
    *out = c;
    return SEM_OK;
}

void covariance_destroy(covariance *c)
{
    if (c == NULL)
        return;
    free(c->parts);
    free(c);
}

static size_t block_width(const covariance *c, size_t b)
{
    size_t left = c->k - b * BLOCK;
    return left < BLOCK ? left : BLOCK;
}

void covariance_add(covariance *c, size_t rows, const float *x)
{
    for (size_t b = 0; b < c->blocks; b++) {
        const float *from = x + b * BLOCK;
        float *part = c->parts + b * BLOCK * BLOCK;
        size_t width = block_width(c, b), whole = width / KERNEL_COLUMNS * KERNEL_COLUMNS;
        if (whole > 0)
            c->kernels->multiply(width, whole, rows, from, 1, c->k, from, c->k, part, BLOCK, 1);
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < width; i++)
                for (size_t j = whole; j < width; j++)
                    part[i * BLOCK + j] += from[r * c->k + i] * from[r * c->k + j];
    }
}

/* The lower triangle L of a = L L^T, in place; the rest is left as it is. */
static void cholesky(const kernels *k, float *a, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float *row = a + i * BLOCK;
        for (size_t j = 0; j < i; j++)
            row[j] = (row[j] - k->dot(row, a + j * BLOCK, j)) / a[j * BLOCK + j];
        float square = row[i] - k->dot(row, row, i);
        row[i] = sqrtf(square > 1e-20f ? square : 1e-20f);
    }
}

/* The inverse of the lower triangle l: out[i, j], i >= j, in a's layout and zeroed. */
static void invert_triangle(const kernels *k, const float *l, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        float *row = out + i * BLOCK;
        for (size_t p = 0; p < i; p++)
            k->axpy(-l[i * BLOCK + p], out + p * BLOCK, row, p + 1);
        k->scale(1 / l[i * BLOCK + i], row, i);
        row[i] = 1 / l[i * BLOCK + i];
    }
}

/* Turns a block's sums into U, upper triangular, of inverse(sums) = U^T U. */
static void factor(const kernels *k, float *a, size_t n, float *space)
{
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        trace += (double)a[i * BLOCK + i];
    float damping = (float)(DAMPING * trace / (double)n);
    damping = damping > 1e-10f ? damping : 1e-10f;
    for (size_t i = 0; i < n; i++)
        a[i * BLOCK + i] += damping;
    cholesky(k, a, n);
    memset(space, 0, BLOCK * BLOCK * sizeof *space);
    invert_triangle(k, a, n, space);
    memset(a, 0, BLOCK * BLOCK * sizeof *a);
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i <= p; i++)
            k->axpy(space[p * BLOCK + i], space + p * BLOCK, a + i * BLOCK, i + 1);
    cholesky(k, a, n);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i + 1; j < n; j++) {
            a[i * BLOCK + j] = a[j * BLOCK + i];
            a[j * BLOCK + i] = 0;
        }
    }
}

sem_status covariance_finish(covariance *c, sem_error *err)
{
    if (c->finished)
        return SEM_OK;
    float *space = malloc(BLOCK * BLOCK * sizeof *space);
    if (space == NULL)
        return sem_fail_memory(err, "a covariance");
    for (size_t b = 0; b < c->blocks; b++)
        factor(c->kernels, c->parts + b * BLOCK * BLOCK, block_width(c, b), space);
    free(space);
    c->finished = true;
    return SEM_OK;
}

void covariance_round(const covariance *c, float *w, float scale, int8_t *out)
{
    const float inverse = scale > 0 ? 1 / scale : 0;
    for (size_t b = 0; b < c->blocks; b++, w += BLOCK, out += BLOCK) {
        const float *u = c->parts + b * BLOCK * BLOCK;
        size_t width = block_width(c, b);
        for (size_t i = 0; i < width; i++) {
            float q = rintf(w[i] * inverse);
            q = q > 127 ? 127 : q < -127 ? -127 : q;
            out[i] = (int8_t)q;
            float error = (w[i] - q * scale) / u[i * BLOCK + i];
            c->kernels->axpy(-error, u + i * BLOCK + i + 1, w + i + 1, width - i - 1);
        }
    }
}
