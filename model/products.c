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

/* Of factors in parts: values of k whose rows stay in the second-level cache while all panels pass by, a multiple of
 * PACKED_SPLIT, and steps of a panel that stay in the first-level one while all rows do. */
enum { SPLIT_DEPTH = 768, SPLIT_STEPS_AT_ONCE = 4 * PACKED_SPLIT_STEPS };

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

/* Whether factors are float32 in parts that are bfloat16. */
static bool is_split(const products *p)
{
    return p->precision == PACKED_FLOAT32 && p->kernels.split_tile != NULL;
}

/* Values of k that share a group. */
static size_t group_values(const products *p)
{
    return p->precision == PACKED_BFLOAT16 ? 2 : 1;
}

static size_t steps_of(const products *p, size_t k)
{
    if (is_split(p))
        return (k + PACKED_SPLIT - 1) / PACKED_SPLIT * PACKED_SPLIT_STEPS;
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
    return !is_split(p) && p->kernels.reads_floats[p->precision];
}

/* Bytes of a row that a step reads. */
static size_t step_of_row(const products *p)
{
    return reads_floats(p) ? group_values(p) * sizeof(float) : GROUP_BYTES;
}

/* Bytes from one row of k values to the next where the product has its own copy. */
static size_t row_stride(const products *p, size_t k)
{
    return (steps_of(p, k) * step_of_row(p) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES + LINE_BYTES;
}

static size_t lines(size_t bytes)
{
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

/* Bytes of what turn_columns makes first where values are pairs. */
static size_t pairs_bytes(const products *p, size_t k)
{
    return p->precision == PACKED_BFLOAT16 && !reads_floats(p) ? steps_of(p, k) * TURNED_AT_ONCE * GROUP_BYTES : 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
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

/* Values of k that a product takes at a time. */
static size_t depth_at_once(const products *p, size_t k)
{
    return is_split(p) ? SPLIT_DEPTH : k;
}

/* --- packing */

/* pack_rows of parts, turned block by block. */
static void split_rows(const products *p, const float *w, size_t stride, size_t k, size_t count, char *panel)
{
    _Alignas(LINE_BYTES) float turned[PACKED_SPLIT * PACKED_COLUMNS];
    for (size_t i = 0; i < k; i += PACKED_SPLIT, panel += PACKED_SPLIT_STEPS * PACKED_STEP) {
        const size_t some = smaller(k - i, PACKED_SPLIT);
        p->kernels.vectors->transpose((const uint32_t *)(const void *)(w + i), stride, count, some,
                                      (uint32_t *)(void *)turned, PACKED_COLUMNS);
        p->kernels.split_panel(turned, PACKED_COLUMNS, some, count, panel);
    }
}

/* A panel of columns that are rows of w, `stride` apart: columns [first, first + count) of W^T, k values
 * each. Where values are pairs they are made in space first. */
static void pack_rows(const products *p, const float *w, size_t stride, size_t k, size_t count, char *panel,
                      char *space)
{
    const kernels *v = p->kernels.vectors;
    uint32_t *to = (uint32_t *)(void *)panel;
    if (is_split(p)) {
        split_rows(p, w, stride, k, count, panel);
        return;
    }
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
    if (is_split(p)) {
        p->kernels.split_panel(w, stride, k, count, panel);
        return;
    }
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
    /* also of what pack_rows needs */
    const size_t block = rows_at_once(p) * row_stride(p, smaller(widest, depth_at_once(p, widest)));
    return larger(lines(block), pairs_bytes(p, PRODUCT_TOKENS));
}

/* --- products */

typedef struct tile_choice {
    packed_tile *tile;
    size_t rows, steps; /* that it takes at a time */
} tile_choice;

static tile_choice choose_tile(const products *p, size_t count, size_t steps)
{
    const packed_kernels *k = &p->kernels;
    const packed_precision precision = p->precision;
    if (is_split(p))
        return (tile_choice){k->split_tile, PACKED_TILE_ROWS_MAX, SPLIT_STEPS_AT_ONCE};
    if (k->steps_most[precision] != 0)
        steps = k->steps_most[precision];
    if (count < k->few_below[precision])
        return (tile_choice){k->few[precision], k->few_rows[precision], steps};
    return (tile_choice){k->tile[precision], k->tile_rows[precision], steps};
}

/* With all rows of a, in tiles of nearly equal height: out->y, stride, columns, bias and begun
 * say where to; more steps than a level takes at a time are added up there. */
static void multiply_panel(const products *p, const rows *a, size_t steps, const char *panel, packed_tile_out out)
{
    const tile_choice chosen = choose_tile(p, a->count, steps);
    const size_t most = chosen.rows, at_once = chosen.steps, group = step_of_row(p);
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
            chosen.tile(height, some, a->first + r * a->stride + from * group, a->stride, weights, &out);
            r += height;
        }
        out.begun = true;
        if (is_split(p))
            out.bias = zeros; /* it is in the sums */
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
        if (is_split(p)) {
            p->kernels.split_row(x + r * apart, k, row);
            continue;
        }
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
    const size_t depth = depth_at_once(p, k);
    float last[PACKED_COLUMNS] = {0}; /* biases of a panel that is not full */
    if (bias != NULL)
        memcpy(last, bias + whole, (n - whole) * sizeof *last);
    for (size_t t = 0; t < tokens; t += at_once) {
        const size_t count = smaller(tokens - t, at_once);
        for (size_t i = 0, some; i < k; i += some) {
            some = smaller(k - i, depth);
            const rows a = read_rows(p, count, some, x + t * k + i, k, space);
            for (size_t j = 0; j < n; j += columns) {
                const packed_tile_out out = {.y = y + t * n + j,
                                             .stride = n,
                                             .columns = smaller(n - j, columns),
                                             .begun = add || i > 0,
                                             .bias = bias == NULL || i > 0 ? zeros
                                                     : j < whole           ? bias + j
                                                                           : last};
                multiply_panel(p, &a, steps_of(p, some),
                               panels + j / columns * panel_bytes(p, k) + steps_of(p, i) * columns * GROUP_BYTES, out);
            }
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
    if (is_split(p)) {
        p->kernels.split_columns(a, apart, k, m, to, stride);
        return;
    }
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

/* Tokens that are gathered. Floats are multiplied so slowly that reading the gradient costs little, and in parts
 * factors take so much room that gathering them costs as much. */
static size_t gathered_tokens(const products *p)
{
    return reads_floats(p) || is_split(p) ? PRODUCT_TOKENS : 2 * PRODUCT_TOKENS;
}

/* In parts only the narrower factor is gathered as a whole: outputs, as rows, or inputs, as panels. Of the other one
 * there is as much as is multiplied at a time. */
static size_t gathered_outputs(const products *p, size_t inputs, size_t outputs)
{
    return is_split(p) && outputs > inputs ? smaller(outputs, OUTPUTS_AT_ONCE) : outputs;
}

static size_t gathered_panels(const products *p, size_t inputs, size_t outputs)
{
    return is_split(p) && outputs <= inputs ? 1 : panels_of(p, inputs);
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
    return lines(gathered_outputs(p, inputs, outputs) * gathered_row(p)) +
           gathered_panels(p, inputs, outputs) * gathered_panel(p);
}

void product_gradient_create(product_gradient *g, const products *p, size_t inputs, size_t outputs, char *memory)
{
    *g = (product_gradient){.inputs = inputs,
                            .outputs = outputs,
                            .most = gathered_tokens(p),
                            .left = memory,
                            .right = memory + lines(gathered_outputs(p, inputs, outputs) * gathered_row(p))};
}

/* `count` outputs from `first` on, whose rows are at `left`, with inputs from `input` on, whose panel is `panel`. */
static void multiply_outputs(const product_gradient *g, const products *p, size_t first, size_t count, const char *left,
                             size_t input, const char *panel, float *d_weight)
{
    const rows a = {left, count, gathered_row(p)};
    const packed_tile_out out = {.y = d_weight + first * g->inputs + input,
                                 .stride = g->inputs,
                                 .columns = smaller(g->inputs - input, panel_columns(p)),
                                 .begun = true,
                                 .bias = zeros};
    multiply_panel(p, &a, steps_of(p, g->tokens), panel, out);
}

/* With all panels. */
static void multiply_panels(const product_gradient *g, const products *p, size_t first, const char *left,
                            float *d_weight)
{
    const size_t columns = panel_columns(p), count = smaller(g->outputs - first, OUTPUTS_AT_ONCE);
    for (size_t j = 0; j < g->inputs; j += columns)
        multiply_outputs(g, p, first, count, left, j, g->right + j / columns * gathered_panel(p), d_weight);
}

/* A block at once, so that neither factor leaves the second-level cache. */
static void multiply_split(const product_gradient *g, const products *p, const float *x, const float *dy,
                           float *d_weight)
{
    const size_t I = g->inputs, O = g->outputs, columns = panel_columns(p), T = g->tokens;
    const packed_kernels *k = &p->kernels;
    if (O <= I) {
        k->split_columns(dy, O, T, O, g->left, gathered_row(p));
        for (size_t j = 0; j < I; j += columns) {
            k->split_panel(x + j, I, T, smaller(I - j, columns), g->right);
            multiply_outputs(g, p, 0, O, g->left, j, g->right, d_weight);
        }
        return;
    }
    for (size_t j = 0; j < I; j += columns)
        k->split_panel(x + j, I, T, smaller(I - j, columns), g->right + j / columns * gathered_panel(p));
    for (size_t o = 0; o < O; o += OUTPUTS_AT_ONCE) {
        k->split_columns(dy + o, O, T, smaller(O - o, OUTPUTS_AT_ONCE), g->left, gathered_row(p));
        multiply_panels(g, p, o, g->left, d_weight);
    }
}

void product_gradient_add(product_gradient *g, const products *p, size_t tokens, const float *x, const float *dy,
                          float *d_weight, float *d_bias, void *space)
{
    const size_t I = g->inputs, O = g->outputs, columns = panel_columns(p), before = steps_of(p, g->tokens);
    for (size_t i = 0; i < tokens; i++)
        p->kernels.vectors->axpy(1, dy + i * O, d_bias, O);
    g->tokens += tokens;
    if (is_split(p)) {
        multiply_split(g, p, x, dy, d_weight);
        g->tokens = 0;
        return;
    }
    turn_columns(p, O, tokens, dy, O, g->left + before * step_of_row(p), gathered_row(p), space);
    for (size_t j = 0; j < I; j += columns)
        pack_columns(p, x + j, I, tokens, smaller(I - j, columns),
                     g->right + j / columns * gathered_panel(p) + before * columns * GROUP_BYTES);
    if (g->tokens + PRODUCT_TOKENS > g->most)
        product_gradient_finish(g, p, d_weight);
}

void product_gradient_finish(product_gradient *g, const products *p, float *d_weight)
{
    for (size_t o = 0; o < g->outputs && g->tokens > 0; o += OUTPUTS_AT_ONCE)
        multiply_panels(g, p, o, g->left + o * gathered_row(p), d_weight);
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
