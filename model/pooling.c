#include "model/pooling.h"

#include "model/model_config.h"

#include <math.h>
#include <string.h>

static const unsigned PARTS[] = {POOL_CLS,           POOL_MAX,           POOL_MEAN,
                                 POOL_MEAN_SQRT_LEN, POOL_WEIGHTED_MEAN, POOL_LAST_TOKEN};
enum { PART_COUNT = sizeof PARTS / sizeof *PARTS };

size_t pooling_parts(unsigned pooling)
{
    size_t count = 0;
    for (size_t i = 0; i < PART_COUNT; i++) {
        count += (pooling & PARTS[i]) != 0;
        pooling &= ~PARTS[i];
    }
    return pooling == 0 ? count : 0;
}

/* What token i of n counts for in the sum; every part but the maximum is one. */
static float token_weight(unsigned part, size_t i, size_t n)
{
    switch (part) {
    case POOL_CLS: return i == 0;
    case POOL_LAST_TOKEN: return i == n - 1;
    case POOL_MEAN: return 1.0f / (float)n;
    case POOL_MEAN_SQRT_LEN: return 1.0f / sqrtf((float)n);
    /* Muennighoff 2022, "SGPT", section 4.1.1: weights 1 to n. */
    default: return (float)(i + 1) / (0.5f * (float)n * (float)(n + 1));
    }
}

static void largest(const float *x, size_t n, size_t hidden, float *out)
{
    memcpy(out, x, hidden * sizeof *out);
    for (size_t i = 1; i < n; i++)
        for (size_t h = 0; h < hidden; h++)
            if (x[i * hidden + h] > out[h])
                out[h] = x[i * hidden + h];
}

static void largest_backward(const float *x, size_t n, size_t hidden, const float *d_out, float *dx)
{
    for (size_t h = 0; h < hidden; h++) {
        size_t best = 0;
        for (size_t i = 1; i < n; i++)
            if (x[i * hidden + h] > x[best * hidden + h])
                best = i;
        dx[best * hidden + h] += d_out[h];
    }
}

void pooling_forward(const kernels *k, unsigned pooling, size_t hidden, const float *x, size_t n, float *out)
{
    for (size_t p = 0; p < PART_COUNT; p++) {
        if ((pooling & PARTS[p]) == 0)
            continue;
        if (PARTS[p] == POOL_MAX) {
            largest(x, n, hidden, out);
        } else {
            memset(out, 0, hidden * sizeof *out);
            for (size_t i = 0; i < n; i++) {
                float weight = token_weight(PARTS[p], i, n);
                if (weight != 0)
                    k->axpy(weight, x + i * hidden, out, hidden);
            }
        }
        out += hidden;
    }
}

void pooling_backward(const kernels *k, unsigned pooling, size_t hidden, const float *x, size_t n, const float *d_out,
                      float *dx)
{
    memset(dx, 0, n * hidden * sizeof *dx);
    for (size_t p = 0; p < PART_COUNT; p++) {
        if ((pooling & PARTS[p]) == 0)
            continue;
        if (PARTS[p] == POOL_MAX) {
            largest_backward(x, n, hidden, d_out, dx);
        } else {
            for (size_t i = 0; i < n; i++) {
                float weight = token_weight(PARTS[p], i, n);
                if (weight != 0)
                    k->axpy(weight, d_out, dx + i * hidden, hidden);
            }
        }
        d_out += hidden;
    }
}

float pooling_normalize(const kernels *k, float *x, size_t n)
{
    float length = sqrtf(k->dot(x, x, n));
    if (length > 0 && isfinite(length))
        k->scale(1.0f / length, x, n);
    return length;
}

void pooling_normalize_backward(const kernels *k, const float *y, float length, float *d, size_t n)
{
    /* The part of d along y does not change the direction. */
    k->axpy(-k->dot(y, d, n), y, d, n);
    k->scale(1.0f / length, d, n);
}
