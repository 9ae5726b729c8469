#include "model/packed.h"

#include "base/checked.h"
#include "base/pages.h"
#include "model/packed_levels.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* How far before their use weights are fetched, in bytes: the first tile of a panel
 * meets them in memory, which takes as long to answer as so many are multiplied.
 * The processor's own prefetching ends at each page. */
enum { FETCH_AHEAD = 8192 };

/* k above which the sum of k products of 255 and 127 could leave int32. */
enum { INT8_COLUMNS_MAX = INT32_MAX / (255 * 127) };

struct packed {
    const packed_kernels *kernels;
    packed_precision precision;
    size_t n, k;
    size_t steps;  /* groups of 32 bits in a row */
    size_t panels; /* of PACKED_COLUMNS columns */
    size_t bytes;  /* of weights */
    char *weights; /* [panels, steps, PACKED_COLUMNS] groups, owned */
    float *bias;   /* [panels * PACKED_COLUMNS], owned */
    float *scale;  /* the same, int8 only, owned */
    int32_t *sums; /* the same */
};

const char *packed_precision_name(packed_precision precision)
{
    static const char *const names[PACKED_PRECISIONS] = {"float32", "bfloat16", "int8"};
    return names[precision];
}

/* --- levels */

enum { LEVELS = 3 };
static packed_kernels levels[LEVELS];
static pthread_once_t levels_once = PTHREAD_ONCE_INIT;

static void fill_levels(void)
{
    for (size_t i = 0; i < LEVELS; i++)
        levels[i] = packed_generic;
#ifdef PACKED_X86
    __builtin_cpu_init();
    packed_add_avx2(&levels[1]);
    levels[2] = levels[1];
    packed_add_avx512(&levels[2]);
#endif
}

const packed_kernels *packed_choose(const char *name)
{
    pthread_once(&levels_once, fill_levels);
    return strcmp(name, "avx512") == 0 ? &levels[2] : strcmp(name, "avx2") == 0 ? &levels[1] : &levels[0];
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

/* Where value i of column j begins. */
static char *place(const packed *p, size_t j, size_t i)
{
    size_t share = group_size(p->precision);
    char *panel = p->weights + j / PACKED_COLUMNS * p->steps * PACKED_STEP;
    return panel + i / share * PACKED_STEP + j % PACKED_COLUMNS * 4 + i % share * (4 / share);
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

static void pack_int8(packed *p, size_t j, const float *w)
{
    float largest = 0;
    for (size_t i = 0; i < p->k; i++)
        largest = fmaxf(largest, fabsf(w[i]));
    float inverse = largest > 1e-30f ? 127.0f / largest : 0;
    p->scale[j] = largest / 127.0f;
    for (size_t i = 0; i < p->k; i++) {
        int8_t q = (int8_t)lrintf(w[i] * inverse);
        p->sums[j] += q;
        memcpy(place(p, j, i), &q, 1);
    }
}

static sem_status allocate(packed *p, sem_error *err)
{
    size_t share = group_size(p->precision), columns;
    p->steps = (p->k + share - 1) / share;
    p->panels = (p->n + PACKED_COLUMNS - 1) / PACKED_COLUMNS;
    if (!checked_mul(p->panels, PACKED_COLUMNS, &columns) || !checked_mul(columns, p->steps, &p->bytes) ||
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

sem_status packed_create(packed **out, const packed_kernels *kernels, packed_precision precision, size_t n, size_t k,
                         const float *weight, const float *bias, sem_error *err)
{
    if (precision == PACKED_INT8 && k > INT8_COLUMNS_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "int8 products of %zu columns could overflow, the limit is %d", k,
                        INT8_COLUMNS_MAX);
    packed *p = calloc(1, sizeof *p);
    if (p == NULL)
        return sem_fail_memory(err, "a packed matrix");
    p->kernels = kernels;
    p->precision = precision;
    p->n = n;
    p->k = k;
    sem_status status = allocate(p, err);
    if (status != SEM_OK) {
        packed_destroy(p);
        return status;
    }
    static void (*const pack[PACKED_PRECISIONS])(packed *, size_t, const float *) = {pack_float32, pack_bfloat16,
                                                                                     pack_int8};
    for (size_t j = 0; j < n; j++)
        pack[precision](p, j, weight + j * k);
    if (bias != NULL)
        memcpy(p->bias, bias, n * sizeof *bias);
    *out = p;
    return SEM_OK;
}

void packed_destroy(packed *p)
{
    if (p == NULL)
        return;
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

size_t packed_bytes(const packed *p)
{
    return p->bytes + p->panels * PACKED_COLUMNS * (2 * sizeof(float) + sizeof(int32_t));
}

size_t packed_width(const packed *p)
{
    return p->k;
}

/* --- multiplying */

/* Row strides of converted rows, in bytes: whole groups, one line more than a
 * power of two would be, so that the rows of a tile do not share a cache set. */
static size_t row_stride(size_t k)
{
    return (k * sizeof(float) + 63) / 64 * 64 + 64;
}

size_t packed_space(size_t k)
{
    return (PACKED_BLOCK_ROWS + 1) * row_stride(k) / sizeof(float);
}

static void convert_row(const packed *p, const float *x, char *out, float *scale, int32_t *zero)
{
    size_t share = group_size(p->precision), padded = p->steps * share;
    switch (p->precision) {
    case PACKED_BFLOAT16:
        p->kernels->to_bfloat16(x, p->k, (uint16_t *)(void *)out);
        memset(out + p->k * sizeof(uint16_t), 0, (padded - p->k) * sizeof(uint16_t));
        break;
    case PACKED_INT8:
        p->kernels->to_int8(x, p->k, (uint8_t *)out, scale, zero);
        memset(out + p->k, 0, padded - p->k);
        break;
    default: memcpy(out, x, p->k * sizeof *x); break;
    }
}

/* Where the first row is left for f's result. */
static char *converted_rows(const packed *p, float *space)
{
    return (char *)(space + row_stride(p->k) / sizeof *space);
}

static void convert(const packed *p, const float *x, packed_function *f, packed_rows *b, float *space)
{
    b->stride = row_stride(p->k);
    b->rows = b->converted = converted_rows(p, space);
    for (size_t r = 0; r < b->count; r++, x += p->k) {
        if (f != NULL)
            f(x, p->k, space);
        convert_row(p, f != NULL ? space : x, b->converted + r * b->stride, &b->scale[r], &b->zero[r]);
    }
}

bool packed_rows_begin(const packed *p, packed_rows *b, size_t rows, const float *x, float *space)
{
    bool converted = p->precision != PACKED_FLOAT32;
    b->count = rows;
    b->converted = converted_rows(p, space);
    b->rows = converted ? b->converted : (const char *)x;
    b->stride = converted ? row_stride(p->k) : p->k * sizeof *x;
    return converted;
}

void packed_convert(const packed *p, packed_rows *b, const float *x, size_t first, size_t last)
{
    for (size_t r = first; r < last; r++)
        convert_row(p, x + r * p->k, b->converted + r * b->stride, &b->scale[r], &b->zero[r]);
}

/* One panel with all rows of the block, in tiles of nearly equal height. */
static void multiply_panel(const packed *p, size_t panel, const packed_rows *b, float *y)
{
    const packed_kernels *k = p->kernels;
    size_t first = panel * PACKED_COLUMNS, most = k->tile_rows[p->precision];
    size_t tiles = (b->count + most - 1) / most;
    packed_tile_out out = {.stride = p->n,
                           .columns = p->n - first < PACKED_COLUMNS ? p->n - first : PACKED_COLUMNS,
                           .bias = p->bias + first,
                           .scale = p->scale + first,
                           .sums = p->sums + first};
    const char *weights = p->weights + panel * p->steps * PACKED_STEP;
    for (size_t t = 0, r = 0; t < tiles; t++) {
        size_t height = (b->count - r + tiles - t - 1) / (tiles - t);
        out.y = y + r * p->n + first;
        out.row_scale = b->scale + r;
        out.row_zero = b->zero + r;
        out.ahead = t == 0 ? FETCH_AHEAD : 0;
        k->tile[p->precision](height, p->steps, b->rows + r * b->stride, b->stride, weights, &out);
        r += height;
    }
}

size_t packed_panels(const packed *p)
{
    return p->panels;
}

void packed_multiply_panels(const packed *p, const packed_rows *b, size_t first, size_t last, float *y)
{
    for (size_t panel = first; panel < last; panel++)
        multiply_panel(p, panel, b, y);
}

void packed_multiply(const packed *p, size_t rows, const float *x, packed_function *f, float *y, float *space)
{
    packed_rows b;
    for (size_t r = 0; r < rows; r += PACKED_BLOCK_ROWS) {
        const float *from = x + r * p->k;
        b.count = rows - r < PACKED_BLOCK_ROWS ? rows - r : PACKED_BLOCK_ROWS;
        if (p->precision == PACKED_FLOAT32 && f == NULL) {
            b.rows = (const char *)from;
            b.stride = p->k * sizeof *x;
        } else {
            convert(p, from, f, &b, space);
        }
        packed_multiply_panels(p, &b, 0, p->panels, y + r * p->n);
    }
}
