#include "tests/common/testing.h"

#include "base/random.h"
#include "model/kernels.h"
#include "model/packed_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that are no multiple of a tile, a panel or a group, and some that are. */
static const struct {
    size_t n, k, rows;
} SHAPES[] = {{1, 1, 1},    {2, 3, 5},    {15, 7, 12},  {16, 16, 13},  {17, 31, 11},   {31, 64, 4},
              {33, 40, 24}, {64, 65, 97}, {70, 40, 30}, {120, 70, 96}, {96, 384, 193}, {23, 1000, 13}};

enum { N_MAX = 128, K_MAX = 1000, ROWS_MAX = 200 };

static float weight[N_MAX * K_MAX], bias[N_MAX], x[ROWS_MAX * K_MAX], expected[ROWS_MAX * N_MAX],
    found[ROWS_MAX * N_MAX];

static void fill(float *out, size_t n, random_state *r, float width)
{
    for (size_t i = 0; i < n; i++)
        out[i] = width * (float)(random_unit(r) - 0.4);
}

static void round_to_bfloat16(float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        packed_generic.to_bfloat16(values + i, 1, &half);
        const uint32_t bits = (uint32_t)half << 16;
        memcpy(values + i, &bits, sizeof bits);
    }
}

static void multiply(const packed_kernels *k, packed_precision precision, size_t n, size_t columns, size_t rows,
                     packed_function *f, float *y)
{
    sem_error error;
    packed *p;
    float *space = malloc(packed_space(columns) * sizeof *space);
    ck_assert_ptr_nonnull(space);
    ck_ok(packed_create(&p, k, precision, n, columns, weight, bias, &error));
    memset(y, 0, sizeof expected);
    packed_multiply(p, rows, x, f, y, space);
    packed_destroy(p);
    free(space);
}

/* Every level of this machine, in tests of one precision; the last one asked for lasts. */
static packed_kernels chosen;

static const packed_kernels *level(size_t i, const char **name)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t at = 0; at <= i; at++)
        if (levels[at] == NULL)
            return NULL;
    *name = levels[i]->name;
    chosen = packed_choose(levels[i]->name);
    return &chosen;
}

static void check_near(const char *name, size_t shape, size_t count, float tolerance)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(fabsf(found[i] - expected[i]) <= tolerance, "%s, shape %zu, value %zu: %g, expected %g", name,
                      shape, i, (double)found[i], (double)expected[i]);
}

static void reference(size_t n, size_t k, size_t rows)
{
    for (size_t r = 0; r < rows; r++) {
        for (size_t j = 0; j < n; j++) {
            double sum = bias[j];
            for (size_t i = 0; i < k; i++)
                sum += (double)x[r * k + i] * weight[j * k + i];
            expected[r * n + j] = (float)sum;
        }
    }
}

/* The largest error of a sum of k products when each factor is off by a share. */
static float tolerance_of(packed_precision precision, size_t k)
{
    static const float shares[PACKED_PRECISIONS] = {1e-6f, 1.0f / 256, 1.0f / 128};
    return shares[precision] * 0.36f * 2 * (float)k + 1e-6f;
}

START_TEST(every_level_and_precision_comes_near_the_exact_product)
{
    random_state r;
    random_seed(&r, testing_seed());
    const char *name;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        fill(weight, SHAPES[s].n * SHAPES[s].k, &r, 1);
        fill(bias, SHAPES[s].n, &r, 1);
        fill(x, SHAPES[s].rows * SHAPES[s].k, &r, 1);
        for (size_t i = 0; level(i, &name) != NULL; i++) {
            for (packed_precision p = 0; p < PACKED_PRECISIONS; p++) {
                reference(SHAPES[s].n, SHAPES[s].k, SHAPES[s].rows);
                multiply(level(i, &name), p, SHAPES[s].n, SHAPES[s].k, SHAPES[s].rows, NULL, found);
                check_near(name, s, SHAPES[s].rows * SHAPES[s].n, tolerance_of(p, SHAPES[s].k));
            }
        }
    }
}
END_TEST

/* The portable products, of rows and weights rotated and rounded as at a level. */
static packed_kernels portable_like(const packed_kernels *k)
{
    packed_kernels portable = packed_generic;
    portable.vectors = k->vectors;
    portable.byte_most = k->byte_most;
    portable.narrow_steps = k->narrow_steps;
    return portable;
}

/* The portable products of rows and weights rotated as the level rotates them: sums in
 * another order are not the same in the last bit, and a value half way between two
 * bytes is then rounded to the other one. */
START_TEST(every_level_gives_what_the_portable_one_gives)
{
    random_state r;
    random_seed(&r, testing_seed());
    const char *name;
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        fill(weight, SHAPES[s].n * SHAPES[s].k, &r, 0.5f);
        fill(bias, SHAPES[s].n, &r, 1);
        fill(x, SHAPES[s].rows * SHAPES[s].k, &r, 3);
        for (packed_precision p = 0; p < PACKED_PRECISIONS; p++) {
            if (p == PACKED_BFLOAT16) /* some levels round rows and others need not */
                round_to_bfloat16(x, SHAPES[s].rows * SHAPES[s].k);
            for (size_t i = 0; level(i, &name) != NULL; i++) {
                const packed_kernels portable = portable_like(level(i, &name));
                multiply(&portable, p, SHAPES[s].n, SHAPES[s].k, SHAPES[s].rows, NULL, expected);
                multiply(level(i, &name), p, SHAPES[s].n, SHAPES[s].k, SHAPES[s].rows, NULL, found);
                check_near(name, s, SHAPES[s].rows * SHAPES[s].n, p == PACKED_INT8 ? 1e-5f : 1e-4f);
            }
        }
    }
}
END_TEST

/* Else a text's vector would depend on what is encoded with it. */
START_TEST(a_row_has_the_same_bits_alone_and_among_others)
{
    enum { MANY = 100, WIDTH = 75, OUT = 70 };
    random_state r;
    random_seed(&r, testing_seed());
    fill(weight, OUT * WIDTH, &r, 0.5f);
    fill(bias, OUT, &r, 1);
    fill(x, MANY * WIDTH, &r, 3);
    const char *name;
    for (size_t i = 0; level(i, &name) != NULL; i++) {
        for (packed_precision p = 0; p < PACKED_PRECISIONS; p++) {
            multiply(level(i, &name), p, OUT, WIDTH, MANY, NULL, expected);
            for (size_t few = 1; few < MANY; few += few < 17 ? 1 : 29) {
                multiply(level(i, &name), p, OUT, WIDTH, few, NULL, found);
                ck_assert_msg(memcmp(found, expected, few * OUT * sizeof *found) == 0,
                              "%s: %zu rows in %s have other bits", name, few, packed_precision_name(p));
            }
        }
    }
}
END_TEST

/* Where products of bfloat16 are slow they are not chosen, and must be right all the same. */
START_TEST(products_of_bfloat16_are_right_where_they_are_slow)
{
#ifdef PACKED_X86
    const char *name;
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++) {
        fill(weight, SHAPES[s].n * SHAPES[s].k, &r, 0.5f);
        fill(bias, SHAPES[s].n, &r, 1);
        fill(x, SHAPES[s].rows * SHAPES[s].k, &r, 3);
        for (size_t i = 0; level(i, &name) != NULL; i++) {
            if (strcmp(name, "avx512") != 0)
                continue;
            packed_kernels narrow = *level(i, &name);
            packed_add_avx512_bf16(&narrow);
            multiply(&packed_generic, PACKED_BFLOAT16, SHAPES[s].n, SHAPES[s].k, SHAPES[s].rows, NULL, expected);
            multiply(&narrow, PACKED_BFLOAT16, SHAPES[s].n, SHAPES[s].k, SHAPES[s].rows, NULL, found);
            float limit = narrow.reads_floats[PACKED_BFLOAT16] ? tolerance_of(PACKED_BFLOAT16, SHAPES[s].k) * 3 : 1e-4f;
            check_near(name, s, SHAPES[s].rows * SHAPES[s].n, limit);
        }
    }
#endif
}
END_TEST

/* Weights at the ends of their range, or of what a level with narrow sums allows. */
static void fill_ends(const packed_kernels *k, size_t choices, char *panel, size_t bytes, random_state *r)
{
    const int32_t most = k->narrow_steps == 0 ? 127 : INT16_MAX / k->byte_most / (int32_t)(2 * k->narrow_steps);
    const int8_t ends[] = {(int8_t)-most, (int8_t)most, 1, -1};
    for (size_t i = 0; i < bytes; i++)
        panel[i] = (char)ends[random_below(r, choices)];
}

enum { STEPS = 51, ROWS = PACKED_TILE_ROWS_MAX };

static void check_sums(const char *name, const packed_kernels *k, const char *rows, const char *panel,
                       const int32_t *row_zero, random_state *r)
{
    static float y[ROWS * PACKED_COLUMNS], ones[PACKED_COLUMNS], zeros[PACKED_COLUMNS], row_scale[ROWS];
    const size_t columns = k->columns[PACKED_INT8], count = 1 + random_below(r, k->tile_rows[PACKED_INT8]);
    int32_t sums[PACKED_COLUMNS] = {0};
    for (size_t i = 0; i < STEPS * columns * 4; i++)
        sums[i % (columns * 4) / 4] += panel[i];
    for (size_t i = 0; i < ROWS; i++)
        row_scale[i] = 1;
    for (size_t i = 0; i < PACKED_COLUMNS; i++)
        ones[i] = 1;
    const packed_tile_out out = {.y = y,
                                 .stride = columns,
                                 .columns = columns,
                                 .bias = zeros,
                                 .scale = ones,
                                 .sums = sums,
                                 .row_scale = row_scale,
                                 .row_zero = row_zero,
                                 .fetch = panel};
    k->tile[PACKED_INT8](count, STEPS, rows, STEPS * 4, panel, &out);
    for (size_t i = 0; i < count * columns; i++) {
        size_t row = i / columns, j = i % columns;
        int32_t exact = -row_zero[row] * sums[j];
        for (size_t p = 0; p < STEPS * 4; p++)
            exact += (uint8_t)rows[row * STEPS * 4 + p] * panel[(p / 4 * columns + j) * 4 + p % 4];
        ck_assert_msg((int32_t)y[i] == exact, "%s: %g, expected %d", name, (double)y[i], exact);
    }
}

/* Bytes at the ends of their range: a level that saturates on the way is found out. */
START_TEST(integer_sums_are_exact_at_every_level)
{
    static char panel[STEPS * PACKED_STEP], rows[ROWS * STEPS * 4];
    int32_t row_zero[ROWS];
    random_state r;
    random_seed(&r, testing_seed());
    const char *name;
    for (int round = 0; round < 40; round++) {
        for (size_t l = 0; level(l, &name) != NULL; l++) {
            const packed_kernels *k = level(l, &name);
            fill_ends(k, round < 20 ? 2 : 4, panel, sizeof panel, &r);
            for (size_t i = 0; i < sizeof rows; i++)
                rows[i] = (char)(random_below(&r, 2) == 0 ? 0 : k->byte_most);
            for (size_t i = 0; i < ROWS; i++)
                row_zero[i] = (int32_t)random_below(&r, (uint64_t)k->byte_most + 1);
            check_sums(name, k, rows, panel, row_zero, &r);
        }
    }
}
END_TEST

/* Whatever the weights are: here those of a column have one sign after they are rotated, and
 * rows their largest byte wherever that makes sums large. */
START_TEST(weights_are_rounded_so_that_narrow_sums_suffice)
{
    enum { K = 384, N = 40 };
    static float first[K], turned[K];
    random_state r;
    random_seed(&r, testing_seed());
    const char *name;
    for (size_t l = 0; level(l, &name) != NULL; l++) {
        const packed_kernels *k = level(l, &name);
        const packed_kernels portable = portable_like(k);
        for (size_t j = 0; j < N; j++) {
            for (size_t i = 0; i < K; i++)
                first[i] = j % 2 == 0 ? 1 : (float)random_unit(&r);
            k->vectors->spread(first, K, turned); /* all but its own inverse */
            memcpy(weight + j * K, turned, sizeof turned);
            memcpy(x + j * K, turned, sizeof turned);
        }
        multiply(&portable, PACKED_INT8, N, K, N, NULL, expected);
        multiply(k, PACKED_INT8, N, K, N, NULL, found);
        for (size_t i = 0; i < N * N; i++)
            ck_assert_msg(fabsf(found[i] - expected[i]) <= 1e-4f * fabsf(expected[i]) + 1e-3f, "%s: %g, expected %g",
                          name, (double)found[i], (double)expected[i]);
    }
}
END_TEST

/* Of x[n]. */
static void check_bytes(const packed_kernels *k, size_t n, int32_t most)
{
    static uint8_t bytes[2][K_MAX];
    float scale[2];
    int32_t zero[2];
    packed_generic.to_int8(x, n, most, bytes[0], &scale[0], &zero[0]);
    k->to_int8(x, n, most, bytes[1], &scale[1], &zero[1]);
    ck_assert_int_eq(memcmp(bytes[0], bytes[1], n), 0);
    ck_assert(scale[0] == scale[1] && zero[0] == zero[1]);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_le(bytes[0][i], most);
        ck_assert_float_le(fabsf(scale[0] * (float)(bytes[0][i] - zero[0]) - x[i]), scale[0] * 1.01f);
    }
}

START_TEST(rows_are_rounded_alike_at_every_level)
{
    static uint16_t half[2][K_MAX];
    random_state r;
    random_seed(&r, testing_seed());
    const char *name;
    for (size_t n = 1; n < 100; n++) {
        fill(x, n, &r, (float)n);
        if (n % 10 == 3)
            memset(x, 0, n * sizeof *x);
        if (n % 10 == 4)
            for (size_t i = 0; i < n; i++)
                x[i] = fabsf(x[i]) + 1;
        packed_generic.to_bfloat16(x, n, half[0]);
        for (size_t l = 0; level(l, &name) != NULL; l++) {
            level(l, &name)->to_bfloat16(x, n, half[1]);
            ck_assert_int_eq(memcmp(half[0], half[1], n * sizeof half[0][0]), 0);
            check_bytes(level(l, &name), n, UINT8_MAX);
            check_bytes(level(l, &name), n, 150);
        }
    }
}
END_TEST

START_TEST(rows_too_wide_for_a_float_give_nan_at_every_level)
{
    enum { ROW = 70 };
    const char *name;
    for (size_t l = 0; level(l, &name) != NULL; l++) {
        uint8_t bytes[ROW];
        random_state r;
        float scale = 0;
        int32_t zero = 1;
        random_seed(&r, testing_seed());
        fill(x, ROW, &r, 1);
        x[3] = 3e38f;
        x[40] = -3e38f;
        level(l, &name)->to_int8(x, ROW, UINT8_MAX, bytes, &scale, &zero);
        ck_assert_msg(isnan(scale) && zero == 0, "%s: a step of %g, 0 at %d", name, (double)scale, zero);
    }
}
END_TEST

static void twice(const float *from, size_t n, float *to)
{
    for (size_t i = 0; i < n; i++)
        to[i] = 2 * from[i];
}

START_TEST(a_function_of_the_rows_leaves_them_as_they_are)
{
    random_state r;
    random_seed(&r, testing_seed());
    const char *name;
    for (size_t i = 0; level(i, &name) != NULL; i++) {
        for (packed_precision p = 0; p < PACKED_PRECISIONS; p++) {
            fill(weight, 40 * 33, &r, 1);
            fill(x, 100 * 33, &r, 1);
            multiply(level(i, &name), p, 40, 33, 100, twice, found);
            twice(x, 100 * 33, x);
            multiply(level(i, &name), p, 40, 33, 100, NULL, expected);
            ck_assert_int_eq(memcmp(found, expected, sizeof found), 0);
        }
    }
}
END_TEST

START_TEST(int8_sums_that_could_overflow_are_refused)
{
    sem_error error;
    packed *p;
    ck_fails(packed_create(&p, &packed_generic, PACKED_INT8, 1, 66312, weight, NULL, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/packed");
    TCase *c = tcase_create("packed");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, every_level_and_precision_comes_near_the_exact_product);
    tcase_add_test(c, every_level_gives_what_the_portable_one_gives);
    tcase_add_test(c, a_row_has_the_same_bits_alone_and_among_others);
    tcase_add_test(c, products_of_bfloat16_are_right_where_they_are_slow);
    tcase_add_test(c, integer_sums_are_exact_at_every_level);
    tcase_add_test(c, weights_are_rounded_so_that_narrow_sums_suffice);
    tcase_add_test(c, rows_are_rounded_alike_at_every_level);
    tcase_add_test(c, rows_too_wide_for_a_float_give_nan_at_every_level);
    tcase_add_test(c, a_function_of_the_rows_leaves_them_as_they_are);
    tcase_add_test(c, int8_sums_that_could_overflow_are_refused);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
