#include "model/attention_products.h"

#include "model/attention_scores.h"

#include <math.h>
#include <stdint.h>

/* Queries whose scores are in the cache at a time on the way forward. */
enum { QUERY_BLOCK = PACKED_BLOCK_ROWS };

enum { LINE_BYTES = 64 };

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- space */

/* Bytes at the front of *area, which begins at a line; only counts where that is NULL. */
typedef struct cutter {
    char *area;
    size_t bytes;
} cutter;

static void *cut(cutter *c, size_t bytes)
{
    char *part = c->area != NULL ? c->area + c->bytes : NULL;
    c->bytes += (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    return part;
}

static cutter cutter_of(void *space)
{
    const size_t over = (uintptr_t)space % LINE_BYTES;
    return (cutter){.area = (char *)space + (over > 0 ? LINE_BYTES - over : 0)};
}

/* What is worked with of one head, by what it is a factor of. */
typedef struct forward_space {
    char *queries, *keys, *values, *weights;
    float *scores; /* [QUERY_BLOCK, N] */
    float *line;   /* [2n - 1] */
} forward_space;

static forward_space cut_forward(cutter *c, const products *p, const attention_shape *shape, size_t n)
{
    const size_t D = shape->width, rows = smaller(n, QUERY_BLOCK);
    return (forward_space){.queries = cut(c, product_rows_bytes(p, rows, D)),
                           .keys = cut(c, product_panels_bytes(p, D, n)),
                           .values = cut(c, product_panels_bytes(p, n, D)),
                           .weights = cut(c, product_rows_bytes(p, rows, n)),
                           .scores = cut(c, rows * attention_padded(n) * sizeof(float)),
                           .line = cut(c, 2 * n * sizeof(float))};
}

/* Of the two gradients that sum over queries the transposes are computed, so that what is [n, n] is a
 * right factor as it lies there. */
typedef struct backward_space {
    char *queries, *d_out, *queries_t, *d_out_t; /* left: [n, D] and [D, n] */
    char *keys_t, *values_t, *keys, *values;     /* right: [D, n] and [n, D] */
    char *rows, *panels;                         /* [n, n], probabilities and then gradients of scores */
    float *p, *ds;                               /* [n, N] */
    float *turned;                               /* [D, N] */
    float *line;                                 /* [2n - 1] */
} backward_space;

static backward_space cut_backward(cutter *c, const products *p, const attention_shape *shape, size_t n)
{
    const size_t D = shape->width, N = attention_padded(n);
    return (backward_space){.queries = cut(c, product_rows_bytes(p, n, D)),
                            .d_out = cut(c, product_rows_bytes(p, n, D)),
                            .queries_t = cut(c, product_rows_bytes(p, D, n)),
                            .d_out_t = cut(c, product_rows_bytes(p, D, n)),
                            .keys_t = cut(c, product_panels_bytes(p, D, n)),
                            .values_t = cut(c, product_panels_bytes(p, D, n)),
                            .keys = cut(c, product_panels_bytes(p, n, D)),
                            .values = cut(c, product_panels_bytes(p, n, D)),
                            .rows = cut(c, product_rows_bytes(p, n, n)),
                            .panels = cut(c, product_panels_bytes(p, n, n)),
                            .p = cut(c, n * N * sizeof(float)),
                            .ds = cut(c, n * N * sizeof(float)),
                            .turned = cut(c, D * N * sizeof(float)),
                            .line = cut(c, 2 * n * sizeof(float))};
}

size_t attention_products_space(const products *p, const attention_shape *shape, size_t n)
{
    cutter forward = {0}, backward = {0};
    cut_forward(&forward, p, shape, n);
    cut_backward(&backward, p, shape, n);
    return LINE_BYTES + (forward.bytes > backward.bytes ? forward.bytes : backward.bytes);
}

/* --- forward */

void attention_products_forward(const products *p, const kernels *k, const attention_shape *shape, const float *qkv,
                                size_t n, const dropout_site *drop, size_t first, float *context, void *space)
{
    const size_t H = shape->hidden, A = shape->heads, D = shape->width, stride = 3 * H, N = attention_padded(n);
    const float scale = 1.0f / sqrtf((float)D);
    cutter c = cutter_of(space);
    const forward_space s = cut_forward(&c, p, shape, n);
    for (size_t head = 0; head < A; head++) {
        const float *queries = qkv + head * D;
        const product_factor keys = product_panels_of_rows(p, queries + H, stride, D, n, s.keys);
        const product_factor values = product_panels_of(p, queries + 2 * H, stride, n, D, s.values);
        attention_bias_line(shape, head, n, s.line);
        for (size_t i = 0; i < n; i += QUERY_BLOCK) {
            const size_t rows = smaller(n - i, QUERY_BLOCK);
            float inverse[QUERY_BLOCK], *to = context + i * H + head * D;
            kernel_mask mask;
            const product_factor left = product_rows_of(p, queries + i * stride, stride, rows, D, s.queries);
            products_multiply(p, &left, &keys, s.scores, N);
            attention_adjust(k, shape, s.line, n, i, rows, s.scores, N);
            for (size_t r = 0; r < rows; r++)
                inverse[r] = 1.0f / k->softmax(s.scores + r * N, n, N, scale,
                                               dropout_mask(drop, (first + i + r) * A + head, &mask));
            const product_factor weights = product_rows_of(p, s.scores, N, rows, n, s.weights);
            products_multiply(p, &weights, &values, to, H);
            for (size_t r = 0; r < rows; r++)
                k->scale(inverse[r], to + r * H, D);
        }
    }
}

/* --- backward */

/* The factors of one head, before any of it is overwritten. */
typedef struct head_factors {
    product_factor queries, d_out, queries_t, d_out_t, keys_t, values_t, keys, values;
} head_factors;

static head_factors pack_head(const products *p, const attention_shape *shape, const float *queries, const float *d_out,
                              size_t n, const backward_space *s)
{
    const size_t H = shape->hidden, D = shape->width, stride = 3 * H;
    const float *keys = queries + H, *values = queries + 2 * H;
    return (head_factors){.queries = product_rows_of(p, queries, stride, n, D, s->queries),
                          .d_out = product_rows_of(p, d_out, H, n, D, s->d_out),
                          .queries_t = product_rows_of_columns(p, queries, stride, D, n, s->queries_t),
                          .d_out_t = product_rows_of_columns(p, d_out, H, D, n, s->d_out_t),
                          .keys_t = product_panels_of_rows(p, keys, stride, D, n, s->keys_t),
                          .values_t = product_panels_of_rows(p, values, stride, D, n, s->values_t),
                          .keys = product_panels_of(p, keys, stride, n, D, s->keys),
                          .values = product_panels_of(p, values, stride, n, D, s->values)};
}

/* What sums over keys of x[n, n] right, to y[n, D], and what sums over queries of left x, whose transpose goes to
 * y_t[n, D]. */
static void both_sides(const products *p, const kernels *k, const float *x, size_t n, const product_factor *right,
                       float *y, size_t apart, const product_factor *left, float *y_t, size_t apart_t,
                       const backward_space *s)
{
    const size_t N = attention_padded(n), D = left->count;
    const product_factor rows = product_rows_of(p, x, N, n, n, s->rows);
    const product_factor panels = product_panels_of(p, x, N, n, n, s->panels);
    products_multiply(p, &rows, right, y, apart);
    products_multiply(p, left, &panels, s->turned, N);
    k->transpose((const uint32_t *)(const void *)s->turned, N, D, n, (uint32_t *)(void *)y_t, apart_t);
}

void attention_products_backward(const products *p, const kernels *k, const attention_shape *shape, const float *qkv,
                                 float *context, size_t n, const dropout_site *drop, size_t first, float *d_qkv,
                                 float *d_bias, void *space)
{
    const size_t H = shape->hidden, A = shape->heads, D = shape->width, stride = 3 * H, N = attention_padded(n);
    cutter c = cutter_of(space);
    const backward_space s = cut_backward(&c, p, shape, n);
    for (size_t head = 0; head < A; head++) {
        float *d_queries = d_qkv + head * D, *out = context + head * D;
        const head_factors f = pack_head(p, shape, qkv + head * D, out, n, &s);
        products_multiply(p, &f.queries, &f.keys_t, s.p, N);
        products_multiply(p, &f.d_out, &f.values_t, s.ds, N);
        attention_bias_line(shape, head, n, s.line);
        attention_adjust(k, shape, s.line, n, 0, n, s.p, N);
        attention_scores_backward(k, shape, s.p, s.ds, n, drop, first * A + head);
        if (shape->bias != NULL && d_bias != NULL)
            attention_bias_backward(k, shape, head, n, s.ds, s.line, d_bias);
        both_sides(p, k, s.ds, n, &f.keys, d_queries, stride, &f.queries_t, d_queries + H, stride, &s);
        both_sides(p, k, s.p, n, &f.values, out, H, &f.d_out_t, d_queries + 2 * H, stride, &s);
    }
}
