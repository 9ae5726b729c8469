#include "model/packed.h"

#include "base/checked.h"
#include "base/pages.h"
#include "model/packed_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How far before their use weights are fetched, in bytes: the first tile of a panel
 * meets them in memory, which takes as long to answer as so many are multiplied.
 * The processor's own prefetching ends at each page. */
enum { FETCH_AHEAD = 8192 };

/* k above which the sum of k products of 255 and 127 could leave int32. */
enum { INT8_COLUMNS_MAX = INT32_MAX / (255 * 127) };

/* Where 16 bits are not enough, weights are made smaller by at least this factor until they are. */
static const float NARROWER = 0.99f;

struct packed {
    packed_kernels kernels;
    packed_precision precision;
    size_t n, k;
    size_t steps;       /* groups of 32 bits in a row */
    size_t columns;     /* of a panel */
    size_t panels;      /* of so many columns */
    size_t bytes;       /* of weights */
    char *weights;      /* [panels, steps, columns] groups */
    bool moved;         /* the weights are in memory of somebody else's; else they are owned */
    float *bias;        /* [panels * columns], owned */
    float *scale;       /* the same, int8 only, owned */
    int32_t *sums;      /* the same */
    float gain;         /* of the rotation, int8 only */
    covariance *record; /* borrowed; NULL: nothing is recorded */
};

const char *packed_precision_name(packed_precision precision)
{
    static const char *const names[PACKED_PRECISIONS] = {"float32", "bfloat16", "int8"};
    return names[precision];
}

/* --- levels */

/* Each is the one before and what it does better. */
static const struct {
    const char *name;
    void (*add)(packed_kernels *k);
} rises[] = {
    {"generic", NULL},
#ifdef PACKED_X86
    {"avx2", packed_add_avx2}, {"avxvnni", packed_add_avxvnni}, {"avx512", packed_add_avx512}, {"amx", packed_add_amx},
#endif
};

packed_kernels packed_choose(const char *name)
{
    const kernels *vectors[KERNELS_MAX + 1];
    kernels_available(vectors);
    size_t last = sizeof rises / sizeof *rises - 1;
    while (last > 0 && strcmp(name, rises[last].name) != 0)
        last--;
    packed_kernels level = packed_generic;
    for (size_t i = 0, at = 0; i <= last; i++) {
        if (rises[i].add != NULL)
            rises[i].add(&level);
        if (vectors[at + 1] != NULL && strcmp(vectors[at + 1]->name, rises[i].name) == 0)
            at++;
        level.vectors = vectors[at];
    }
    return level;
}

bool packed_is_fast(const packed_kernels *k, packed_precision precision)
{
    return k->fast[precision];
}

/* --- packing */

/* How many values of k share a group. */
static size_t group_size(packed_precision precision)
{
    return precision == PACKED_FLOAT32 ? 1 : precision == PACKED_BFLOAT16 ? 2 : 4;
}

/* Bytes of a step of a panel. */
static size_t step_bytes(const packed *p)
{
    return p->columns * 4;
}

/* Where value i of column j begins. */
static char *place(const packed *p, size_t j, size_t i)
{
    size_t share = group_size(p->precision);
    char *step = p->weights + (j / p->columns * p->steps + i / share) * step_bytes(p);
    return step + j % p->columns * 4 + i % share * (4 / share);
}

static void pack_float32(packed *p, size_t j, const float *w)
{
    for (size_t i = 0; i < p->k; i++)
        memcpy(place(p, j, i), w + i, sizeof *w);
}

static void pack_bfloat16(packed *p, size_t j, const float *w)
{
    for (size_t i = 0; i < p->k; i++) {
        uint16_t half;
        packed_generic.to_bfloat16(w + i, 1, &half);
        memcpy(place(p, j, i), &half, sizeof half);
    }
}

/* The largest sum of a column's positive, or of its negative, weights whose products are
 * added in 16 bits: the same two bytes of so many steps. */
static int32_t largest_narrow(const packed *p, const int8_t *q)
{
    const size_t share = 4 * p->kernels.narrow_steps;
    int32_t largest = 0;
    for (size_t from = 0; from < p->k; from += share) {
        int32_t above[2] = {0}, below[2] = {0};
        for (size_t i = from; i < from + share && i < p->k; i++)
            *(q[i] > 0 ? &above[i / 2 % 2] : &below[i / 2 % 2]) += abs(q[i]);
        for (size_t i = 0; i < 2; i++) {
            largest = above[i] > largest ? above[i] : largest;
            largest = below[i] > largest ? below[i] : largest;
        }
    }
    return largest;
}

/* w[k] is rounded to multiples of scale, by what was recorded where there is something,
 * and used up. */
static void round_column(float *w, size_t k, float scale, const covariance *record, int8_t *q)
{
    if (record != NULL) {
        covariance_round(record, w, scale, q);
        return;
    }
    const float inverse = scale > 0 ? 1 / scale : 0;
    for (size_t i = 0; i < k; i++)
        q[i] = (int8_t)lrintf(w[i] * inverse);
}

/* w[2, k]: the column, and room. It is rotated and rounded, as finely as sums may grow large. */
static void pack_int8(packed *p, size_t j, float *w, const covariance *record, int8_t *q)
{
    float largest = 0, levels = INT8_MAX, most = 0, *rounded = w + p->k;
    p->kernels.vectors->spread(w, p->k, w);
    p->kernels.vectors->scale(1 / p->gain, w, p->k);
    for (size_t i = 0; i < p->k; i++)
        largest = fmaxf(largest, fabsf(w[i]));
    do {
        levels = most > 0 ? levels * fminf(INT16_MAX / most, NARROWER) : levels;
        p->scale[j] = largest > 1e-30f ? largest / levels : 0;
        memcpy(rounded, w, p->k * sizeof *w);
        round_column(rounded, p->k, p->scale[j], record, q);
        most = p->kernels.narrow_steps == 0 ? 0 : (float)(p->kernels.byte_most * largest_narrow(p, q));
    } while (most > INT16_MAX);
    for (size_t i = 0; i < p->k; i++) {
        p->sums[j] += q[i];
        memcpy(place(p, j, i), q + i, 1);
    }
}

static sem_status pack_all_int8(packed *p, const float *weight, covariance *record, sem_error *err)
{
    float *w = checked_realloc(NULL, p->k, 2 * sizeof *w);
    int8_t *q = checked_realloc(NULL, p->k, sizeof *q);
    sem_status status = w != NULL && q != NULL ? SEM_OK : sem_fail_memory(err, "a packed matrix");
    if (status == SEM_OK && record != NULL)
        status = covariance_finish(record, err);
    for (size_t j = 0; j < p->n && status == SEM_OK; j++) {
        memcpy(w, weight + j * p->k, p->k * sizeof *w);
        pack_int8(p, j, w, record, q);
    }
    free(w);
    free(q);
    return status;
}

static sem_status allocate(packed *p, sem_error *err)
{
    size_t share = group_size(p->precision), columns;
    p->steps = (p->k + share - 1) / share;
    p->columns = p->kernels.columns[p->precision];
    p->panels = (p->n + p->columns - 1) / p->columns;
    if (!checked_mul(p->panels, p->columns, &columns) || !checked_mul(columns, p->steps, &p->bytes) ||
        !checked_mul(p->bytes, 4, &p->bytes))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a matrix of %zu x %zu is too large", p->n, p->k);
    p->weights = pages_alloc(p->bytes);
    p->bias = calloc(columns, sizeof *p->bias);
    p->scale = calloc(columns, sizeof *p->scale);
    p->sums = calloc(columns, sizeof *p->sums);
    if (p->weights == NULL || p->bias == NULL || p->scale == NULL || p->sums == NULL)
        return sem_fail_memory(err, "a packed matrix");
    return SEM_OK;
}

sem_status packed_create(packed **out, const packed_kernels *level, packed_precision precision, size_t n, size_t k,
                         const float *weight, const float *bias, sem_error *err)
{
    return packed_create_recorded(out, level, precision, n, k, weight, bias, NULL, err);
}

sem_status packed_create_recorded(packed **out, const packed_kernels *level, packed_precision precision, size_t n,
                                  size_t k, const float *weight, const float *bias, covariance *record, sem_error *err)
{
    if (precision == PACKED_INT8 && k > INT8_COLUMNS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "int8 products of %zu columns could overflow, the limit is %d", k,
                        INT8_COLUMNS_MAX);
    packed *p = calloc(1, sizeof *p);
    if (p == NULL)
        return sem_fail_memory(err, "a packed matrix");
    p->kernels = *level;
    p->precision = precision;
    p->n = n;
    p->k = k;
    p->gain = kernels_spread_gain(k);
    sem_status status = allocate(p, err);
    if (status == SEM_OK && precision == PACKED_INT8)
        status = pack_all_int8(p, weight, record, err);
    if (status != SEM_OK) {
        packed_destroy(p);
        return status;
    }
    for (size_t j = 0; j < n && precision != PACKED_INT8; j++)
        (precision == PACKED_FLOAT32 ? pack_float32 : pack_bfloat16)(p, j, weight + j * k);
    if (bias != NULL)
        memcpy(p->bias, bias, n * sizeof *bias);
    *out = p;
    return SEM_OK;
}

void packed_destroy(packed *p)
{
    if (p == NULL)
        return;
    if (!p->moved)
        pages_free(p->weights, p->bytes);
    free(p->bias);
    free(p->scale);
    free(p->sums);
    free(p);
}

packed_precision packed_get_precision(const packed *p)
{
    return p->precision;
}

size_t packed_weight_bytes(const packed *p)
{
    return p->bytes;
}

void packed_move(packed *p, void *to)
{
    memcpy(to, p->weights, p->bytes);
    if (!p->moved)
        pages_free(p->weights, p->bytes);
    p->weights = to;
    p->moved = true;
}

size_t packed_width(const packed *p)
{
    return p->k;
}

/* --- multiplying */

static bool reads_floats(const packed *p)
{
    return p->kernels.reads_floats[p->precision];
}

/* Rows need neither rounding nor zeros behind them. */
static bool reads_rows_as_they_are(const packed *p)
{
    return reads_floats(p) && p->k % group_size(p->precision) == 0;
}

/* Bytes from one row to the next: whole lines, one more than a power of two would
 * be, so that the rows of a tile do not share a cache set. */
static size_t row_stride(size_t k, size_t value)
{
    return (k * value + 63) / 64 * 64 + 64;
}

/* First rows as float32 on their way, then converted ones in up to two bytes a value. */
size_t packed_space(size_t k)
{
    return PACKED_BLOCK_ROWS * (row_stride(k, sizeof(float)) + row_stride(k, sizeof(uint16_t))) / sizeof(float);
}

/* exact: room for a row as float32, where x may be already; out is the same where rows stay floats. */
static void convert_row(const packed *p, const float *x, float *exact, char *out, float *scale, int32_t *zero)
{
    size_t share = group_size(p->precision), padded = p->steps * share;
    if (reads_floats(p)) {
        if (x != exact)
            memcpy(exact, x, p->k * sizeof *x);
        memset(exact + p->k, 0, (padded - p->k) * sizeof *x);
    } else if (p->precision == PACKED_BFLOAT16) {
        p->kernels.to_bfloat16(x, p->k, (uint16_t *)(void *)out);
        memset(out + p->k * sizeof(uint16_t), 0, (padded - p->k) * sizeof(uint16_t));
    } else if (p->precision == PACKED_INT8) {
        p->kernels.vectors->spread(x, p->k, exact);
        p->kernels.to_int8(exact, p->k, p->kernels.byte_most, (uint8_t *)out, scale, zero);
        *scale /= p->gain;
        memset(out + p->k, 0, padded - p->k);
    }
}

static float *exact_row(const packed *p, float *space, size_t r)
{
    return space + r * row_stride(p->k, sizeof(float)) / sizeof *space;
}

/* Says where converted rows are. */
static void place_rows(const packed *p, packed_rows *b, float *space)
{
    const bool floats = reads_floats(p);
    b->exact = space;
    b->converted = (char *)exact_row(p, space, floats ? 0 : PACKED_BLOCK_ROWS);
    b->rows = b->converted;
    b->stride = row_stride(p->k, floats ? sizeof(float) : sizeof(float) / group_size(p->precision));
}

static void convert(const packed *p, const float *x, packed_function *f, packed_rows *b, float *space)
{
    place_rows(p, b, space);
    for (size_t r = 0; r < b->count; r++, x += p->k) {
        float *exact = exact_row(p, space, reads_floats(p) ? r : 0);
        if (f != NULL)
            f(x, p->k, exact);
        convert_row(p, f != NULL ? exact : x, exact, b->converted + r * b->stride, &b->scale[r], &b->zero[r]);
    }
}

bool packed_rows_begin(const packed *p, packed_rows *b, size_t rows, const float *x, float *space)
{
    b->count = rows;
    place_rows(p, b, space);
    if (!reads_rows_as_they_are(p))
        return true;
    b->rows = (const char *)x;
    b->stride = p->k * sizeof *x;
    return false;
}

void packed_convert(const packed *p, packed_rows *b, const float *x, size_t first, size_t last)
{
    for (size_t r = first; r < last; r++)
        convert_row(p, x + r * p->k, exact_row(p, b->exact, r), b->converted + r * b->stride, &b->scale[r],
                    &b->zero[r]);
}

/* Some steps of one panel. */
typedef struct part {
    size_t panel, from, steps;
    const char *next; /* the weights that come after these */
} part;

/* What tile t of a part fetches. Where several tiles multiply the same steps, each fetches
 * its share of the next ones: memory then has the time of all of them, and not the first
 * tile's alone, which it is too slow for. */
static void set_fetch(const packed *p, const part *s, const char *weights, size_t t, size_t tiles, packed_tile_out *out)
{
    const size_t bytes = s->steps * step_bytes(p);
    out->fetch = tiles == 1 && s->next == weights + bytes ? weights + FETCH_AHEAD : s->next + bytes * t / tiles;
    out->fetch_step = (step_bytes(p) + tiles - 1) / tiles;
}

static const char *weights_of(const packed *p, size_t panel, size_t step)
{
    return p->weights + (panel * p->steps + step) * step_bytes(p);
}

/* With all rows of the block, in tiles of nearly equal height. */
static void multiply_part(const packed *p, const part *s, const packed_rows *b, float *y)
{
    const packed_kernels *k = &p->kernels;
    const bool few = b->count < k->few_below[p->precision];
    packed_tile *tile = few ? k->few[p->precision] : k->tile[p->precision];
    size_t first = s->panel * p->columns, most = few ? k->few_rows[p->precision] : k->tile_rows[p->precision];
    size_t tiles = (b->count + most - 1) / most;
    packed_tile_out out = {.stride = p->n,
                           .columns = p->n - first < p->columns ? p->n - first : p->columns,
                           .begun = s->from > 0,
                           .unfinished = s->from + s->steps < p->steps,
                           .bias = p->bias + first,
                           .scale = p->scale + first,
                           .sums = p->sums + first};
    const char *weights = weights_of(p, s->panel, s->from);
    for (size_t t = 0, r = 0; t < tiles; t++) {
        size_t height = (b->count - r + tiles - t - 1) / (tiles - t);
        out.y = y + r * p->n + first;
        out.row_scale = b->scale + r;
        out.row_zero = b->zero + r;
        set_fetch(p, s, weights, t, tiles, &out);
        tile(height, s->steps, b->rows + r * b->stride + 4 * s->from, b->stride, weights, &out);
        r += height;
    }
}

static void multiply_panel(const packed *p, size_t panel, size_t next, const packed_rows *b, float *y)
{
    const size_t most = p->kernels.steps_most[p->precision] != 0 ? p->kernels.steps_most[p->precision] : p->steps;
    for (size_t from = 0, end; from < p->steps; from = end) {
        end = p->steps - from < most ? p->steps : from + most;
        const part s = {panel, from, end - from, end < p->steps ? weights_of(p, panel, end) : weights_of(p, next, 0)};
        multiply_part(p, &s, b, y);
    }
}

size_t packed_panels(const packed *p)
{
    return p->panels;
}

void packed_multiply_panels(const packed *p, const packed_rows *b, size_t first, size_t last, size_t next, float *y)
{
    for (size_t panel = first; panel < last; panel++)
        multiply_panel(p, panel, panel + 1 < last ? panel + 1 : next, b, y);
}

/* --- recording */

void packed_record(packed *p, covariance *record)
{
    p->record = record;
}

static void record_rows(const packed *p, size_t rows, const float *x, packed_function *f, float *space)
{
    for (size_t r = 0; r < rows; r++) {
        float *row = space + r * p->k;
        if (f != NULL)
            f(x + r * p->k, p->k, row);
        else
            memcpy(row, x + r * p->k, p->k * sizeof *row);
        p->kernels.vectors->spread(row, p->k, row);
    }
    covariance_add(p->record, rows, space);
}

void packed_multiply(const packed *p, size_t rows, const float *x, packed_function *f, float *y, float *space)
{
    packed_rows b;
    for (size_t r = 0; r < rows; r += PACKED_BLOCK_ROWS) {
        const float *from = x + r * p->k;
        b.count = rows - r < PACKED_BLOCK_ROWS ? rows - r : PACKED_BLOCK_ROWS;
        if (p->record != NULL)
            record_rows(p, b.count, from, f, space);
        if (reads_rows_as_they_are(p) && f == NULL) {
            b.rows = (const char *)from;
            b.stride = p->k * sizeof *x;
        } else {
            convert(p, from, f, &b, space);
        }
        packed_multiply_panels(p, &b, 0, p->panels, p->panels, y + r * p->n);
    }
}
