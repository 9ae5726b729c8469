/* Products of float32 by AMX, which multiplies bfloat16: each factor is cut into three bfloat16 whose sum it is,
 * a = a1 + a2 + a3, each the nearest to what is left, and the product is
 *
 *   a1 b3 + a1 b2 + a1 b1 + a3 b1 + a2 b1 + a2 b2
 *
 * with sums in float32 (Henry, Tang and Heinecke 2019, "Leveraging the bfloat16 artificial intelligence datatype for
 * higher-precision computations", section 2). What is left out is below 2^-23 |a b|, and far less on average, since
 * its signs are random. The 32 products of an instruction are added to a sum with one rounding, so that errors of sums
 * are no larger than those of float32's own instructions. Numbers below 2^-126, and of small ones what
 * lies below it, count as 0. What is infinite, or is rounded up to it (from 2^128 - 2^119 on), becomes NaN.
 *
 * Rows and panels lie in blocks of 32 values of k, zeros behind the last, and of each block first parts, second and
 * third ones follow each other. A group holds values that are 16 from each other: so no lanes have to be moved.
 *
 * Included behind packed_amx_body.h, by who includes that. */
enum {
    SPLIT_HALF = AMX_GROUPS,                /* what is between the two values of a group */
    SPLIT_ROW = AMX_GROUPS * 4,             /* bytes of a part of a row's block */
    SPLIT_PANEL = AMX_GROUPS * PACKED_STEP, /* and of a panel's */
    SPLIT_LINE = AMX_GROUPS * PACKED_PARTS  /* steps of a block */
};

#include "model/vectors_transpose.h"

/* --- cutting */

/* The nearest bfloat16, which is taken off. */
INLINE vec split_off(vec *rest)
{
    const vec part = (vec)(((uvec)*rest + UINT32_C(0x8000)) & UINT32_C(0xFFFF0000));
    *rest -= part;
    return part;
}

/* The parts of LANES groups, `between` bytes from each other. */
INLINE void split_groups(vec early, vec late, size_t between, char *to)
{
    _Pragma("GCC unroll 3") for (size_t p = 0; p < PACKED_PARTS; p++)
    {
        const bool last = p + 1 == PACKED_PARTS;
        const vec lower = last ? early : split_off(&early), upper = last ? late : split_off(&late);
        const uvec both = (uvec)lower >> 16 | ((uvec)upper & UINT32_C(0xFFFF0000));
        memcpy(to + p * between, &both, sizeof both);
    }
}

INLINE void split_block(const float *x, char *to)
{
    for (size_t i = 0; i < SPLIT_HALF; i += LANES)
        split_groups(vec_load(x + i), vec_load(x + SPLIT_HALF + i), SPLIT_ROW, to + i * 4);
}

KERNEL void split_row(const float *x, size_t n, char *to)
{
    for (; n >= PACKED_SPLIT; n -= PACKED_SPLIT, x += PACKED_SPLIT, to += PACKED_PARTS * SPLIT_ROW)
        split_block(x, to);
    if (n > 0) {
        float last[PACKED_SPLIT] = {0};
        memcpy(last, x, n * sizeof *x);
        split_block(last, to);
    }
}

/* Values j to j + LANES of the n that a row has, 0 behind. */
INLINE vec split_load(const float *row, size_t j, size_t n)
{
    if (j + LANES <= n)
        return vec_load(row + j);
    return vec_load_part(row + j, n > j ? n - j : 0);
}

/* What is read next of a row: the processor's own prefetching does not follow from row to row. */
INLINE void split_fetch(const float *next, size_t n)
{
    for (size_t i = 0; i < n; i += 16)
        __builtin_prefetch(next + i, 0, 2);
}

KERNEL void split_panel(const float *w, size_t apart, size_t k, size_t columns, char *to)
{
    static const float none[PACKED_COLUMNS];
    for (size_t from = 0; from < k; from += PACKED_SPLIT, to += PACKED_PARTS * SPLIT_PANEL) {
        for (size_t g = 0; g < AMX_GROUPS; g++) {
            const size_t i = from + g;
            const float *early = i < k ? w + i * apart : none;
            const float *late = i + SPLIT_HALF < k ? w + (i + SPLIT_HALF) * apart : none;
            split_fetch(early + PACKED_COLUMNS, PACKED_COLUMNS);
            split_fetch(late + PACKED_COLUMNS, PACKED_COLUMNS);
            for (size_t j = 0; j < PACKED_COLUMNS; j += LANES)
                split_groups(split_load(early, j, columns), split_load(late, j, columns), SPLIT_PANEL,
                             to + g * PACKED_STEP + j * 4);
        }
    }
}

/* Columns j to j + LANES of a's rows from `first` on, turned: 0 where there is none. */
INLINE void split_turn(const float *a, size_t apart, size_t k, size_t m, size_t first, size_t j, vec square[LANES])
{
    const size_t wide = m - j < LANES ? m - j : LANES;
    for (size_t r = 0; r < LANES; r++) {
        const float *row = a + (first + r) * apart + j;
        split_fetch(row + LANES, LANES);
        square[r] = first + r < k ? split_load(row, 0, wide) : (vec){0};
    }
    transpose_square(square);
}

KERNEL void split_columns(const float *a, size_t apart, size_t k, size_t m, char *to, size_t stride)
{
    for (size_t j = 0; j < m; j += LANES) {
        const size_t wide = m - j < LANES ? m - j : LANES;
        char *block = to + j * stride;
        for (size_t from = 0; from < k; from += PACKED_SPLIT, block += PACKED_PARTS * SPLIT_ROW) {
            for (size_t i = 0; i < SPLIT_HALF; i += LANES) {
                vec early[LANES], late[LANES];
                split_turn(a, apart, k, m, from + i, j, early);
                split_turn(a, apart, k, m, from + i + SPLIT_HALF, j, late);
                for (size_t c = 0; c < wide; c++)
                    split_groups(early[c], late[c], SPLIT_ROW, block + c * stride + i * 4);
            }
        }
    }
}

/* --- multiplying */

#define SPLIT_LEFT(part) AMX_LOAD(4, a + (part)*SPLIT_ROW, stride)
#define SPLIT_RIGHT(part)                                                                                              \
    do {                                                                                                               \
        AMX_LOAD(6, panel + (part)*SPLIT_PANEL, PACKED_STEP);                                                          \
        AMX_LOAD(7, panel + (part)*SPLIT_PANEL + 64, PACKED_STEP);                                                     \
    } while (0)
#define SPLIT_PRODUCTS                                                                                                 \
    do {                                                                                                               \
        AMX_BFLOAT16(0, 4, 6);                                                                                         \
        AMX_BFLOAT16(1, 4, 7);                                                                                         \
    } while (0)

/* Of up to 16 rows: 24 products took 541 ns with eight registers and 181 with five where registers were scarce, and
 * 155 with either at other times (packed_amx_body.h). */
static AMX_TARGET void amx_steps_split(bool lower, size_t steps, const char *a, size_t stride, const char *panel,
                                       const amx_rest *rest, const char *fetch, size_t fetch_bytes)
{
    (void)lower;
    (void)rest; /* blocks are whole */
    for (; steps >= SPLIT_LINE;
         steps -= SPLIT_LINE, a += PACKED_PARTS * SPLIT_ROW, panel += PACKED_PARTS * SPLIT_PANEL) {
        amx_fetch(fetch, PACKED_PARTS * fetch_bytes);
        fetch += PACKED_PARTS * fetch_bytes;
        SPLIT_LEFT(0);
        SPLIT_RIGHT(2);
        SPLIT_PRODUCTS;
        SPLIT_RIGHT(1);
        SPLIT_PRODUCTS;
        SPLIT_RIGHT(0);
        SPLIT_PRODUCTS;
        SPLIT_LEFT(2);
        SPLIT_PRODUCTS;
        SPLIT_LEFT(1);
        SPLIT_PRODUCTS;
        SPLIT_RIGHT(1);
        SPLIT_PRODUCTS;
    }
}

AMX_TILE(amx_tile_split, AMX_TARGET, amx_steps_split, amx_begin_bfloat16, amx_end_bfloat16, AMX_ROWS)
