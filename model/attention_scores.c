#include "model/attention_scores.h"

#include <math.h>
#include <string.h>

size_t attention_padded(size_t n)
{
    return (n + KERNEL_COLUMNS - 1) / KERNEL_COLUMNS * KERNEL_COLUMNS;
}

void attention_bias_line(const attention_shape *shape, size_t head, size_t n, float *line)
{
    if (shape->bias == NULL)
        return;
    const uint8_t *buckets = shape->buckets + shape->reach - n;
    const float scale = sqrtf((float)shape->width);
    for (size_t i = 0; i < 2 * n - 1; i++)
        line[i] = scale * shape->bias[buckets[i] * shape->heads + head];
}

/* What stands in the place of hidden scores is small enough to count for nothing after softmax,
 * forward and backward. */
static void hide_distant(const attention_shape *shape, size_t n, size_t query, float *scores)
{
    for (size_t j = 0; j + shape->window < query; j++)
        scores[j] = -1e30f;
    for (size_t j = query + shape->window + 1; j < n; j++)
        scores[j] = -1e30f;
}

void attention_adjust(const kernels *k, const attention_shape *shape, const float *line, size_t n, size_t query,
                      size_t rows, float *scores, size_t N)
{
    for (size_t r = 0; shape->bias != NULL && r < rows; r++)
        k->axpy(1, line + (n - 1 - (query + r)), scores + r * N, n);
    for (size_t r = 0; shape->window > 0 && r < rows; r++)
        hide_distant(shape, n, query + r, scores + r * N);
}

void attention_scores_backward(const kernels *k, const attention_shape *shape, float *p, float *ds, size_t n,
                               const dropout_site *drop, size_t row)
{
    const size_t N = attention_padded(n);
    const float scale = 1.0f / sqrtf((float)shape->width);
    for (size_t i = 0; i < n; i++, row += shape->heads) {
        kernel_mask mask;
        k->softmax_backward(p + i * N, ds + i * N, n, N, scale, dropout_mask(drop, row, &mask));
    }
}

void attention_bias_backward(const kernels *k, const attention_shape *shape, size_t head, size_t n, const float *ds,
                             float *line, float *d_bias)
{
    const size_t N = attention_padded(n);
    const uint8_t *buckets = shape->buckets + shape->reach - n;
    const float scale = sqrtf((float)shape->width);
    memset(line, 0, (2 * n - 1) * sizeof *line);
    for (size_t i = 0; i < n; i++)
        k->axpy(1, ds + i * N, line + (n - 1 - i), n);
    for (size_t i = 0; i < 2 * n - 1; i++)
        d_bias[buckets[i] * shape->heads + head] += scale * line[i];
}
