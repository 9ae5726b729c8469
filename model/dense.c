#include "model/dense.h"

#include <math.h>
#include <string.h>

/* --- activations */

static float normal_distribution(float z)
{
    return 0.5f * erfcf(-z * 0.70710678f);
}

static float sigmoid(float z)
{
    return 1 / (1 + expf(-z));
}

static float activate(dense_activation activation, float z)
{
    switch (activation) {
    case DENSE_TANH: return tanhf(z);
    case DENSE_RELU: return z > 0 || isnan(z) ? z : 0;
    case DENSE_GELU: return z * normal_distribution(z);
    case DENSE_SILU: return z * sigmoid(z);
    case DENSE_SIGMOID: return sigmoid(z);
    case DENSE_IDENTITY: break;
    }
    return z;
}

/* The derivative at z. */
static float slope(dense_activation activation, float z)
{
    float s;
    switch (activation) {
    case DENSE_TANH: s = tanhf(z); return 1 - s * s;
    case DENSE_RELU: return z > 0;
    case DENSE_GELU: return normal_distribution(z) + z * 0.39894228f * expf(-0.5f * z * z);
    case DENSE_SILU: s = sigmoid(z); return s * (1 + z * (1 - s));
    case DENSE_SIGMOID: s = sigmoid(z); return s * (1 - s);
    case DENSE_IDENTITY: break;
    }
    return 1;
}

/* --- one layer */

/* x[in] -> z[out], y[out] */
static void layer_forward(const kernels *k, const dense_layer *l, const float *params, const float *x, float *z,
                          float *y)
{
    const float *weight = params + l->weight;
    for (size_t o = 0; o < l->out; o++) {
        z[o] = k->dot(weight + o * l->in, x, l->in) + (l->has_bias ? params[l->bias + o] : 0);
        y[o] = activate(l->activation, z[o]);
    }
}

/* dx[in] (overwritten) from dy[out]. */
static void layer_backward(const kernels *k, const dense_layer *l, const float *params, const float *x, const float *z,
                           const float *dy, float *dx, float *grads)
{
    memset(dx, 0, l->in * sizeof *dx);
    for (size_t o = 0; o < l->out; o++) {
        float dz = dy[o] * slope(l->activation, z[o]);
        k->axpy(dz, params + l->weight + o * l->in, dx, l->in);
        k->axpy(dz, x, grads + l->weight + o * l->in, l->in);
        if (l->has_bias)
            grads[l->bias + o] += dz;
    }
}

/* --- all of them; kept is each layer's x[in] and z[out] in turn */

size_t dense_head_space(const dense_head *head)
{
    size_t floats = 0;
    for (size_t i = 0; i < head->count; i++)
        floats += head->layers[i].in + head->layers[i].out;
    return floats;
}

size_t dense_head_width(const dense_head *head)
{
    size_t widest = 0;
    for (size_t i = 0; i < head->count; i++) {
        const dense_layer *l = &head->layers[i];
        widest = l->in > widest ? l->in : widest;
        widest = l->out > widest ? l->out : widest;
    }
    return widest;
}

float *dense_head_input(const dense_head *head, float *kept, float *out)
{
    return head->count > 0 ? kept : out;
}

void dense_head_forward(const kernels *k, const dense_head *head, const float *params, float *kept, float *out)
{
    for (size_t i = 0; i < head->count; i++) {
        const dense_layer *l = &head->layers[i];
        float *z = kept + l->in, *after = z + l->out;
        layer_forward(k, l, params, kept, z, i + 1 < head->count ? after : out);
        kept = after;
    }
}

void dense_head_backward(const kernels *k, const dense_head *head, const float *params, const float *kept, float *d,
                         float *spare, float *grads)
{
    kept += dense_head_space(head);
    for (size_t i = head->count; i-- > 0;) {
        const dense_layer *l = &head->layers[i];
        kept -= l->in + l->out;
        layer_backward(k, l, params, kept, kept + l->in, d, spare, grads);
        memcpy(d, spare, l->in * sizeof *d);
    }
}
