/* The walk of the AMX kernels, with the processor's instructions put into C: it is
 * tested on machines that have no AMX as well. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "model/vectors_generic.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define AMX_TARGET
#define AMX_CONFIGURE(config)          configure(config)
#define AMX_RELEASE()                  release()
#define AMX_ZERO(t)                    zero(t)
#define AMX_LOAD(t, from, stride)      load(t, from, stride)
#define AMX_STORE(t, to, stride)       store(t, to, stride)
#define AMX_INT8(sum, left, right)     multiply_int8(sum, left, right)
#define AMX_BFLOAT16(sum, left, right) multiply_bfloat16(sum, left, right)
#define AMX_FETCH_RESULT(address)      (void)(address)

enum { REGISTERS = 8, ROWS = 16, ROW_BYTES = 64 };

typedef struct tile_register {
    size_t rows, row_bytes;
    unsigned char data[ROWS][ROW_BYTES];
} tile_register;

static tile_register registers[REGISTERS];
static bool configured;

static void configure(const void *config)
{
    const unsigned char *c = config;
    ck_assert_uint_eq(c[0], 1); /* the only palette there is */
    configured = true;
    memset(registers, 0, sizeof registers);
    for (size_t t = 0; t < REGISTERS; t++) {
        uint16_t bytes;
        memcpy(&bytes, c + 16 + 2 * t, sizeof bytes);
        registers[t].row_bytes = bytes;
        registers[t].rows = c[48 + t];
        ck_assert_uint_le(registers[t].row_bytes, ROW_BYTES);
        ck_assert_uint_le(registers[t].rows, ROWS);
    }
}

/* The processor refuses a register without a shape. */
static tile_register *shaped(size_t t)
{
    ck_assert(configured && registers[t].rows > 0 && registers[t].row_bytes > 0);
    return &registers[t];
}

static void release(void)
{
    ck_assert(configured);
    configured = false;
}

static void zero(size_t t)
{
    memset(shaped(t)->data, 0, sizeof registers[t].data);
}

static void load(size_t t, const void *from, size_t stride)
{
    tile_register *tile = shaped(t);
    zero(t);
    for (size_t r = 0; r < tile->rows; r++)
        memcpy(tile->data[r], (const char *)from + r * stride, tile->row_bytes);
}

static void store(size_t t, void *to, size_t stride)
{
    const tile_register *tile = shaped(t);
    for (size_t r = 0; r < tile->rows; r++)
        memcpy((char *)to + r * stride, tile->data[r], tile->row_bytes);
}

/* That the shapes fit each other, as the processor demands. */
static void check_product(const tile_register *sum, const tile_register *left, const tile_register *right)
{
    ck_assert_uint_eq(sum->rows, left->rows);
    ck_assert_uint_eq(sum->row_bytes, right->row_bytes);
    ck_assert_uint_eq(left->row_bytes, 4 * right->rows);
}

static void multiply_int8(size_t s, size_t l, size_t r)
{
    tile_register *sum = shaped(s), *left = shaped(l), *right = shaped(r);
    check_product(sum, left, right);
    for (size_t i = 0; i < sum->rows; i++) {
        for (size_t j = 0; j < sum->row_bytes / 4; j++) {
            int32_t value;
            memcpy(&value, sum->data[i] + 4 * j, sizeof value);
            for (size_t p = 0; p < left->row_bytes; p++)
                value += left->data[i][p] * (int8_t)right->data[p / 4][4 * j + p % 4];
            memcpy(sum->data[i] + 4 * j, &value, sizeof value);
        }
    }
}

static float widen(const unsigned char *half)
{
    unsigned char wide[4] = {0, 0, half[0], half[1]};
    float value;
    memcpy(&value, wide, sizeof value);
    return value;
}

static void multiply_bfloat16(size_t s, size_t l, size_t r)
{
    tile_register *sum = shaped(s), *left = shaped(l), *right = shaped(r);
    check_product(sum, left, right);
    for (size_t i = 0; i < sum->rows; i++) {
        for (size_t j = 0; j < sum->row_bytes / 4; j++) {
            float value;
            memcpy(&value, sum->data[i] + 4 * j, sizeof value);
            for (size_t p = 0; p < left->row_bytes / 2; p++)
                value += widen(left->data[i] + 2 * p) * widen(right->data[p / 2] + 4 * j + 2 * (p % 2));
            memcpy(sum->data[i] + 4 * j, &value, sizeof value);
        }
    }
}

#include "model/packed_amx_body.h"
#include "model/packed_split_body.h"

/* Sizes on both sides of a tile's rows, a panel's columns and a step of k. */
static const struct {
    size_t n, k, rows;
} SHAPES[] = {{1, 1, 1},      {32, 64, 16},   {33, 65, 17}, {31, 63, 32}, {70, 40, 33}, {64, 128, 31}, {96, 384, 100},
              {40, 150, 193}, {32, 1536, 15}, {5, 2, 96},   {33, 70, 7},  {33, 70, 8},  {33, 1536, 50}};

enum { N_MAX = 128, K_MAX = 1536, ROWS_MAX = 200 };

static float weight[N_MAX * K_MAX], bias[N_MAX], x[ROWS_MAX * K_MAX], expected[ROWS_MAX * N_MAX],
    found[ROWS_MAX * N_MAX];

static void fill(float *out, size_t n, random_state *r)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(random_unit(r) - 0.4);
}

static void multiply(const packed_kernels *k, packed_precision precision, size_t s, float *y)
{
    sem_error error;
    packed *p;
    float *space = malloc(packed_space(SHAPES[s].k) * sizeof *space);
    ck_assert_ptr_nonnull(space);
    ck_ok(packed_create(&p, k, precision, SHAPES[s].n, SHAPES[s].k, weight, bias, &error));
    packed_multiply(p, SHAPES[s].rows, x, NULL, y, space);
    packed_destroy(p);
    free(space);
}

static void expect_portable_products(packed_precision precision, packed_tile *tile, float tolerance)
{
    packed_kernels amx = packed_generic;
    amx.tile[precision] = tile;
    amx.tile_rows[precision] = PACKED_TILE_ROWS_MAX;
    amx.few[precision] = packed_generic.tile[precision];
    amx.few_rows[precision] = packed_generic.tile_rows[precision];
    amx.few_below[precision] = 8;
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        fill(weight, SHAPES[s].n * SHAPES[s].k, &r);
        fill(bias, SHAPES[s].n, &r);
        fill(x, SHAPES[s].rows * SHAPES[s].k, &r);
        multiply(&packed_generic, precision, s, expected);
        multiply(&amx, precision, s, found);
        for (size_t i = 0; i < SHAPES[s].rows * SHAPES[s].n; i++)
            ck_assert_msg(fabsf(found[i] - expected[i]) <= tolerance * fmaxf(1, fabsf(expected[i])),
                          "shape %zu, value %zu: %g, expected %g", s, i, (double)found[i], (double)expected[i]);
    }
}

START_TEST(amx_int8_gives_what_the_portable_kernel_gives)
{
    expect_portable_products(PACKED_INT8, amx_tile_int8, 1e-6f);
}
END_TEST

START_TEST(amx_bfloat16_gives_what_the_portable_kernel_gives)
{
    expect_portable_products(PACKED_BFLOAT16, amx_tile_bfloat16, 1e-3f);
}
END_TEST

/* The float32 that two bytes of a part stand for. */
static float part_of(const char *parts, size_t i, size_t p)
{
    const size_t group = i % PACKED_SPLIT % SPLIT_HALF, late = i % PACKED_SPLIT / SPLIT_HALF;
    const char *at = parts + (i / PACKED_SPLIT * PACKED_PARTS + p) * SPLIT_ROW + group * 4 + late * 2;
    return widen((const unsigned char *)at);
}

START_TEST(parts_add_up_to_what_they_are_of)
{
    enum { COUNT = 75, BLOCKS = (COUNT + PACKED_SPLIT - 1) / PACKED_SPLIT };
    float values[COUNT];
    char parts[BLOCKS * PACKED_PARTS * SPLIT_ROW];
    random_state r;
    random_seed(&r, testing_seed());
    fill(values, COUNT, &r);
    for (size_t i = 0; i < COUNT; i++)
        values[i] = ldexpf(values[i], (int)(i % 200) - 100);
    memset(parts, 0xFF, sizeof parts);
    split_row(values, COUNT, parts);
    for (size_t i = 0; i < BLOCKS * PACKED_SPLIT; i++) {
        const float first = part_of(parts, i, 0), second = part_of(parts, i, 1), value = i < COUNT ? values[i] : 0;
        ck_assert(first + second + part_of(parts, i, 2) == value);
        ck_assert(fabsf(value - first) <= ldexpf(fabsf(value), -8));
        ck_assert(fabsf(value - first - second) <= ldexpf(fabsf(value), -16));
    }
}
END_TEST

START_TEST(columns_give_the_parts_of_rows)
{
    enum { DEPTH = 75, COLUMNS = 37, BLOCKS = (DEPTH + PACKED_SPLIT - 1) / PACKED_SPLIT };
    enum { ROW = BLOCKS * PACKED_PARTS * SPLIT_ROW, STRIDE = ROW + 64 };
    static float column[DEPTH];
    static char turned[COLUMNS * STRIDE], row[ROW];
    random_state r;
    random_seed(&r, testing_seed());
    fill(x, DEPTH * COLUMNS, &r);
    for (size_t k = DEPTH - 40; k <= DEPTH; k++) {
        memset(turned, 0xFF, sizeof turned);
        memset(row, 0, sizeof row);
        split_columns(x, COLUMNS, k, COLUMNS, turned, STRIDE);
        const size_t bytes = (k + PACKED_SPLIT - 1) / PACKED_SPLIT * PACKED_PARTS * SPLIT_ROW;
        for (size_t j = 0; j < COLUMNS; j++) {
            for (size_t i = 0; i < k; i++)
                column[i] = x[i * COLUMNS + j];
            split_row(column, k, row);
            ck_assert_int_eq(memcmp(turned + j * STRIDE, row, bytes), 0);
            ck_assert_int_eq(turned[j * STRIDE + bytes], (char)0xFF); /* nothing behind */
        }
    }
}
END_TEST

/* found[rows, n] = x[rows, k] weight[k, n] + bias */
static void multiply_split(size_t rows, size_t n, size_t k)
{
    const size_t blocks = (k + PACKED_SPLIT - 1) / PACKED_SPLIT, steps = blocks * PACKED_SPLIT_STEPS;
    const size_t stride = steps * 4 + 64;
    char *left = malloc(rows * stride), *panel = malloc(steps * PACKED_STEP);
    ck_assert(left != NULL && panel != NULL);
    for (size_t r = 0; r < rows; r++)
        split_row(x + r * k, k, left + r * stride);
    for (size_t j = 0; j < n; j += PACKED_COLUMNS) {
        packed_tile_out out = {
            .stride = n, .columns = n - j < PACKED_COLUMNS ? n - j : PACKED_COLUMNS, .bias = bias + j};
        out.fetch = panel;
        split_panel(weight + j, n, k, out.columns, panel);
        for (size_t r = 0, some; r < rows; r += some) {
            some = rows - r < PACKED_TILE_ROWS_MAX ? rows - r : PACKED_TILE_ROWS_MAX;
            out.y = found + r * n + j;
            amx_tile_split(some, steps, left + r * stride, stride, panel, &out);
        }
    }
    free(left);
    free(panel);
}

/* Rows with one value each, so that results are single products, whose first, second and third parts each count. */
START_TEST(every_product_of_parts_is_added)
{
    enum { DEPTH = 70, COLUMNS = 37, KINDS = 3 };
    const float kinds[KINDS] = {1, 1 + 0x1p-9f, 1 + 0x1p-9f + 0x1p-18f};
    static const size_t rows[] = {5, 16, 33};
    memset(bias, 0, sizeof bias);
    for (size_t i = 0; i < DEPTH * COLUMNS; i++)
        weight[i] = kinds[(i / COLUMNS + i % COLUMNS) % KINDS];
    for (size_t c = 0; c < sizeof rows / sizeof *rows; c++) {
        memset(x, 0, rows[c] * DEPTH * sizeof *x);
        for (size_t r = 0; r < rows[c]; r++)
            x[r * DEPTH + r * 11 % DEPTH] = kinds[r % KINDS];
        multiply_split(rows[c], COLUMNS, DEPTH);
        for (size_t i = 0; i < rows[c] * COLUMNS; i++) {
            const size_t r = i / COLUMNS, at = r * 11 % DEPTH;
            const float nearest = (float)((double)kinds[r % KINDS] * (double)weight[at * COLUMNS + i % COLUMNS]);
            ck_assert_msg(found[i] == nearest, "%zu rows, value %zu: %a, not %a", rows[c], i, (double)found[i],
                          (double)nearest);
        }
    }
}
END_TEST

START_TEST(amx_float32_is_as_exact_as_float32)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        const size_t n = SHAPES[s].n, k = SHAPES[s].k, rows = SHAPES[s].rows;
        fill(weight, n * k, &r);
        fill(bias, n, &r);
        fill(x, rows * k, &r);
        multiply_split(rows, n, k);
        for (size_t i = 0; i < rows * n; i++) {
            double sum = (double)bias[i % n], magnitudes = fabs(sum);
            for (size_t p = 0; p < k; p++) {
                const double product = (double)x[i / n * k + p] * (double)weight[p * n + i % n];
                sum += product;
                magnitudes += fabs(product);
            }
            const double tolerance = ldexp(1 + sqrt(6 * (double)k), -23) * magnitudes;
            ck_assert_msg(fabs((double)found[i] - sum) <= tolerance, "shape %zu, value %zu: %.9g, expected %.9g", s, i,
                          (double)found[i], sum);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/packed_amx");
    TCase *c = tcase_create("amx");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, amx_int8_gives_what_the_portable_kernel_gives);
    tcase_add_test(c, amx_bfloat16_gives_what_the_portable_kernel_gives);
    tcase_add_test(c, parts_add_up_to_what_they_are_of);
    tcase_add_test(c, columns_give_the_parts_of_rows);
    tcase_add_test(c, every_product_of_parts_is_added);
    tcase_add_test(c, amx_float32_is_as_exact_as_float32);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
