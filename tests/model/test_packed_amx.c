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

/* Sizes on both sides of a tile's rows, a panel's columns and a step of k. */
static const struct {
    size_t n, k, rows;
} SHAPES[] = {{1, 1, 1},      {32, 64, 16},   {33, 65, 17},   {31, 63, 32}, {70, 40, 33}, {64, 128, 31},
              {96, 384, 100}, {40, 150, 193}, {32, 1536, 15}, {5, 2, 96},   {33, 70, 7},  {33, 70, 8}};

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
            ck_assert_msg(fabsf(found[i] - expected[i]) <= tolerance, "shape %zu, value %zu: %g, expected %g", s, i,
                          (double)found[i], (double)expected[i]);
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

int main(void)
{
    Suite *suite = suite_create("model/packed_amx");
    TCase *c = tcase_create("amx");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, amx_int8_gives_what_the_portable_kernel_gives);
    tcase_add_test(c, amx_bfloat16_gives_what_the_portable_kernel_gives);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
