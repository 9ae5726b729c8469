/* From a text's token vectors to its embedding. */
#ifndef SEM_MODEL_POOLING_H
#define SEM_MODEL_POOLING_H

#include "model/kernels.h"

#include <stddef.h>

/* How many vectors of width H are joined; 0 where bits are unknown. */
size_t pooling_parts(unsigned pooling);

/* x[n, H] -> out[parts * H], joined in the order of model_pooling's bits. */
void pooling_forward(const kernels *k, unsigned pooling, size_t hidden, const float *x, size_t n, float *out);

/* dx[n, H] (overwritten) from d_out[parts * H]; the maximum's gradient goes to
 * the first token that has it. */
void pooling_backward(const kernels *k, unsigned pooling, size_t hidden, const float *x, size_t n, const float *d_out,
                      float *dx);

/* Divides x[n] by its length and returns the length; where that is 0 or not
 * finite x is left alone. */
float pooling_normalize(const kernels *k, float *x, size_t n);

/* d[n], the gradient of y = x / length, becomes that of x. */
void pooling_normalize_backward(const kernels *k, const float *y, float length, float *d, size_t n);

#endif
