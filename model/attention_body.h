/* What attention's kernels have in common, written once in vectors of LANES floats.
 * Before this is included, a level says
 *
 *   ROWS   of a tile: its registers hold twice as many sums and three vectors more,
 *   GROUP  values in 32 bits,
 *   step, load_step, load_group, add_product
 *          one step of a panel, 32 bits of a row in every lane, and their product,
 *   sum_from, put_weights
 *          with what the sums of a row's products begin, and how two vectors of them
 *          are turned into weights and stored: one of the two adds the base. */

#include "model/tile_rows.h"

/* A function of any number of rows from one of a constant number. */
#define BY_FEW_ROWS(FUNCTION, ...)                                                                                     \
    case 1: FUNCTION(1, __VA_ARGS__); break;                                                                           \
    case 2: FUNCTION(2, __VA_ARGS__); break;                                                                           \
    case 3: FUNCTION(3, __VA_ARGS__); break;                                                                           \
    case 4: FUNCTION(4, __VA_ARGS__); break;                                                                           \
    case 5:                                                                                                            \
        FUNCTION(5, __VA_ARGS__);                                                                                      \
        break;
#if ROWS == 12
#define BY_MORE_ROWS(FUNCTION, ...)                                                                                    \
    case 6: FUNCTION(6, __VA_ARGS__); break;                                                                           \
    case 7: FUNCTION(7, __VA_ARGS__); break;                                                                           \
    case 8: FUNCTION(8, __VA_ARGS__); break;                                                                           \
    case 9: FUNCTION(9, __VA_ARGS__); break;                                                                           \
    case 10: FUNCTION(10, __VA_ARGS__); break;                                                                         \
    case 11:                                                                                                           \
        FUNCTION(11, __VA_ARGS__);                                                                                     \
        break;
#else
#define BY_MORE_ROWS(FUNCTION, ...)
#endif
#define BY_ROWS(rows, FUNCTION, ...)                                                                                   \
    switch (rows) {                                                                                                    \
        BY_FEW_ROWS(FUNCTION, __VA_ARGS__)                                                                             \
        BY_MORE_ROWS(FUNCTION, __VA_ARGS__)                                                                            \
    default: FUNCTION(ROWS, __VA_ARGS__); break;                                                                       \
    }

enum { STEP_BYTES = LANES * 4 };

#define ADD_PRODUCTS(r, at)                                                                                            \
    if (rows > (r)) {                                                                                                  \
        const step left = load_group(at);                                                                              \
        add_product(&sum_a##r, left, first);                                                                           \
        if (pair)                                                                                                      \
            add_product(&sum_b##r, left, second);                                                                      \
    }

/* Adds to the sums the products of the rows from `rows_at` on and the steps of one
 * panel, or of two that lie panel_stride apart. */
#define MULTIPLY(rows_at, row_stride, steps, panel, panel_stride)                                                      \
    {                                                                                                                  \
        const size_t stride = (row_stride);                                                                            \
        const char *a = (rows_at), *b = a + 5 * stride, *c = a + 10 * stride, *right = (panel);                        \
        for (size_t p = 0; p < (steps); p++, right += STEP_BYTES, a += 4, b += 4, c += 4) {                            \
            const step first = load_step(right), second = pair ? load_step(right + (panel_stride)) : first;            \
            EACH_ROW(ADD_PRODUCTS)                                                                                     \
        }                                                                                                              \
        (void)b;                                                                                                       \
        (void)c;                                                                                                       \
    }

/* --- products with keys */

#define BEGIN_BASE(r, at) vec sum_a##r = sum_from(t->base[r]), sum_b##r = sum_a##r;
#define ADD_LINE(r, at)                                                                                                \
    if (rows > (r)) {                                                                                                  \
        sum_a##r += vec_load(line - (r));                                                                              \
        if (pair)                                                                                                      \
            sum_b##r += vec_load(line - (r) + LANES);                                                                  \
    }
#define PUT_WEIGHTS(r, at)                                                                                             \
    if (rows > (r))                                                                                                    \
        put_weights(t->weights + (r)*ATTENTION_STRIDE + panel * (STEP_BYTES / GROUP), pair, sum_a##r, sum_b##r,        \
                    t->base[r], edge, from + (r), end + (r) < count ? end + (r) : count);
#define PUT_LARGEST(r, at)                                                                                             \
    if (rows > (r))                                                                                                    \
        top[r] = largest_of(top[r], pair, sum_a##r, sum_b##r, from + (r), end + (r) < count ? end + (r) : count);

INLINE float largest_of(float top, bool pair, vec a, vec b, ptrdiff_t from, ptrdiff_t to)
{
    const vec least = vec_splat(-INFINITY);
    vec v = vec_between(a, least, from, to);
    if (pair)
        v = vec_max(v, vec_between(b, least, from - LANES, to - LANES));
    float found = vec_largest(v);
    return found > top ? found : top;
}

/* What a tile does with panel number `panel` and the one behind it: weights, or where
 * top is not NULL each row's largest product. */
INLINE void weigh_panels(const size_t rows, const bool pair, const attention_tile *t, size_t panel, float *top)
{
    const size_t panel_bytes = t->steps * STEP_BYTES;
    const ptrdiff_t key = (ptrdiff_t)(panel * LANES);
    const ptrdiff_t from = t->first - key, end = t->end - key, count = t->count - key;
    const ptrdiff_t lanes = pair ? 2 * LANES : LANES;
    const bool edge = from + (ptrdiff_t)rows > 1 || end < lanes || count < lanes;
    EACH_ROW(BEGIN_BASE)
    if (t->line != NULL) {
        const float *line = t->line + key;
        EACH_ROW(ADD_LINE)
    }
    MULTIPLY(t->queries, t->query_stride, t->steps, t->keys + panel * panel_bytes, panel_bytes)
    if (top == NULL) {
        EACH_ROW(PUT_WEIGHTS)
    } else {
        EACH_ROW(PUT_LARGEST)
    }
}

INLINE void weigh_rows(const size_t rows, const attention_tile *t, float *top)
{
    size_t panel = 0;
    for (; panel + 2 <= t->panels; panel += 2)
        weigh_panels(rows, true, t, panel, top);
    if (panel < t->panels)
        weigh_panels(rows, false, t, panel, top);
}

KERNEL void weigh(const attention_tile *t){BY_ROWS(t->rows, weigh_rows, t, NULL)}

/* Seldom needed, so it has fewer sizes to be compiled for. */
KERNEL void largest(const attention_tile *tile, float *top)
{
    attention_tile t = *tile;
    while (t.rows > 0) {
        size_t rows = t.rows < 4 ? 1 : 4;
        if (rows == 4)
            weigh_rows(4, &t, top);
        else
            weigh_rows(1, &t, top);
        memmove(t.base, t.base + rows, sizeof t.base - rows * sizeof *t.base);
        t.queries += rows * t.query_stride;
        t.line -= t.line != NULL ? rows : 0;
        t.first += (ptrdiff_t)rows;
        t.end += (ptrdiff_t)rows;
        t.rows -= rows;
        top += rows;
    }
}

/* --- products with values */

#define BEGIN_ZERO(r, at) vec sum_a##r = {0}, sum_b##r = {0};
#define ADD_BEFORE(r, at)                                                                                              \
    if (rows > (r)) {                                                                                                  \
        sum_a##r = vec_load(before + (r)*o->before_stride);                                                            \
        if (pair)                                                                                                      \
            sum_b##r = vec_load(before + (r)*o->before_stride + LANES);                                                \
    }
#define SCALE(r, at)                                                                                                   \
    if (rows > (r)) {                                                                                                  \
        const vec factor = vec_splat(o->factor[r]);                                                                    \
        sum_a##r *= factor;                                                                                            \
        sum_b##r *= factor;                                                                                            \
    }
#define PUT_OUT(r, at)                                                                                                 \
    if (rows > (r)) {                                                                                                  \
        vec_store(out + (r)*o->out_stride, sum_a##r);                                                                  \
        if (pair)                                                                                                      \
            vec_store(out + (r)*o->out_stride + LANES, sum_b##r);                                                      \
    }

INLINE void multiply_columns(const size_t rows, const bool pair, const attention_output *o, size_t column)
{
    EACH_ROW(BEGIN_ZERO)
    if (o->before != NULL) {
        const float *before = o->before + column;
        EACH_ROW(ADD_BEFORE)
    }
    MULTIPLY(o->weights, ATTENTION_STRIDE, o->steps, o->values + column / LANES * o->panel_stride, o->panel_stride)
    if (o->factor != NULL) {
        EACH_ROW(SCALE)
    }
    float *out = o->out + column;
    EACH_ROW(PUT_OUT)
}

INLINE void multiply_rows(const size_t rows, const attention_output *o)
{
    size_t column = 0;
    for (; column + LANES < o->width; column += 2 * LANES)
        multiply_columns(rows, true, o, column);
    if (column < o->width)
        multiply_columns(rows, false, o, column);
}

KERNEL void multiply(const attention_output *o)
{
    BY_ROWS(o->rows, multiply_rows, o)
}
