#include "model/linear.h"

#include <string.h>

/* Up to here a library spends more time on packing the weights than it gains. */
enum { FEW_TOKENS = 32 };

void linear_forward(const gemm *g, const kernels *k, size_t tokens, size_t in, size_t out, const float *x,
                    const float *weight, const float *bias, float *y)
{
    /* The product adds to what is there: the bias costs one write of y. */
    for (size_t t = 0; t < tokens; t++)
        memcpy(y + t * out, bias, out * sizeof *y);
    if (tokens <= FEW_TOKENS)
        k->multiply_few(tokens, out, in, x, weight, y);
    else
        g->multiply(false, true, tokens, out, in, 1, x, in, weight, in, 1, y, out);
}

void linear_backward_input(const gemm *g, size_t tokens, size_t in, size_t out, const float *weight, const float *dy,
                           float beta, float *dx)
{
    g->multiply(false, false, tokens, in, out, 1, dy, out, weight, in, beta, dx, in);
}

void linear_backward_weight(const gemm *g, const kernels *k, size_t tokens, size_t in, size_t out, const float *x,
                            const float *dy, float *d_weight, float *d_bias)
{
    g->multiply(true, false, out, in, tokens, 1, dy, out, x, in, 1, d_weight, in);
    for (size_t t = 0; t < tokens; t++)
        k->axpy(1, dy + t * out, d_bias, out);
}
