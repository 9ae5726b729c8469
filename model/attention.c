#include "model/attention.h"

#include "model/attention_scores.h"

#include <math.h>
#include <string.h>

/* Queries that share one pass over keys and values. */
enum { QUERY_BLOCK = 16 };

/* One head's columns of x (rows of `stride` floats) as rows of padded(width)
 * floats with zeros behind: the right factor of a product. */
static void pack_rows(const float *x, size_t stride, size_t n, size_t width, float *out)
{
    size_t wide = attention_padded(width);
    for (size_t i = 0; i < n; i++, x += stride, out += wide) {
        memcpy(out, x, width * sizeof *out);
        memset(out + width, 0, (wide - width) * sizeof *out);
    }
}

/* The same, transposed: out[width, padded(n)]. */
static void pack_columns(const kernels *k, const float *x, size_t stride, size_t n, size_t width, float *out)
{
    size_t wide = attention_padded(n);
    for (size_t d = 0; d < width && n < wide; d++)
        memset(out + d * wide + n, 0, (wide - n) * sizeof *out);
    k->transpose((const uint32_t *)(const void *)x, stride, n, width, (uint32_t *)(void *)out, wide);
}

/* x[n, width], rows `stride` apart, = a b of packed rows b[depth, padded(width)], a(i, p) as in
 * kernels.h; through room[n, padded(width)] where that is wider than x. */
static void multiply_rows(const kernels *k, size_t n, size_t depth, const float *a, size_t a_row, size_t a_column,
                          const float *b, size_t width, float *x, size_t stride, float *room)
{
    const size_t wide = attention_padded(width);
    if (wide == width) {
        k->multiply(n, wide, depth, a, a_row, a_column, b, wide, x, stride, 0);
        return;
    }
    k->multiply(n, wide, depth, a, a_row, a_column, b, wide, room, wide, 0);
    for (size_t i = 0; i < n; i++, x += stride, room += wide)
        memcpy(x, room, width * sizeof *x);
}

/* --- forward */

size_t attention_forward_space(const attention_shape *shape, size_t n)
{
    size_t wide = attention_padded(shape->width);
    return shape->width * attention_padded(n) + n * wide + QUERY_BLOCK * (attention_padded(n) + wide) + 2 * n;
}

void attention_forward(const kernels *k, const attention_shape *shape, const float *qkv, size_t n,
                       const dropout_site *drop, size_t first, float *context, float *space)
{
    const size_t H = shape->hidden, A = shape->heads, D = shape->width, stride = 3 * H;
    const size_t N = attention_padded(n), W = attention_padded(D);
    const float scale = 1.0f / sqrtf((float)D);
    float *keys = space, *values = keys + D * N, *scores = values + n * W, *out = scores + QUERY_BLOCK * N;
    float *line = out + QUERY_BLOCK * W;

    for (size_t head = 0; head < A; head++) {
        const float *queries = qkv + head * D;
        pack_columns(k, queries + H, stride, n, D, keys);
        pack_rows(queries + 2 * H, stride, n, D, values);
        attention_bias_line(shape, head, n, line);
        for (size_t i = 0; i < n; i += QUERY_BLOCK) {
            size_t rows = n - i < QUERY_BLOCK ? n - i : QUERY_BLOCK;
            float inverse[QUERY_BLOCK], *to = context + i * H + head * D;
            kernel_mask mask;
            k->multiply(rows, N, D, queries + i * stride, stride, 1, keys, N, scores, N, 0);
            attention_adjust(k, shape, line, n, i, rows, scores, N);
            for (size_t r = 0; r < rows; r++)
                inverse[r] = 1.0f / k->softmax(scores + r * N, n, N, scale,
                                               dropout_mask(drop, (first + i + r) * A + head, &mask));
            multiply_rows(k, rows, n, scores, N, 1, values, D, to, H, out);
            for (size_t r = 0; r < rows; r++)
                k->scale(inverse[r], to + r * H, D);
        }
    }
}

/* --- backward */

size_t attention_backward_space(const attention_shape *shape, size_t n)
{
    size_t wide = attention_padded(shape->width);
    return 2 * shape->width * attention_padded(n) + 5 * n * wide + 2 * n * attention_padded(n) + 2 * n;
}

/* The working space of one head, cut up. */
typedef struct backward_space {
    float *keys_t, *values_t;                      /* [D, N] */
    float *queries, *keys, *values, *d_out, *room; /* [n, W] */
    float *p, *ds;                                 /* [n, N] probabilities and gradients of the scores */
    float *line;                                   /* [2n - 1] */
} backward_space;

static backward_space cut_space(float *space, size_t n, size_t N, size_t D, size_t W)
{
    backward_space s;
    s.keys_t = space;
    s.values_t = s.keys_t + D * N;
    s.queries = s.values_t + D * N;
    s.keys = s.queries + n * W;
    s.values = s.keys + n * W;
    s.d_out = s.values + n * W;
    s.room = s.d_out + n * W;
    s.p = s.room + n * W;
    s.ds = s.p + n * N;
    s.line = s.ds + n * N;
    return s;
}

/* What backward reads of one head, before any of it is overwritten. */
static void pack_head(const kernels *k, const attention_shape *shape, const float *queries, const float *d_out,
                      size_t n, const backward_space *s)
{
    const size_t H = shape->hidden, D = shape->width, stride = 3 * H;
    pack_columns(k, queries + H, stride, n, D, s->keys_t);
    pack_columns(k, queries + 2 * H, stride, n, D, s->values_t);
    pack_rows(queries, stride, n, D, s->queries);
    pack_rows(queries + H, stride, n, D, s->keys);
    pack_rows(queries + 2 * H, stride, n, D, s->values);
    pack_rows(d_out, H, n, D, s->d_out);
}

void attention_backward(const kernels *k, const attention_shape *shape, const float *qkv, float *context, size_t n,
                        const dropout_site *drop, size_t first, float *d_qkv, float *d_bias, float *space)
{
    const size_t H = shape->hidden, A = shape->heads, D = shape->width, stride = 3 * H;
    const size_t N = attention_padded(n), W = attention_padded(D);
    const backward_space s = cut_space(space, n, N, D, W);

    for (size_t head = 0; head < A; head++) {
        float *d_queries = d_qkv + head * D, *out = context + head * D;
        pack_head(k, shape, qkv + head * D, out, n, &s);
        k->multiply(n, N, D, s.queries, W, 1, s.keys_t, N, s.p, N, 0);
        k->multiply(n, N, D, s.d_out, W, 1, s.values_t, N, s.ds, N, 0);
        attention_bias_line(shape, head, n, s.line);
        attention_adjust(k, shape, s.line, n, 0, n, s.p, N);
        attention_scores_backward(k, shape, s.p, s.ds, n, drop, first * A + head);
        if (shape->bias != NULL && d_bias != NULL)
            attention_bias_backward(k, shape, head, n, s.ds, s.line, d_bias);

        multiply_rows(k, n, n, s.ds, N, 1, s.keys, D, d_queries, stride, s.room);
        multiply_rows(k, n, n, s.ds, 1, N, s.queries, D, d_queries + H, stride, s.room);
        multiply_rows(k, n, n, s.p, 1, N, s.d_out, D, d_queries + 2 * H, stride, s.room);
        multiply_rows(k, n, n, s.p, N, 1, s.values, D, out, H, s.room);
    }
}
