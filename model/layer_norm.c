#include "model/layer_norm.h"

void layer_norm_forward(const kernels *k, size_t tokens, size_t hidden, const float *x, const float *residual,
                        const float *weight, const float *bias, float eps, float *xhat, float *rstd, float *y)
{
    for (size_t t = 0; t < tokens; t++) {
        size_t at = t * hidden;
        float r = k->layer_norm(x + at, residual == NULL ? NULL : residual + at, weight, bias, eps, hidden,
                                xhat == NULL ? NULL : xhat + at, y + at);
        if (rstd != NULL)
            rstd[t] = r;
    }
}

void layer_norm_backward(const kernels *k, size_t tokens, size_t hidden, const float *xhat, const float *rstd,
                         const float *weight, float *d, float *d_weight, float *d_bias)
{
    for (size_t t = 0; t < tokens; t++) {
        float *row = d + t * hidden;
        k->layer_norm_backward(row, xhat + t * hidden, rstd[t], weight, hidden, d_weight, d_bias, row);
    }
}

void layer_norm_again(const kernels *k, size_t tokens, size_t hidden, const float *xhat, const float *weight,
                      const float *bias, float *y)
{
    for (size_t t = 0; t < tokens; t++)
        k->scale_shift(xhat + t * hidden, weight, bias, hidden, y + t * hidden);
}
