/* Layer normalisation over the rows of a batch (Ba, Kiros and Hinton 2016). */
#ifndef SEM_MODEL_LAYER_NORM_H
#define SEM_MODEL_LAYER_NORM_H

#include "model/kernels.h"

#include <stddef.h>

/* y[T, H] = normalised (x + residual) * weight + bias; residual may be NULL, y
 * may be x. xhat[T, H] and rstd[T] keep what backward needs; both or none NULL. */
void layer_norm_forward(const kernels *k, size_t tokens, size_t hidden, const float *x, const float *residual,
                        const float *weight, const float *bias, float eps, float *xhat, float *rstd, float *y);

/* d[T, H] becomes the gradient of x + residual; adds to d_weight and d_bias. */
void layer_norm_backward(const kernels *k, size_t tokens, size_t hidden, const float *xhat, const float *rstd,
                         const float *weight, float *d, float *d_weight, float *d_bias);

/* y[T, H] once more, from what was kept. */
void layer_norm_again(const kernels *k, size_t tokens, size_t hidden, const float *xhat, const float *weight,
                      const float *bias, float *y);

#endif
