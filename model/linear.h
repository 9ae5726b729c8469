/* y = x W^T + b, over all T tokens of a batch at once. */
#ifndef SEM_MODEL_LINEAR_H
#define SEM_MODEL_LINEAR_H

#include "model/gemm.h"
#include "model/kernels.h"

#include <stddef.h>

/* x[T, in], weight[out, in], bias[out] -> y[T, out] */
void linear_forward(const gemm *g, const kernels *k, size_t tokens, size_t in, size_t out, const float *x,
                    const float *weight, const float *bias, float *y);

/* dx[T, in] = dy W + beta dx */
void linear_backward_input(const gemm *g, size_t tokens, size_t in, size_t out, const float *weight, const float *dy,
                           float beta, float *dx);
/* d_weight += dy^T x, d_bias += the rows of dy. */
void linear_backward_weight(const gemm *g, const kernels *k, size_t tokens, size_t in, size_t out, const float *x,
                            const float *dy, float *d_weight, float *d_bias);

#endif
