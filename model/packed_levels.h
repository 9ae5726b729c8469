/* The kernels below packed.h: one table for each instruction set.
 *
 * Weights lie in panels of up to PACKED_COLUMNS output columns, as many as a level's
 * tile has. A panel is a row of steps, a step holds 32 bits of each column: one
 * float32, two bfloat16 or four int8 that follow each other in k. Rows of x are cut
 * into the same 32-bit groups, so that every precision has the same loop: broadcast a
 * group of x, multiply it with the step's columns, add. */
#ifndef SEM_MODEL_PACKED_LEVELS_H
#define SEM_MODEL_PACKED_LEVELS_H

#include "model/kernels.h"
#include "model/packed.h"

#include <float.h>
#include <math.h>

enum { PACKED_COLUMNS = 32, PACKED_STEP = PACKED_COLUMNS * 4 /* bytes */, PACKED_TILE_ROWS_MAX = 192 };

/* Where float32 is cut into parts that are bfloat16: how many there are, and the values of k of a block, which
 * takes 16 steps for each part. */
enum { PACKED_PARTS = 3, PACKED_SPLIT = 32, PACKED_SPLIT_STEPS = PACKED_SPLIT / 2 * PACKED_PARTS };

/* Where a tile of the product goes and how sums become results. */
typedef struct packed_tile_out {
    float *y; /* [rows, columns], a row every stride floats */
    size_t stride;
    size_t columns;    /* at most a panel's */
    const float *bias; /* [columns of a panel], as scale and sums */
    /* float32 and bfloat16: what y holds is added. Levels with steps_most: more steps follow, so
     * y gets the sums without bias. */
    bool begun, unfinished;
    /* int8 only: y = row_scale * scale * (sum - row_zero * sums) + bias */
    const float *scale;
    const int32_t *sums; /* of each column's weights */
    const float *row_scale;
    const int32_t *row_zero; /* the byte that stands for 0 */
    /* Weights to be fetched from memory meanwhile, and how many bytes further each step. */
    const char *fetch;
    size_t fetch_step;
} packed_tile_out;

/* What column j of the tile's row r becomes, of float32 and bfloat16, by the sum of its products. */
static inline float packed_result(const packed_tile_out *out, size_t r, size_t j, float sum)
{
    return sum + out->bias[j] + (out->begun ? out->y[r * out->stride + j] : 0);
}

/* a: rows of x in groups of 32 bits, a row every a_stride bytes. rows is at least 1. */
typedef void packed_tile(size_t rows, size_t steps, const char *a, size_t a_stride, const char *panel,
                         const packed_tile_out *out);

struct packed_kernels {
    const kernels *vectors; /* of the same level */
    const char *name[PACKED_PRECISIONS];
    packed_tile *tile[PACKED_PRECISIONS];
    size_t tile_rows[PACKED_PRECISIONS];
    size_t columns[PACKED_PRECISIONS]; /* of a panel */
    /* Steps of a panel that all rows are multiplied with before the next ones, so that these
     * stay in the first-level cache; 0: all. */
    size_t steps_most[PACKED_PRECISIONS];
    /* For blocks of fewer rows than few_below, which is 0 where `tile` serves all. */
    packed_tile *few[PACKED_PRECISIONS];
    size_t few_rows[PACKED_PRECISIONS], few_below[PACKED_PRECISIONS];
    /* int8: the largest byte of a row, and of how many steps the products are added in 16
     * bits before sums go on in 32. Weights are rounded so that whatever the row, these 16
     * bits are enough. 0: there is no such limit. */
    int32_t byte_most;
    size_t narrow_steps;
    bool fast[PACKED_PRECISIONS];
    bool reads_floats[PACKED_PRECISIONS]; /* rows of x stay float32, whatever the weights are */
    /* Nearest, ties to even. out[n] */
    void (*to_bfloat16)(const float *x, size_t n, uint16_t *out);
    /* x is about scale * (out - zero), out at most `most`; 0 is represented exactly. */
    void (*to_int8)(const float *x, size_t n, int32_t most, uint8_t *out, float *scale, int32_t *zero);
    /* Products of float32 by parts, where they are quicker than tile's; NULL: they are not. What they multiply is made
     * by the others: a row of n values; a panel of the first `columns` columns of w's k rows; and rows, `stride` bytes
     * from each other, of the first m columns of a's k rows. Rows of w and a are so many floats from each other. */
    packed_tile *split_tile;
    void (*split_row)(const float *x, size_t n, char *to);
    void (*split_panel)(const float *w, size_t apart, size_t k, size_t columns, char *to);
    void (*split_columns)(const float *a, size_t apart, size_t k, size_t m, char *to, size_t stride);
};

/* The step from one byte to the next and the byte of 0, for values of [low, high] in bytes
 * of 0 to most. Where
 * their distance is no finite number the step is NaN, and so are all products of the row. */
static inline float packed_range(float low, float high, int32_t most, float *scale, int32_t *zero)
{
    low = low < 0 ? low : 0;
    high = high > 0 ? high : 0;
    float width = high - low;
    *scale = 0;
    *zero = 0;
    if (!(width <= FLT_MAX)) {
        *scale = NAN;
        return 0;
    }
    if (!(width > 1e-30f))
        return 0;
    float inverse = (float)most / width;
    *scale = width / (float)most;
    *zero = (int32_t)(-low * inverse + 0.5f);
    return inverse;
}

/* Sums of int8 are of 32 bits throughout. */
static inline void packed_widen(packed_kernels *k)
{
    k->byte_most = UINT8_MAX;
    k->narrow_steps = 0;
}

extern const packed_kernels packed_generic;

/* Each of these replaces in k what this processor does better. */
#if defined(__x86_64__)
#define PACKED_X86 1
void packed_add_avx2(packed_kernels *k);
void packed_add_avxvnni(packed_kernels *k);
void packed_add_avx512(packed_kernels *k);
/* The products of bfloat16 that packed_add_avx512 takes where they are quick. */
void packed_add_avx512_bf16(packed_kernels *k);
void packed_add_amx(packed_kernels *k);
#endif

#endif
