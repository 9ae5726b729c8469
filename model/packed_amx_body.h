/* A tile of the product by AMX: up to 32 rows x 32 columns as two by two tile
 * registers of 16 rows x 16 columns, 64 bytes of k at a time (16 groups of 32 bits).
 *
 * Included by packed_amx.c, which defines the operations on tile registers as the
 * processor's instructions, and by its test, which defines them in C, so that the
 * walk over rows, columns and k is tested on machines without AMX as well:
 *
 *   AMX_CONFIGURE(config), AMX_RELEASE(), AMX_ZERO(t), AMX_LOAD(t, from, stride),
 *   AMX_STORE(t, to, stride), AMX_INT8(sum, left, right), AMX_BFLOAT16(the same)
 *
 * Register numbers are constants. No include guard, because there is no other use. */
#include "model/packed_levels.h"

#include <stdint.h>
#include <string.h>

enum { AMX_ROWS = 16, AMX_COLUMNS = 16, AMX_GROUPS = 16, AMX_TILE_ROWS = 2 * AMX_ROWS };

/* What ldtilecfg reads (Intel 64 and IA-32 Architectures Software Developer's
 * Manual, volume 1, section 18.2). */
typedef struct amx_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;

/* Registers 0 to 3 hold the sums (upper left, upper right, lower left, lower
 * right), 4 and 5 rows of x, 6 and 7 columns of the panel. */
static amx_config amx_shape(size_t rows)
{
    size_t upper = rows < AMX_ROWS ? rows : AMX_ROWS, lower = rows - upper;
    amx_config c = {.palette = 1};
    const size_t heights[8] = {upper, upper, lower, lower, upper, lower, AMX_GROUPS, AMX_GROUPS};
    for (size_t i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)heights[i];
        c.row_bytes[i] = heights[i] > 0 ? 64 : 0;
    }
    return c;
}

/* The last groups of k, with zeros up to a whole step of the loop. */
typedef struct amx_rest {
    char rows[AMX_TILE_ROWS][64];
    char panel[AMX_GROUPS][PACKED_STEP];
} amx_rest;

static void amx_fill_rest(amx_rest *rest, size_t rows, size_t groups, const char *a, size_t stride, const char *panel)
{
    memset(rest, 0, sizeof *rest);
    for (size_t r = 0; r < rows; r++)
        memcpy(rest->rows[r], a + r * stride, groups * 4);
    memcpy(rest->panel, panel, groups * PACKED_STEP);
}

#define AMX_STEP(PRODUCT, a, a_stride, panel, lower)                                                                   \
    do {                                                                                                               \
        AMX_LOAD(6, panel, PACKED_STEP);                                                                               \
        AMX_LOAD(7, (panel) + 64, PACKED_STEP);                                                                        \
        AMX_LOAD(4, a, a_stride);                                                                                      \
        PRODUCT(0, 4, 6);                                                                                              \
        PRODUCT(1, 4, 7);                                                                                              \
        if (lower) {                                                                                                   \
            AMX_LOAD(5, (a) + AMX_ROWS * (a_stride), a_stride);                                                        \
            PRODUCT(2, 5, 6);                                                                                          \
            PRODUCT(3, 5, 7);                                                                                          \
        }                                                                                                              \
    } while (0)

/* sums: [32, 32] values of 32 bits. */
#define AMX_SUMS(NAME, TARGET, PRODUCT)                                                                                \
    static TARGET void NAME(size_t rows, size_t steps, const char *a, size_t stride, const char *panel, void *sums)    \
    {                                                                                                                  \
        const amx_config config = amx_shape(rows);                                                                     \
        const bool lower = rows > AMX_ROWS;                                                                            \
        char *to = sums;                                                                                               \
        AMX_CONFIGURE(&config);                                                                                        \
        AMX_ZERO(0);                                                                                                   \
        AMX_ZERO(1);                                                                                                   \
        if (lower) {                                                                                                   \
            AMX_ZERO(2);                                                                                               \
            AMX_ZERO(3);                                                                                               \
        }                                                                                                              \
        for (; steps >= AMX_GROUPS; steps -= AMX_GROUPS, a += 64, panel += AMX_GROUPS * PACKED_STEP)                   \
            AMX_STEP(PRODUCT, a, stride, panel, lower);                                                                \
        if (steps > 0) {                                                                                               \
            amx_rest rest;                                                                                             \
            amx_fill_rest(&rest, rows, steps, a, stride, panel);                                                       \
            AMX_STEP(PRODUCT, rest.rows[0], 64, rest.panel[0], lower);                                                 \
        }                                                                                                              \
        AMX_STORE(0, to, PACKED_STEP);                                                                                 \
        AMX_STORE(1, to + 64, PACKED_STEP);                                                                            \
        if (lower) {                                                                                                   \
            AMX_STORE(2, to + AMX_ROWS * PACKED_STEP, PACKED_STEP);                                                    \
            AMX_STORE(3, to + AMX_ROWS * PACKED_STEP + 64, PACKED_STEP);                                               \
        }                                                                                                              \
        AMX_RELEASE();                                                                                                 \
    }

AMX_SUMS(amx_sums_int8, AMX_TARGET, AMX_INT8)
AMX_SUMS(amx_sums_bfloat16, AMX_TARGET, AMX_BFLOAT16)

static AMX_TARGET void amx_tile_int8(size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                                     const packed_tile_out *out)
{
    int32_t sums[AMX_TILE_ROWS][PACKED_COLUMNS];
    amx_sums_int8(rows, steps, a, stride, panel, sums);
    for (size_t r = 0; r < rows; r++) {
        float *y = out->y + r * out->stride;
        for (size_t j = 0; j < out->columns; j++)
            y[j] = (float)(sums[r][j] - out->row_zero[r] * out->sums[j]) * (out->row_scale[r] * out->scale[j]) +
                   out->bias[j];
    }
}

static AMX_TARGET void amx_tile_bfloat16(size_t rows, size_t steps, const char *a, size_t stride, const char *panel,
                                         const packed_tile_out *out)
{
    float sums[AMX_TILE_ROWS][PACKED_COLUMNS];
    amx_sums_bfloat16(rows, steps, a, stride, panel, sums);
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < out->columns; j++)
            out->y[r * out->stride + j] = packed_result(out, r, j, sums[r][j]);
}
