/* Matrix products: OpenBLAS where it computes right, own kernels where it does not. */
#ifndef SEM_MODEL_GEMM_H
#define SEM_MODEL_GEMM_H

#include "base/log.h"
#include "base/status.h"
#include "model/kernels.h"

#include <stdbool.h>
#include <stddef.h>

/* C = alpha * op(A) op(B) + beta * C, row-major; op(A) is [M, K], op(B) is
 * [K, N], C is [M, N]; lda, ldb, ldc are row strides of the stored matrices.
 * Where beta is 0, C is not read. Runs in the calling thread alone. */
typedef void gemm_fn(bool transpose_a, bool transpose_b, size_t m, size_t n, size_t k, float alpha, const float *a,
                     size_t lda, const float *b, size_t ldb, float beta, float *c, size_t ldc);

typedef struct gemm {
    const char *name; /* "openblas", "own avx512", "portable" */
    gemm_fn *multiply;
} gemm;

/* The reference: blocked portable C. */
extern const gemm gemm_portable;

/* The same loops around the kernels of a level that the machine can run;
 * gemm_portable for the generic one. */
const gemm *gemm_own(const kernels *level);

/* Chooses once for each set of widths, and remembers. Sets OpenBLAS to one thread a call, then compares its
 * products with gemm_portable's on every transpose form and on the shapes that
 * a model of these widths uses (edges of kernels and odd sizes included). A
 * library that fails is never used, and one that has taken kernels without AVX only where
 * the processor has none either: the log says so, names the kernel and
 * OPENBLAS_CORETYPE, and own kernels take over. Any thread. */
const gemm *gemm_choose(size_t hidden, size_t intermediate, size_t head, sem_log *log);

/* What gemm_choose does with any library, for tests: candidate (whose kernels
 * are called kernel) if it computes right and is not behind the processor, else own kernels. */
const gemm *gemm_choose_checked(const gemm *candidate, const char *kernel, size_t hidden, size_t intermediate,
                                size_t head, sem_log *log);

/* The comparison itself: true if candidate agrees with gemm_portable. Also
 * false when there is no memory for it. */
bool gemm_self_test(const gemm *candidate, size_t hidden, size_t intermediate, size_t head);

#endif
