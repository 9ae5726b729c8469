#include "model/embedding.h"

#include <string.h>

void embedding_forward(const kernels *k, size_t hidden, const int32_t *ids, size_t n, const float *words,
                       const float *positions, const float *type, float *y)
{
    for (size_t i = 0; i < n; i++, y += hidden) {
        memcpy(y, words + (size_t)ids[i] * hidden, hidden * sizeof *y);
        k->axpy(1, positions + i * hidden, y, hidden);
        k->axpy(1, type, y, hidden);
    }
}

void embedding_backward(const kernels *k, size_t hidden, const int32_t *ids, size_t n, const float *dy, float *d_words,
                        float *d_positions, float *d_type)
{
    for (size_t i = 0; i < n; i++, dy += hidden) {
        k->axpy(1, dy, d_words + (size_t)ids[i] * hidden, hidden);
        k->axpy(1, dy, d_positions + i * hidden, hidden);
        k->axpy(1, dy, d_type, hidden);
    }
}
