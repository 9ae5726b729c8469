/* Made-up vectors that lie in clusters, as text embeddings do. */
#ifndef SEM_TESTS_INDEX_CLUSTERED_H
#define SEM_TESTS_INDEX_CLUSTERED_H

#include "base/random.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static inline float clustered_gauss(random_state *r)
{
    double u = 1.0 - random_unit(r), v = random_unit(r);
    return (float)(sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v));
}

static inline void clustered_normalise(float *x, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)x[i] * x[i];
    float scale = (float)(1.0 / sqrt(sum));
    for (size_t i = 0; i < dim; i++)
        x[i] *= scale;
}

/* [count, dim] directions, any of them as likely. */
static inline float *clustered_centres(random_state *r, size_t count, size_t dim)
{
    float *c = malloc(count * dim * sizeof *c);
    for (size_t i = 0; c != NULL && i < count; i++) {
        for (size_t j = 0; j < dim; j++)
            c[i * dim + j] = clustered_gauss(r);
        clustered_normalise(c + i * dim, dim);
    }
    return c;
}

/* One unit vector near centre; spread 1 puts it at about 45 degrees. */
static inline void clustered_point(random_state *r, const float *centre, size_t dim, float spread, float *out)
{
    float noise = spread / sqrtf((float)dim);
    for (size_t j = 0; j < dim; j++)
        out[j] = centre[j] + noise * clustered_gauss(r);
    clustered_normalise(out, dim);
}

/* [n, dim] points around `centres` random directions. */
static inline float *clustered_points(random_state *r, size_t n, size_t dim, size_t centres, float spread)
{
    float *c = clustered_centres(r, centres, dim);
    float *x = malloc(n * dim * sizeof *x);
    for (size_t i = 0; c != NULL && x != NULL && i < n; i++)
        clustered_point(r, c + random_below(r, centres) * dim, dim, spread, x + i * dim);
    free(c);
    return x;
}

#endif
