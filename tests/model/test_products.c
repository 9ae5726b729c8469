#include "tests/common/testing.h"

#include "base/random.h"
#include "model/packed_levels.h"
#include "model/products.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Sizes that are no multiple of a tile, a panel, a group or a block, and some that are. */
static const struct {
    size_t tokens, inputs, outputs;
} SHAPES[] = {{1, 1, 1},     {2, 3, 5},     {5, 33, 31},   {13, 40, 70},   {96, 64, 96},   {97, 65, 33},  {255, 24, 17},
              {256, 16, 40}, {257, 31, 64}, {600, 48, 20}, {40, 400, 130}, {33, 130, 400}, {20, 1100, 70}};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES, VALUES_MAX = 600 * 400 };

static sem_error error;

typedef struct product_case {
    products *products;
    product_weights weights;
    size_t tokens, inputs, outputs;
    char *memory, *space;
    float *w, *x, *dy, *bias;  /* what is multiplied */
    float *found;              /* [the largest of all results] */
    double *wanted, *absolute; /* of the exact products, and of those of magnitudes: what an error is measured by */
} product_case;

static float *random_values(size_t n, random_state *r)
{
    float *values = malloc(n * sizeof *values);
    ck_assert_ptr_nonnull(values);
    for (size_t i = 0; i < n; i++)
        values[i] = (float)(2 * random_unit(r) - 1);
    return values;
}

static void arrange(product_case *c, const char *level, packed_precision precision, size_t shape)
{
    random_state r;
    random_seed(&r, testing_seed() + shape);
    *c = (product_case){
        .tokens = SHAPES[shape].tokens, .inputs = SHAPES[shape].inputs, .outputs = SHAPES[shape].outputs};
    ck_ok(products_create_at(&c->products, precision, level, &error));
    const size_t bytes = product_weights_bytes(c->products, c->outputs, c->inputs);
    const size_t space = products_space(c->products, c->inputs, c->outputs);
    ck_assert_uint_eq(bytes % 64, 0);
    c->memory = aligned_alloc(64, bytes);
    c->space = aligned_alloc(64, space);
    c->found = malloc(VALUES_MAX * sizeof *c->found);
    c->wanted = malloc(VALUES_MAX * sizeof *c->wanted);
    c->absolute = malloc(VALUES_MAX * sizeof *c->absolute);
    ck_assert(c->memory && c->space && c->found && c->wanted && c->absolute);
    memset(c->memory, 0, bytes);
    memset(c->space, 0xFF, space); /* no number: what is read by mistake shows */
    c->w = random_values(c->outputs * c->inputs, &r);
    c->x = random_values(c->tokens * c->inputs, &r);
    c->dy = random_values(c->tokens * c->outputs, &r);
    c->bias = random_values(c->outputs, &r);
    product_weights_create(&c->weights, c->products, c->outputs, c->inputs, c->memory);
    for (size_t part = 3; part-- > 0;)
        product_weights_pack(&c->weights, c->products, c->w, part, 3, c->space);
}

static void release(product_case *c)
{
    products_destroy(c->products);
    free(c->memory);
    free(c->space);
    free(c->w);
    free(c->x);
    free(c->dy);
    free(c->bias);
    free(c->found);
    free(c->wanted);
    free(c->absolute);
}

/* wanted[m, n] = the sum over k of a and b, which are read with any two strides. */
static void multiply(product_case *c, size_t m, size_t n, size_t k, const float *a, size_t a_row, size_t a_step,
                     const float *b, size_t b_column, size_t b_step)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0, magnitudes = 0;
            for (size_t p = 0; p < k; p++) {
                const double product = (double)a[i * a_row + p * a_step] * b[j * b_column + p * b_step];
                sum += product;
                magnitudes += fabs(product);
            }
            c->wanted[i * n + j] = sum;
            c->absolute[i * n + j] = magnitudes;
        }
    }
}

/* Rounded to bfloat16, each factor is off by up to 2^-9 of itself. */
static void check(const product_case *c, const char *what, const char *level, size_t count)
{
    const bool half = products_precision(c->products) == PACKED_BFLOAT16;
    for (size_t i = 0; i < count; i++) {
        const double tolerance = (half ? 1.0 / 256 : 2e-6) * (c->absolute[i] + 1);
        ck_assert_msg(fabs(c->found[i] - c->wanted[i]) <= tolerance,
                      "%s in %s at %s, %zu x %zu x %zu: [%zu] is %g, not %g", what,
                      packed_precision_name(products_precision(c->products)), level, c->tokens, c->inputs, c->outputs,
                      i, (double)c->found[i], c->wanted[i]);
    }
}

static void check_forward(product_case *c, const char *level)
{
    const size_t O = c->outputs;
    multiply(c, c->tokens, O, c->inputs, c->x, c->inputs, 1, c->w, c->inputs, 1);
    for (size_t i = 0; i < c->tokens * O; i++) {
        c->wanted[i] += c->bias[i % O];
        c->found[i] = NAN;
    }
    products_forward(c->products, &c->weights, c->tokens, c->x, c->bias, c->found, c->space);
    check(c, "forward", level, c->tokens * O);
}

static void check_backward_input(product_case *c, const char *level, bool add)
{
    const size_t count = c->tokens * c->inputs;
    multiply(c, c->tokens, c->inputs, c->outputs, c->dy, c->outputs, 1, c->w, 1, c->inputs);
    for (size_t i = 0; i < count; i++) {
        c->found[i] = add ? c->x[i] : NAN;
        c->wanted[i] += add ? c->x[i] : 0;
    }
    products_backward_input(c->products, &c->weights, c->tokens, c->dy, add, c->found, c->space);
    check(c, add ? "added backward input" : "backward input", level, count);
}

static void check_backward_weight(product_case *c, const char *level)
{
    const size_t count = c->outputs * c->inputs;
    float *d_bias = malloc(c->outputs * sizeof *d_bias);
    ck_assert_ptr_nonnull(d_bias);
    multiply(c, c->outputs, c->inputs, c->tokens, c->dy, 1, c->outputs, c->x, 1, c->inputs);
    for (size_t i = 0; i < count; i++) {
        c->found[i] = c->w[i];
        c->wanted[i] += c->w[i];
    }
    memcpy(d_bias, c->bias, c->outputs * sizeof *d_bias);
    char *gathered = aligned_alloc(64, product_gradient_bytes(c->products, c->inputs, c->outputs));
    ck_assert_ptr_nonnull(gathered);
    product_gradient g;
    product_gradient_create(&g, c->products, c->inputs, c->outputs, gathered);
    for (size_t t = 0, n; t < c->tokens; t += n) {
        n = c->tokens - t < PRODUCT_TOKENS ? c->tokens - t : PRODUCT_TOKENS;
        product_gradient_add(&g, c->products, n, c->x + t * c->inputs, c->dy + t * c->outputs, c->found, d_bias,
                             c->space);
    }
    product_gradient_finish(&g, c->products, c->found);
    free(gathered);
    check(c, "backward weight", level, count);
    for (size_t j = 0; j < c->outputs; j++) {
        double sum = c->bias[j];
        for (size_t t = 0; t < c->tokens; t++)
            sum += c->dy[t * c->outputs + j];
        ck_assert_double_eq_tol(d_bias[j], sum, 1e-4);
    }
    free(d_bias);
}

/* wanted[tokens, outputs], from factors that lie as rows or as columns, a few values apart. */
static void check_factors(product_case *c, const char *level, bool turned)
{
    const size_t M = c->tokens, K = c->inputs, N = c->outputs;
    char *left = aligned_alloc(64, product_rows_bytes(c->products, M, K));
    char *right = aligned_alloc(64, product_panels_bytes(c->products, K, N));
    ck_assert(left != NULL && right != NULL);
    product_factor a, b;
    if (turned) {
        a = product_rows_of_columns(c->products, c->x, M, M, K, left);
        b = product_panels_of_rows(c->products, c->w, K, K, N, right);
        multiply(c, M, N, K, c->x, 1, M, c->w, K, 1);
    } else {
        a = product_rows_of(c->products, c->x, K, M, K, left);
        b = product_panels_of(c->products, c->w, N, K, N, right);
        multiply(c, M, N, K, c->x, K, 1, c->w, 1, N);
    }
    for (size_t i = 0; i < M * N; i++)
        c->found[i] = NAN;
    products_multiply(c->products, &a, &b, c->found, N);
    check(c, turned ? "turned factors" : "factors", level, M * N);
    free(left);
    free(right);
}

START_TEST(products_are_those_of_the_definition_at_every_level)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++) {
        for (packed_precision precision = PACKED_FLOAT32; precision <= PACKED_BFLOAT16; precision++) {
            product_case c;
            arrange(&c, levels[l]->name, precision, (size_t)_i);
            check_forward(&c, levels[l]->name);
            check_backward_input(&c, levels[l]->name, false);
            check_backward_input(&c, levels[l]->name, true);
            check_backward_weight(&c, levels[l]->name);
            check_factors(&c, levels[l]->name, false);
            check_factors(&c, levels[l]->name, true);
            release(&c);
        }
    }
}
END_TEST

/* Sums of terms that differ by many orders of magnitude: x grows along k where the weights shrink, or both grow. */
static void scale_inner(product_case *c, bool both)
{
    for (size_t i = 0; i < c->inputs; i++) {
        const int power = (int)(i * 7 % 41) - 20;
        for (size_t t = 0; t < c->tokens; t++)
            c->x[t * c->inputs + i] = ldexpf(c->x[t * c->inputs + i], power);
        for (size_t j = 0; j < c->outputs; j++)
            c->w[j * c->inputs + i] = ldexpf(c->w[j * c->inputs + i], both ? power : -power);
    }
    product_weights_pack(&c->weights, c->products, c->w, 0, 1, c->space);
}

/* The largest error of products with the weights, in shares of the sum of the terms' magnitudes. */
static double forward_error(product_case *c)
{
    double most = 0;
    products_forward(c->products, &c->weights, c->tokens, c->x, NULL, c->found, c->space);
    for (size_t i = 0; i < c->tokens * c->outputs; i++)
        most = fmax(most, fabs(c->found[i] - c->wanted[i]) / c->absolute[i]);
    return most;
}

/* Of as many bits as float32 keeps of one term: what a product that is made of parts may leave out. */
static const double ONE_ROUNDING = 1.0 / (1 << 23);

START_TEST(float32_is_as_exact_at_every_level)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (int scaling = 0; scaling < 3; scaling++) {
        double portable = 0;
        for (size_t l = 0; levels[l] != NULL; l++) {
            product_case c;
            arrange(&c, levels[l]->name, PACKED_FLOAT32, (size_t)_i);
            if (scaling > 0)
                scale_inner(&c, scaling == 2);
            multiply(&c, c.tokens, c.outputs, c.inputs, c.x, c.inputs, 1, c.w, c.inputs, 1);
            const double found = forward_error(&c);
            portable = l == 0 ? found : portable;
            ck_assert_msg(found <= 2 * portable + ONE_ROUNDING, "at %s, %zu x %zu x %zu: %g, portable %g",
                          levels[l]->name, c.tokens, c.inputs, c.outputs, found, portable);
            release(&c);
        }
    }
}
END_TEST

/* A row that no number can come of makes no other row's product another one. */
static void check_not_finite(product_case *c, const char *level, float value)
{
    const size_t row = c->tokens / 2, O = c->outputs;
    float *before = malloc(c->tokens * O * sizeof *before);
    ck_assert_ptr_nonnull(before);
    products_forward(c->products, &c->weights, c->tokens, c->x, c->bias, before, c->space);
    const float kept = c->x[row * c->inputs];
    c->x[row * c->inputs] = value;
    products_forward(c->products, &c->weights, c->tokens, c->x, c->bias, c->found, c->space);
    c->x[row * c->inputs] = kept;
    for (size_t i = 0; i < c->tokens * O; i++)
        ck_assert_msg(i / O == row ? !isfinite(c->found[i]) : c->found[i] == before[i], "%g at %s: [%zu] is %g",
                      (double)value, level, i, (double)c->found[i]);
    free(before);
}

START_TEST(what_is_no_number_stays_none_at_every_level)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++) {
        product_case c;
        arrange(&c, levels[l]->name, PACKED_FLOAT32, (size_t)_i);
        check_not_finite(&c, levels[l]->name, INFINITY);
        check_not_finite(&c, levels[l]->name, -INFINITY);
        check_not_finite(&c, levels[l]->name, NAN);
        const uint32_t bits[] = {0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF}; /* other NaNs */
        for (size_t i = 0; i < sizeof bits / sizeof *bits; i++) {
            float value;
            memcpy(&value, &bits[i], sizeof value);
            check_not_finite(&c, levels[l]->name, value);
        }
        release(&c);
    }
}
END_TEST

START_TEST(a_row_has_the_same_product_alone_and_among_others)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++) {
        product_case c;
        arrange(&c, levels[l]->name, PACKED_FLOAT32, (size_t)_i);
        float *alone = malloc(c.outputs * sizeof *alone);
        ck_assert_ptr_nonnull(alone);
        products_forward(c.products, &c.weights, c.tokens, c.x, c.bias, c.found, c.space);
        for (size_t t = 0; t < c.tokens; t++) {
            products_forward(c.products, &c.weights, 1, c.x + t * c.inputs, c.bias, alone, c.space);
            ck_assert_msg(memcmp(alone, c.found + t * c.outputs, c.outputs * sizeof *alone) == 0, "row %zu at %s", t,
                          levels[l]->name);
        }
        free(alone);
        release(&c);
    }
}
END_TEST

START_TEST(weights_packed_anew_replace_those_before)
{
    product_case c;
    arrange(&c, "generic", PACKED_FLOAT32, 5);
    for (size_t i = 0; i < c.outputs * c.inputs; i++)
        c.w[i] = -c.w[i];
    product_weights_pack(&c.weights, c.products, c.w, 0, 1, c.space);
    check_forward(&c, "generic");
    check_backward_input(&c, "generic", false);
    release(&c);
}
END_TEST

START_TEST(training_in_int8_is_refused)
{
    products *p = NULL;
    ck_fails(products_create(&p, PACKED_INT8, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(p);
}
END_TEST

static void fill_bits(uint32_t *values, size_t n, random_state *r)
{
    for (size_t i = 0; i < n; i++)
        values[i] = (uint32_t)random_next(r);
}

START_TEST(a_transpose_keeps_all_bits_and_writes_nothing_else)
{
    enum { SIDE = 41, STRIDE = 45 };
    static uint32_t from[SIDE * STRIDE], to[SIDE * STRIDE];
    const kernels *levels[KERNELS_MAX + 1];
    random_state r;
    kernels_available(levels);
    random_seed(&r, testing_seed());
    fill_bits(from, SIDE * STRIDE, &r);
    for (size_t l = 0; levels[l] != NULL; l++) {
        for (size_t rows = 1; rows <= SIDE; rows += 5) {
            for (size_t columns = 1; columns <= SIDE; columns++) {
                memset(to, 0x5A, sizeof to);
                levels[l]->transpose(from, STRIDE, rows, columns, to, STRIDE);
                for (size_t i = 0; i < SIDE * STRIDE; i++) {
                    const size_t row = i / STRIDE, column = i % STRIDE;
                    const bool inside = row < columns && column < rows;
                    ck_assert_uint_eq(to[i], inside ? from[column * STRIDE + row] : 0x5A5A5A5A);
                }
            }
        }
    }
}
END_TEST

START_TEST(pairs_are_the_nearest_bfloat16_at_every_level)
{
    enum { COUNT = 53 };
    float even[COUNT], odd[COUNT], front[COUNT], back[COUNT];
    uint16_t low[COUNT], high[COUNT];
    uint32_t pairs[COUNT];
    const kernels *levels[KERNELS_MAX + 1];
    random_state r;
    kernels_available(levels);
    random_seed(&r, testing_seed());
    for (size_t i = 0; i < COUNT; i++) {
        even[i] = (float)(random_unit(&r) - 0.5) * 100;
        odd[i] = (float)(random_unit(&r) - 0.5);
    }
    packed_generic.to_bfloat16(even, COUNT, low);
    packed_generic.to_bfloat16(odd, COUNT, high);
    for (size_t l = 0; levels[l] != NULL; l++) {
        levels[l]->pair_rows(even, odd, COUNT, pairs);
        for (size_t i = 0; i < COUNT; i++)
            ck_assert_uint_eq(pairs[i], (uint32_t)high[i] << 16 | low[i]);
        levels[l]->part_rows(pairs, COUNT, front, back);
        for (size_t i = 0; i < COUNT; i++) {
            ck_assert_float_eq_tol(front[i], even[i], 0.2f);
            ck_assert_float_eq_tol(back[i], odd[i], 0.002f);
        }
        uint32_t again[COUNT];
        levels[l]->pair_rows(front, back, COUNT, again);
        ck_assert(memcmp(again, pairs, sizeof pairs) == 0);
        levels[l]->pair_rows(even, NULL, COUNT, pairs);
        for (size_t i = 0; i < COUNT; i++)
            ck_assert_uint_eq(pairs[i], low[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/products");
    TCase *c = tcase_create("products");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, products_are_those_of_the_definition_at_every_level, 0, SHAPE_COUNT);
    tcase_add_loop_test(c, float32_is_as_exact_at_every_level, 0, SHAPE_COUNT);
    tcase_add_loop_test(c, what_is_no_number_stays_none_at_every_level, 0, SHAPE_COUNT);
    tcase_add_loop_test(c, a_row_has_the_same_product_alone_and_among_others, 0, SHAPE_COUNT);
    tcase_add_test(c, weights_packed_anew_replace_those_before);
    tcase_add_test(c, training_in_int8_is_refused);
    tcase_add_test(c, a_transpose_keeps_all_bits_and_writes_nothing_else);
    tcase_add_test(c, pairs_are_the_nearest_bfloat16_at_every_level);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
