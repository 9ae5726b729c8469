#include "model/gemm.h"
#include "model/kernels_levels.h"

#include <string.h>

/* One block of op(B): 64 KiB, which lies in the second-level cache while every
 * row of A passes over it. */
enum { BLOCK_DEPTH = 256, BLOCK_COLUMNS = 4 * KERNEL_COLUMNS, EDGE_ROWS = 32 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static void scale_result(const kernels *level, size_t m, size_t n, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        float *row = c + i * ldc;
        if (beta == 0)
            memset(row, 0, n * sizeof *row);
        else if (beta != 1)
            level->scale(beta, row, n);
    }
}

/* panel[depth, KERNEL_COLUMNS] = alpha * op(b)[depth, columns], zeros behind columns. */
static void pack_panel(bool transposed, const float *b, size_t ldb, size_t depth, size_t columns, float alpha,
                       float *panel)
{
    for (size_t p = 0; p < depth; p++, panel += KERNEL_COLUMNS) {
        for (size_t j = 0; j < columns; j++)
            panel[j] = alpha * (transposed ? b[j * ldb + p] : b[p * ldb + j]);
        for (size_t j = columns; j < KERNEL_COLUMNS; j++)
            panel[j] = 0;
    }
}

/* c[m, n] += a panels, where the last panel may be wider than what c has left. */
static void multiply_block(const kernels *level, size_t m, size_t n, size_t depth, const float *a, size_t a_row,
                           size_t a_column, const float *panels, float *c, size_t ldc)
{
    float edge[EDGE_ROWS * KERNEL_COLUMNS];
    for (size_t i = 0; i < m; i += EDGE_ROWS) {
        size_t rows = smaller(m - i, EDGE_ROWS);
        const float *left = a + i * a_row;
        for (size_t j = 0; j < n; j += KERNEL_COLUMNS) {
            const float *panel = panels + j * BLOCK_DEPTH;
            float *out = c + i * ldc + j;
            if (n - j >= KERNEL_COLUMNS) {
                level->multiply(rows, KERNEL_COLUMNS, depth, left, a_row, a_column, panel, KERNEL_COLUMNS, out, ldc, 1);
                continue;
            }
            level->multiply(rows, KERNEL_COLUMNS, depth, left, a_row, a_column, panel, KERNEL_COLUMNS, edge,
                            KERNEL_COLUMNS, 0);
            for (size_t r = 0; r < rows; r++)
                level->axpy(1, edge + r * KERNEL_COLUMNS, out + r * ldc, n - j);
        }
    }
}

static void multiply_with(const kernels *level, bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k,
                          float alpha, const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
                          size_t ldc)
{
    float panels[BLOCK_DEPTH * BLOCK_COLUMNS];
    size_t a_row = transpose_a ? 1 : lda, a_column = transpose_a ? lda : 1;

    scale_result(level, m, n, beta, c, ldc);
    if (alpha == 0)
        return;
    for (size_t p = 0; p < k; p += BLOCK_DEPTH) {
        size_t depth = smaller(k - p, BLOCK_DEPTH);
        for (size_t j = 0; j < n; j += BLOCK_COLUMNS) {
            size_t columns = smaller(n - j, BLOCK_COLUMNS);
            for (size_t q = 0; q < columns; q += KERNEL_COLUMNS) {
                const float *from = transpose_b ? b + (j + q) * ldb + p : b + p * ldb + j + q;
                pack_panel(transpose_b, from, ldb, depth, smaller(columns - q, KERNEL_COLUMNS), alpha,
                           panels + q * BLOCK_DEPTH);
            }
            multiply_block(level, m, columns, depth, a + p * a_column, a_row, a_column, panels, c + j, ldc);
        }
    }
}

static void multiply_generic(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                             const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    multiply_with(&kernels_generic, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

const gemm gemm_portable = {.name = "portable", .multiply = multiply_generic};

#ifdef KERNELS_X86

static void multiply_avx2(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                          size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    multiply_with(&kernels_avx2, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static void multiply_avx512(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha,
                            const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    multiply_with(&kernels_avx512, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static const gemm own_avx2 = {.name = "own avx2", .multiply = multiply_avx2};
static const gemm own_avx512 = {.name = "own avx512", .multiply = multiply_avx512};

#endif

const gemm *gemm_own(const kernels *level)
{
#ifdef KERNELS_X86
    if (level == &kernels_avx2 || level == &kernels_avxvnni)
        return &own_avx2;
    if (level == &kernels_avx512 || level == &kernels_amx)
        return &own_avx512;
#else
    (void)level;
#endif
    return &gemm_portable;
}
