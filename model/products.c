#include "model/products.h"

#include "model/packed_levels.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Behind a row of groups stands a line, so that the rows of a tile do not share a cache set. */
enum { GROUP_BYTES = 4, LINE_BYTES = 64 };

/* Outputs whose gathered gradients stay in the second-level cache while all panels of inputs pass by. */
enum { OUTPUTS_AT_ONCE = PACKED_TILE_ROWS_MAX };

/* Columns that are turned at a time, so that pairs of them stay in the first-level cache. */
enum { TURNED_AT_ONCE = 64 };

struct products {
    packed_kernels kernels;
    packed_precision precision;
};

/* Rows as the kernels read them. */
typedef struct rows {
    const char *first;
    size_t count, stride; /* bytes from one to the next */
} rows;

static const float zeros[PACKED_COLUMNS];

sem_status products_create_at(products **out, packed_precision precision, const char *level, sem_error *err)
{
    *out = NULL;
    if (precision != PACKED_FLOAT32 && precision != PACKED_BFLOAT16)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "training in %s: float32 and bfloat16 are possible",
                        packed_precision_name(precision));
    products *p = calloc(1, sizeof *p);
    if (p == NULL)
        return sem_fail_memory(err, "matrix products");
    p->kernels = packed_choose(level);
    p->precision = precision;
    *out = p;
    return SEM_OK;
}

sem_status products_create(products **out, packed_precision precision, sem_error *err)
{
    const kernels *level = NULL;
    *out = NULL;
    sem_status status = kernels_choose(&level, err);
    return status == SEM_OK ? products_create_at(out, precision, level->name, err) : status;
}

sem_status products_quickest(packed_precision *out, sem_error *err)
{
    const kernels *level = NULL;
    sem_status status = kernels_choose(&level, err);
    if (status != SEM_OK)
        return status;
    const packed_kernels k = packed_choose(level->name);
    *out = packed_is_fast(&k, PACKED_BFLOAT16) ? PACKED_BFLOAT16 : PACKED_FLOAT32;
    return SEM_OK;
}

void products_destroy(products *p)
{
    free(p);
}

packed_precision products_precision(const products *p)
{
    return p->precision;
}

bool products_are_fast(const products *p)
{
    return p->kernels.vectors != packed_generic.vectors;
}

bool products_beat_float32(const products *p)
{
    return packed_is_fast(&p->kernels, p->precision);
}

/* --- sizes */

/* Values of k that share a group. */
static size_t group_values(const products *p)
{
    return p->precision == PACKED_BFLOAT16 ? 2 : 1;
}

static size_t steps_of(const products *p, size_t k)
{
    return (k + group_values(p) - 1) / group_values(p);
}

static size_t panel_columns(const products *p)
{
    return p->kernels.columns[p->precision];
}

static size_t panel_bytes(const products *p, size_t k)
{
    return steps_of(p, k) * panel_columns(p) * GROUP_BYTES;
}

static size_t panels_of(const products *p, size_t n)
{
    return (n + panel_columns(p) - 1) / panel_columns(p);
}

static bool reads_floats(const products *p)
{
    return p->kernels.reads_floats[p->precision];
}

/* Bytes from one row of k values to the next where the product has its own copy. */
static size_t row_stride(const products *p, size_t k)
{
    const size_t values = steps_of(p, k) * group_values(p) * (reads_floats(p) ? sizeof(float) : sizeof(uint16_t));
    return (values + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES + LINE_BYTES;
}

static size_t lines(size_t bytes)
{
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

/* Bytes of what turn_columns makes first where values are pairs. */
static size_t pairs_bytes(const products *p, size_t k)
{
    return reads_floats(p) ? 0 : steps_of(p, k) * TURNED_AT_ONCE * GROUP_BYTES;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Rows that pass over all panels together. Where products are quick the panels come too slowly for fewer. */
static size_t rows_at_once(const products *p)
{
    return reads_floats(p) ? PACKED_BLOCK_ROWS : PRODUCT_TOKENS;
}

/* --- packing */

/* A panel of columns that are rows of w, `stride` apart: columns [first, first + count) of W^T, k values
 * each. Where values are pairs they are made in space first. */
static void pack_rows(const products *p, const float *w, size_t stride, size_t k, size_t count, char *panel,
                      char *space)
{
    const kernels *v = p->kernels.vectors;
    uint32_t *to = (uint32_t *)(void *)panel;
    if (p->precision == PACKED_FLOAT32) {
        v->transpose((const uint32_t *)(const void *)w, stride, count, k, to, panel_columns(p));
        return;
    }
    const size_t steps = steps_of(p, k);
    uint32_t *pairs = (uint32_t *)(void *)space;
    for (size_t j = 0; j < count; j++) {
        pairs[(j + 1) * steps - 1] = 0;
        p->kernels.to_bfloat16(w + j * stride, k, (uint16_t *)(void *)(pairs + j * steps));
    }
    v->transpose(pairs, steps, count, steps, to, panel_columns(p));
}

/* A panel of columns [0, count) of w, whose rows are `stride` apart. */
static void pack_columns(const products *p, const float *w, size_t stride, size_t k, size_t count, char *panel)
{
    const size_t step = panel_columns(p);
    uint32_t *to = (uint32_t *)(void *)panel;
    if (p->precision == PACKED_FLOAT32) {
        for (size_t i = 0; i < k; i++)
            memcpy(to + i * step, w + i * stride, count * sizeof *w);
        return;
    }
    for (size_t i = 0; i < k; i += 2)
        p->kernels.vectors->pair_rows(w + i * stride, i + 1 < k ? w + (i + 1) * stride : NULL, count,
                                      to + i / 2 * step);
}

size_t product_weights_bytes(const products *p, size_t outputs, size_t inputs)
{
    return lines(panels_of(p, outputs) * panel_bytes(p, inputs)) +
           lines(panels_of(p, inputs) * panel_bytes(p, outputs));
}

void product_weights_create(product_weights *w, const products *p, size_t outputs, size_t inputs, char *memory)
{
    *w = (product_weights){outputs, inputs, memory, memory + lines(panels_of(p, outputs) * panel_bytes(p, inputs))};
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

void product_weights_pack(const product_weights *w, const products *p, const float *weight, size_t part, size_t parts,
                          void *space)
{
    const size_t O = w->outputs, I = w->inputs, columns = panel_columns(p);
    for (size_t i = part; i < panels_of(p, O); i += parts)
        pack_rows(p, weight + i * columns * I, I, I, smaller(O - i * columns, columns),
                  w->forward + i * panel_bytes(p, I), space);
    for (size_t i = part; i < panels_of(p, I); i += parts)
        pack_columns(p, weight + i * columns, I, O, smaller(I - i * columns, columns), w->back + i * panel_bytes(p, O));
}

size_t products_space(const products *p, size_t inputs, size_t outputs)
{
    const size_t widest = larger(inputs, outputs);
    const size_t block = rows_at_once(p) * row_stride(p, widest); /* also of what pack_rows needs */
    return larger(lines(block), pairs_bytes(p, PRODUCT_TOKENS));
}

/* --- products */

/* With all rows of a, in tiles of nearly equal height: out->y, stride, columns, bias and begun
 * say where to; more steps than a level takes at a time are added up there. */
static void multiply_panel(const products *p, const rows *a, size_t steps, const char *panel, packed_tile_out out)
{
    const packed_kernels *k = &p->kernels;
    const packed_precision precision = p->precision;
    const bool few = a->count < k->few_below[precision];
    packed_tile *tile = few ? k->few[precision] : k->tile[precision];
    const size_t most = few ? k->few_rows[precision] : k->tile_rows[precision];
    const size_t at_once = k->steps_most[precision] != 0 ? k->steps_most[precision] : steps;
    const size_t group = reads_floats(p) ? group_values(p) * sizeof(float) : GROUP_BYTES;
    const size_t tiles = (a->count + most - 1) / most, step_bytes = panel_columns(p) * GROUP_BYTES;
    float *const y = out.y;
    for (size_t from = 0; from < steps; from += at_once) {
        const size_t some = smaller(steps - from, at_once);
        const char *weights = panel + from * step_bytes;
        out.unfinished = from + some < steps;
        for (size_t t = 0, r = 0; t < tiles; t++) {
            const size_t height = (a->count - r + tiles - t - 1) / (tiles - t);
            out.y = y + r * out.stride;
            out.fetch = weights + some * step_bytes * (tiles + t) / tiles;
            out.fetch_step = (step_bytes + tiles - 1) / tiles;
            tile(height, some, a->first + r * a->stride + from * group, a->stride, weights, &out);
            r += height;
        }
        out.begun = true;
    }
}

/* `count` rows of k values of x, `apart` from each other, as the kernels read them: as they are, or
 * copied to space. */
static rows read_rows(const products *p, size_t count, size_t k, const float *x, size_t apart, char *space)
{
    if (reads_floats(p) && k % group_values(p) == 0)
        return (rows){(const char *)x, count, apart * sizeof *x};
    const size_t stride = row_stride(p, k);
    for (size_t r = 0; r < count; r++) {
        char *row = space + r * stride;
        memset(row + stride - 2 * LINE_BYTES, 0, 2 * LINE_BYTES);
        if (reads_floats(p))
            memcpy(row, x + r * apart, k * sizeof *x);
        else
            p->kernels.to_bfloat16(x + r * apart, k, (uint16_t *)(void *)row);
    }
    return (rows){space, count, stride};
}

/* y[T, n] = x[T, k] panels + bias, or y += where add. */
static void multiply(const products *p, size_t tokens, size_t k, size_t n, const float *x, const char *panels,
                     const float *bias, bool add, float *y, char *space)
{
    const size_t columns = panel_columns(p), whole = n / columns * columns, at_once = rows_at_once(p);
    float last[PACKED_COLUMNS] = {0}; /* biases of a panel that is not full */
    if (bias != NULL)
        memcpy(last, bias + whole, (n - whole) * sizeof *last);
    for (size_t t = 0; t < tokens; t += at_once) {
        const rows a = read_rows(p, smaller(tokens - t, at_once), k, x + t * k, k, space);
        for (size_t j = 0; j < n; j += columns) {
            const packed_tile_out out = {.y = y + t * n + j,
                                         .stride = n,
                                         .columns = smaller(n - j, columns),
                                         .begun = add,
                                         .bias = bias == NULL ? zeros
                                                 : j < whole  ? bias + j
                                                              : last};
            multiply_panel(p, &a, steps_of(p, k), panels + j / columns * panel_bytes(p, k), out);
        }
    }
}

void products_forward(const products *p, const product_weights *w, size_t tokens, const float *x, const float *bias,
                      float *y, void *space)
{
    multiply(p, tokens, w->inputs, w->outputs, x, w->forward, bias, false, y, space);
}

void products_backward_input(const products *p, const product_weights *w, size_t tokens, const float *dy, bool add,
                             float *dx, void *space)
{
    multiply(p, tokens, w->outputs, w->inputs, dy, w->back, NULL, add, dx, space);
}

/* The m columns of a, whose k rows are `apart` from each other, as rows `stride` bytes apart. Where values
 * are pairs these are made in space first. */
static void turn_columns(const products *p, size_t m, size_t k, const float *a, size_t apart, char *to, size_t stride,
                         char *space)
{
    const kernels *v = p->kernels.vectors;
    const size_t values = steps_of(p, k) * group_values(p);
    if (reads_floats(p)) {
        v->transpose((const uint32_t *)(const void *)a, apart, k, m, (uint32_t *)(void *)to, stride / GROUP_BYTES);
        for (size_t j = 0; values > k && j < m; j++)
            memset(to + j * stride + k * sizeof *a, 0, sizeof *a);
        return;
    }
    uint32_t *pairs = (uint32_t *)(void *)space;
    for (size_t j = 0; j < m; j += TURNED_AT_ONCE) {
        const size_t some = smaller(m - j, TURNED_AT_ONCE);
        for (size_t i = 0; i < k; i += 2)
            v->pair_rows(a + i * apart + j, i + 1 < k ? a + (i + 1) * apart + j : NULL, some,
                         pairs + i / 2 * TURNED_AT_ONCE);
        v->transpose(pairs, TURNED_AT_ONCE, steps_of(p, k), some, (uint32_t *)(void *)(to + j * stride),
                     stride / GROUP_BYTES);
    }
}

/* --- gradients of weights */

/* Tokens that are gathered. Floats are multiplied so slowly that reading the gradient costs little. */
static size_t gathered_tokens(const products *p)
{
    return reads_floats(p) ? PRODUCT_TOKENS : 2 * PRODUCT_TOKENS;
}

/* Bytes from a gathered output's row, or panel, to the next. */
static size_t gathered_row(const products *p)
{
    return row_stride(p, gathered_tokens(p));
}

static size_t gathered_panel(const products *p)
{
    return panel_bytes(p, gathered_tokens(p));
}

size_t product_gradient_bytes(const products *p, size_t inputs, size_t outputs)
{
    return lines(outputs * gathered_row(p)) + panels_of(p, inputs) * gathered_panel(p);
}

void product_gradient_create(product_gradient *g, const products *p, size_t inputs, size_t outputs, char *memory)
{
    *g = (product_gradient){.inputs = inputs,
                            .outputs = outputs,
                            .most = gathered_tokens(p),
                            .left = memory,
                            .right = memory + lines(outputs * gathered_row(p))};
}

void product_gradient_add(product_gradient *g, const products *p, size_t tokens, const float *x, const float *dy,
                          float *d_weight, float *d_bias, void *space)
{
    const size_t I = g->inputs, O = g->outputs, columns = panel_columns(p), before = steps_of(p, g->tokens);
    const size_t value = reads_floats(p) ? sizeof(float) : sizeof(uint16_t);
    turn_columns(p, O, tokens, dy, O, g->left + g->tokens * value, gathered_row(p), space);
    for (size_t i = 0; i < tokens; i++)
        p->kernels.vectors->axpy(1, dy + i * O, d_bias, O);
    for (size_t j = 0; j < I; j += columns)
        pack_columns(p, x + j, I, tokens, smaller(I - j, columns),
                     g->right + j / columns * gathered_panel(p) + before * columns * GROUP_BYTES);
    g->tokens += tokens;
    if (g->tokens + PRODUCT_TOKENS > g->most)
        product_gradient_finish(g, p, d_weight);
}

void product_gradient_finish(product_gradient *g, const products *p, float *d_weight)
{
    const size_t I = g->inputs, columns = panel_columns(p), stride = gathered_row(p);
    for (size_t o = 0; o < g->outputs && g->tokens > 0; o += OUTPUTS_AT_ONCE) {
        const rows a = {g->left + o * stride, smaller(g->outputs - o, OUTPUTS_AT_ONCE), stride};
        for (size_t j = 0; j < I; j += columns) {
            const packed_tile_out out = {.y = d_weight + o * I + j,
                                         .stride = I,
                                         .columns = smaller(I - j, columns),
                                         .begun = true,
                                         .bias = zeros};
            multiply_panel(p, &a, steps_of(p, g->tokens), g->right + j / columns * gathered_panel(p), out);
        }
    }
    g->tokens = 0;
}

/* --- of two factors that are both new */

size_t product_rows_bytes(const products *p, size_t m, size_t k)
{
    return lines(m * row_stride(p, k)) + pairs_bytes(p, k);
}

product_factor product_rows_of(const products *p, const float *a, size_t apart, size_t m, size_t k, char *memory)
{
    const rows r = read_rows(p, m, k, a, apart, memory);
    return (product_factor){r.first, m, k, r.stride};
}

product_factor product_rows_of_columns(const products *p, const float *a, size_t apart, size_t m, size_t k,
                                       char *memory)
{
    const size_t stride = row_stride(p, k);
    turn_columns(p, m, k, a, apart, memory, stride, memory + lines(m * stride));
    return (product_factor){memory, m, k, stride};
}

size_t product_panels_bytes(const products *p, size_t k, size_t n)
{
    return lines((panels_of(p, n) + 1) * panel_bytes(p, k)); /* one more for what pack_rows needs */
}

product_factor product_panels_of(const products *p, const float *b, size_t apart, size_t k, size_t n, char *memory)
{
    const size_t columns = panel_columns(p);
    for (size_t j = 0; j < n; j += columns)
        pack_columns(p, b + j, apart, k, smaller(n - j, columns), memory + j / columns * panel_bytes(p, k));
    return (product_factor){memory, n, k, panel_bytes(p, k)};
}

product_factor product_panels_of_rows(const products *p, const float *b, size_t apart, size_t k, size_t n, char *memory)
{
    const size_t columns = panel_columns(p);
    char *space = memory + panels_of(p, n) * panel_bytes(p, k);
    for (size_t j = 0; j < n; j += columns)
        pack_rows(p, b + j * apart, apart, k, smaller(n - j, columns), memory + j / columns * panel_bytes(p, k), space);
    return (product_factor){memory, n, k, panel_bytes(p, k)};
}

void products_multiply(const products *p, const product_factor *left, const product_factor *right, float *y,
                       size_t apart)
{
    const size_t columns = panel_columns(p), steps = steps_of(p, left->depth);
    const rows a = {left->memory, left->count, left->stride};
    for (size_t j = 0; j < right->count; j += columns) {
        const packed_tile_out out = {
            .y = y + j, .stride = apart, .columns = smaller(right->count - j, columns), .bias = zeros};
        multiply_panel(p, &a, steps, right->memory + j / columns * right->stride, out);
    }
}
