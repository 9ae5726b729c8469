/* Products by AMX: of up to 32 rows x 32 columns at a time, as one or two by two tile registers
 * of 16 rows x 16 columns, 64 bytes of k at a time (16 groups of 32 bits).
 *
 * Included by packed_amx.c, which defines the operations on tile registers as the
 * processor's instructions, and by its test, which defines them in C, so that the
 * walk over rows, columns and k is tested on machines without AMX as well:
 *
 *   AMX_CONFIGURE(config), AMX_RELEASE(), AMX_ZERO(t), AMX_LOAD(t, from, stride),
 *   AMX_STORE(t, to, stride), AMX_INT8(sum, left, right), AMX_BFLOAT16(the same),
 *   AMX_FETCH_RESULT(address)
 *
 * Register numbers are constants. The vectors of one level (vectors_<level>.h) are
 * included before. No include guard, because there is no other use. */
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
    size_t groups; /* 0: k has none */
    char rows[AMX_TILE_ROWS][64];
    char panel[AMX_GROUPS][PACKED_STEP];
} amx_rest;

static void amx_rest_panel(amx_rest *rest, size_t groups, const char *panel)
{
    rest->groups = groups;
    if (groups == 0)
        return;
    memset(rest->rows, 0, sizeof rest->rows);
    memcpy(rest->panel, panel, groups * PACKED_STEP);
    memset(rest->panel[groups], 0, (AMX_GROUPS - groups) * PACKED_STEP);
}

static void amx_rest_rows(amx_rest *rest, size_t rows, const char *a, size_t stride)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(rest->rows[r], a + r * stride, rest->groups * 4);
}

/* Into the second-level cache. */
static inline void amx_fetch(const char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch(from + i, 0, 2);
}

/* What is fetched in each step of AMX_GROUPS, whole lines, so that all of it comes evenly while all rows pass. */
static inline size_t amx_fetch_bytes(const packed_tile_out *out, size_t rows, size_t most)
{
    const size_t parts = (rows + most - 1) / most;
    return (AMX_GROUPS * out->fetch_step / parts + 63) / 64 * 64;
}

/* Where a tile's results go: nothing else has been there for long. What they are added to is read at once, so that it
 * has been fetched with the tile before, whose columns are those in front. */
static inline void amx_fetch_results(const packed_tile_out *out, size_t first, size_t rows)
{
    const float *y = out->begun ? out->y + PACKED_COLUMNS : out->y;
    for (size_t r = first; r < first + rows; r++) {
        AMX_FETCH_RESULT(y + r * out->stride);
        AMX_FETCH_RESULT(y + r * out->stride + AMX_COLUMNS);
    }
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

/* All products of a tile, added to what its registers hold. fetch_bytes are brought nearer in each step. */
#define AMX_STEPS(NAME, TARGET, PRODUCT)                                                                               \
    static TARGET void NAME(bool lower, size_t steps, const char *a, size_t stride, const char *panel,                 \
                            const amx_rest *rest, const char *fetch, size_t fetch_bytes)                               \
    {                                                                                                                  \
        for (; steps >= AMX_GROUPS; steps -= AMX_GROUPS, a += 64, panel += AMX_GROUPS * PACKED_STEP) {                 \
            amx_fetch(fetch, fetch_bytes);                                                                             \
            fetch += fetch_bytes;                                                                                      \
            AMX_STEP(PRODUCT, a, stride, panel, lower);                                                                \
        }                                                                                                              \
        if (rest->groups > 0)                                                                                          \
            AMX_STEP(PRODUCT, rest->rows[0], 64, rest->panel[0], lower);                                               \
    }

AMX_STEPS(amx_steps_int8, AMX_TARGET, AMX_INT8)
AMX_STEPS(amx_steps_bfloat16, AMX_TARGET, AMX_BFLOAT16)

static inline AMX_TARGET void amx_zero(bool lower)
{
    AMX_ZERO(0);
    AMX_ZERO(1);
    if (lower) {
        AMX_ZERO(2);
        AMX_ZERO(3);
    }
}

/* Sums from [32, 32] values of 32 bits, rows `stride` bytes apart (0: all are the first), and to them. */
static inline AMX_TARGET void amx_load_sums(bool lower, const char *from, size_t stride)
{
    AMX_LOAD(0, from, stride);
    AMX_LOAD(1, from + 64, stride);
    if (lower) {
        AMX_LOAD(2, from + AMX_ROWS * stride, stride);
        AMX_LOAD(3, from + AMX_ROWS * stride + 64, stride);
    }
}

static inline AMX_TARGET void amx_store_sums(bool lower, char *to, size_t stride)
{
    AMX_STORE(0, to, stride);
    AMX_STORE(1, to + 64, stride);
    if (lower) {
        AMX_STORE(2, to + AMX_ROWS * stride, stride);
        AMX_STORE(3, to + AMX_ROWS * stride + 64, stride);
    }
}

/* Results of the tile's row r from its sums. The same bits as those of the kernels below, where
 * sums are exact. */
static AMX_TARGET void amx_row_int8(const packed_tile_out *out, size_t r, const char *sums)
{
    const int32_t zero = out->row_zero[r], *sum = (const int32_t *)(const void *)sums;
    const float scale = out->row_scale[r];
    float *y = out->y + r * out->stride;
    size_t j = 0;
    for (; j + LANES <= out->columns; j += LANES) {
        ivec exact, moved;
        memcpy(&exact, sum + j, sizeof exact);
        memcpy(&moved, out->sums + j, sizeof moved);
        const vec real = __builtin_convertvector(exact - zero * moved, vec);
        vec_store(y + j, vec_fma(real, vec_splat(scale) * vec_load(out->scale + j), vec_load(out->bias + j)));
    }
    for (; j < out->columns; j++)
        y[j] = fmaf((float)(sum[j] - zero * out->sums[j]), scale * out->scale[j], out->bias[j]);
}

static AMX_TARGET void amx_row_bfloat16(const packed_tile_out *out, size_t r, const char *sums)
{
    const float *sum = (const float *)(const void *)sums;
    float *y = out->y + r * out->stride;
    size_t j = 0;
    for (; j + LANES <= out->columns; j += LANES) {
        const vec v = vec_load(sum + j) + vec_load(out->bias + j);
        vec_store(y + j, out->begun ? v + vec_load(y + j) : v);
    }
    for (; j < out->columns; j++)
        y[j] = packed_result(out, r, j, sum[j]);
}

/* Whether registers can begin with what the results begin with, biases or what is there, and go to their place as
 * they are. */
static bool amx_goes_straight(const packed_tile_out *out)
{
    static const float none[PACKED_COLUMNS];
    return out->columns == PACKED_COLUMNS && (!out->begun || memcmp(out->bias, none, sizeof none) == 0);
}

/* A tile's rows from number r on. */
typedef struct amx_part {
    const packed_tile_out *out;
    size_t r, rows;
    bool straight;
    char *sums; /* room for them */
} amx_part;

static AMX_TARGET void amx_begin_int8(const amx_part *p)
{
    amx_zero(p->rows > AMX_ROWS);
}

static AMX_TARGET void amx_end_int8(const amx_part *p)
{
    amx_store_sums(p->rows > AMX_ROWS, p->sums, PACKED_STEP);
    for (size_t i = 0; i < p->rows; i++)
        amx_row_int8(p->out, p->r + i, p->sums + i * PACKED_STEP);
}

static AMX_TARGET void amx_begin_bfloat16(const amx_part *p)
{
    const packed_tile_out *out = p->out;
    const bool lower = p->rows > AMX_ROWS;
    if (p->straight && out->begun)
        amx_load_sums(lower, (const char *)(out->y + p->r * out->stride), out->stride * sizeof(float));
    else if (p->straight)
        amx_load_sums(lower, (const char *)out->bias, 0);
    else
        amx_zero(lower);
}

static AMX_TARGET void amx_end_bfloat16(const amx_part *p)
{
    const packed_tile_out *out = p->out;
    const bool lower = p->rows > AMX_ROWS;
    if (p->straight) {
        amx_store_sums(lower, (char *)(out->y + p->r * out->stride), out->stride * sizeof(float));
        return;
    }
    amx_store_sums(lower, p->sums, PACKED_STEP);
    for (size_t i = 0; i < p->rows; i++)
        amx_row_bfloat16(out, p->r + i, p->sums + i * PACKED_STEP);
}

/* With 16 rows a tile has five registers in use instead of eight. There are phases, it seems while the core's other
 * thread has tiles too, in which eight leave the processor none to go on with, and each product waits for the one before:
 * then eight gave 401 and 480 GFLOP/s in bfloat16 where five gave 773 to 818, and 1376 to 1469 either at other times. The
 * panel is read twice as often, for which it has to be in the first-level cache: one of 96 KiB at 1223 instead of 1608. */
enum { AMX_PANEL_NEAR = 32 * 1024 /* bytes */ };

static size_t amx_rows_at_once(size_t steps)
{
    return steps * PACKED_STEP <= AMX_PANEL_NEAR ? AMX_ROWS : AMX_TILE_ROWS;
}

/* MOST rows at a time. Registers are configured anew only where a tile has another height than the one before. */
#define AMX_TILE(NAME, TARGET, STEPS, BEGIN, END, MOST)                                                                \
    static TARGET void NAME(size_t rows, size_t steps, const char *a, size_t stride, const char *panel,                \
                            const packed_tile_out *out)                                                                \
    {                                                                                                                  \
        _Alignas(64) char sums[AMX_TILE_ROWS * PACKED_STEP];                                                           \
        const size_t whole = steps / AMX_GROUPS * AMX_GROUPS;                                                          \
        const size_t most = (MOST);                                                                                    \
        amx_part p = {.out = out, .straight = amx_goes_straight(out), .sums = sums};                                   \
        amx_rest rest;                                                                                                 \
        amx_rest_panel(&rest, steps - whole, panel + whole * PACKED_STEP);                                             \
        const size_t fetch_bytes = amx_fetch_bytes(out, rows, most);                                                   \
        const char *fetch = out->fetch;                                                                                \
        for (size_t shaped = 0; p.r < rows; p.r += p.rows, a += p.rows * stride) {                                     \
            p.rows = rows - p.r < most ? rows - p.r : most;                                                            \
            if (p.rows != shaped) {                                                                                    \
                const amx_config config = amx_shape(p.rows);                                                           \
                AMX_CONFIGURE(&config);                                                                                \
                shaped = p.rows;                                                                                       \
            }                                                                                                          \
            if (rest.groups > 0)                                                                                       \
                amx_rest_rows(&rest, p.rows, a + 4 * whole, stride);                                                   \
            amx_fetch_results(out, p.r, p.rows);                                                                       \
            BEGIN(&p);                                                                                                 \
            STEPS(p.rows > AMX_ROWS, steps, a, stride, panel, &rest, fetch, fetch_bytes);                              \
            fetch += steps / AMX_GROUPS * fetch_bytes;                                                                 \
            END(&p);                                                                                                   \
        }                                                                                                              \
        AMX_RELEASE();                                                                                                 \
    }

AMX_TILE(amx_tile_int8, AMX_TARGET, amx_steps_int8, amx_begin_int8, amx_end_int8, amx_rows_at_once(steps))
AMX_TILE(amx_tile_bfloat16, AMX_TARGET, amx_steps_bfloat16, amx_begin_bfloat16, amx_end_bfloat16,
         amx_rows_at_once(steps))
