#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/adamw.h"
#include "finetune/schedule.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A token table of 7 rows of 5, a matrix of 3 x 7 and a bias of 6: no width is
 * a multiple of four. */
enum { ROWS = 7, COLS = 5, TABLE = ROWS * COLS, MATRIX = 21, BIAS = 6, TOTAL = TABLE + MATRIX + BIAS, STEPS = 40 };

static sem_error error;

static param items[] = {
    {.name = "table", .rows = ROWS, .cols = COLS, .offset = 0, .decay = true, .rows_sparse = true},
    {.name = "matrix", .rows = 3, .cols = 7, .offset = TABLE, .decay = true},
    {.name = "bias", .rows = 1, .cols = BIAS, .offset = TABLE + MATRIX},
};
static const param_layout layout = {.items = items, .count = 3, .total = TOTAL};

static void fill(random_state *r, float *values, size_t count, double size)
{
    for (size_t i = 0; i < count; i++)
        values[i] = (float)((random_unit(r) - 0.5) * size);
}

static const double FACTORS[] = {0.25, 1, 1};

/* The paper's algorithm 2 in double precision, every float in every step. */
typedef struct reference {
    double value[TOTAL], mean[TOTAL], square[TOTAL], average[TOTAL];
} reference;

static void reference_step(reference *x, const adamw_options *o, double rate, size_t t, const float *grads,
                           double scale)
{
    for (size_t i = 0; i < TOTAL; i++) {
        double g = grads[i] * scale;
        x->mean[i] = o->beta1 * x->mean[i] + (1 - o->beta1) * g;
        x->square[i] = o->beta2 * x->square[i] + (1 - o->beta2) * g * g;
        double mean = x->mean[i] / (1 - pow(o->beta1, (double)t)),
               square = x->square[i] / (1 - pow(o->beta2, (double)t));
        double decay = i < TABLE + MATRIX ? o->weight_decay : 0, own = rate * FACTORS[i < TABLE ? 0 : 1];
        x->value[i] -= own * (mean / (sqrt(square) + o->epsilon) + decay * x->value[i]);
        x->average[i] += (x->value[i] - x->average[i]) * (1 - fmin(o->average, (double)t / (9 + (double)t)));
    }
}

static bool is_touched(size_t step, size_t row)
{
    /* Row 6 is never touched, row 5 once, row 4 seldom. */
    return row < 4 ? (step + row) % 3 == 0 : row == 4 ? step % 17 == 2 : row == 5 && step == 3;
}

static void gradients(random_state *r, size_t step, float *grads)
{
    fill(r, grads, TOTAL, 1);
    for (size_t row = 0; row < ROWS; row++) {
        if (!is_touched(step, row))
            memset(grads + row * COLS, 0, COLS * sizeof *grads);
    }
}

/* params and average [TOTAL] after all steps. */
static void run(float *params, float *average, reference *expected, double decay, bool every_row)
{
    adamw *a = NULL;
    adamw_options o = adamw_defaults();
    float grads[TOTAL];
    random_state r;
    o.weight_decay = decay;
    o.factors = FACTORS;
    o.average = 0.8;
    random_seed(&r, 42);
    fill(&r, params, TOTAL, 2);
    memset(expected, 0, sizeof *expected);
    for (size_t i = 0; i < TOTAL; i++)
        expected->average[i] = expected->value[i] = params[i];
    ck_ok(adamw_create(&a, &layout, &o, params, STEPS, &error));
    for (size_t step = 0; step < STEPS; step++) {
        double rate = schedule_rate(SCHEDULE_LINEAR, 0.01, step, 4, STEPS);
        gradients(&r, step, grads);
        for (size_t row = 0; row < ROWS; row++) {
            if (is_touched(step, row) || every_row)
                adamw_catch_up(a, &items[0], row, params);
        }
        adamw_begin(a, rate);
        for (size_t row = 0; row < ROWS; row++) {
            if (is_touched(step, row) || every_row)
                adamw_update_row(a, &items[0], row, params, grads, 0.5f);
        }
        adamw_update(a, &items[1], TABLE, 10, params, grads, 0.5f);
        adamw_update(a, &items[1], TABLE + 10, MATRIX - 10, params, grads, 0.5f);
        adamw_update(a, &items[2], TABLE + MATRIX, BIAS, params, grads, 0.5f);
        reference_step(expected, &o, rate, step + 1, grads, 0.5);
    }
    for (size_t row = 0; row < ROWS; row++)
        adamw_catch_up(a, &items[0], row, params);
    memcpy(average, adamw_average(a), TOTAL * sizeof *average);
    adamw_destroy(a);
}

START_TEST(steps_are_those_of_the_paper)
{
    float params[TOTAL], average[TOTAL];
    reference expected;
    run(params, average, &expected, 0.1, false);
    for (size_t i = 0; i < TOTAL; i++) {
        ck_assert_double_eq_tol(average[i], expected.average[i], 2e-6);
        ck_assert_msg(fabs(params[i] - expected.value[i]) < 2e-6, "float %zu: %.9g instead of %.9g", i,
                      (double)params[i], expected.value[i]);
    }
}
END_TEST

START_TEST(untouched_rows_end_with_the_bits_of_a_dense_update)
{
    float lazy[TOTAL], dense[TOTAL], lazy_average[TOTAL], dense_average[TOTAL];
    reference unused;
    for (size_t i = 0; i < 2; i++) {
        double decay = i == 0 ? 0.1 : 0;
        run(lazy, lazy_average, &unused, decay, false);
        run(dense, dense_average, &unused, decay, true);
        ck_assert(memcmp(lazy, dense, sizeof lazy) == 0);
        ck_assert(memcmp(lazy_average, dense_average, sizeof lazy_average) == 0);
        ck_assert(memcmp(lazy_average, lazy, sizeof lazy) != 0);
    }
}
END_TEST

START_TEST(biases_do_not_decay)
{
    adamw *a = NULL;
    adamw_options o = adamw_defaults();
    float params[TOTAL], grads[TOTAL] = {0};
    for (size_t i = 0; i < TOTAL; i++)
        params[i] = 1;
    ck_ok(adamw_create(&a, &layout, &o, NULL, 1, &error));
    adamw_begin(a, 0.5);
    adamw_update(a, &items[1], TABLE, MATRIX, params, grads, 1);
    adamw_update(a, &items[2], TABLE + MATRIX, BIAS, params, grads, 1);
    adamw_destroy(a);

    for (size_t i = TABLE; i < TABLE + MATRIX; i++)
        ck_assert_float_eq(params[i], 0.995f);
    for (size_t i = TABLE + MATRIX; i < TOTAL; i++)
        ck_assert_float_eq(params[i], 1);
}
END_TEST

START_TEST(rows_touched_long_ago_end_with_the_bits_of_a_dense_update)
{
    enum { LONG = 3000 };
    adamw *lazy = NULL, *dense = NULL;
    adamw_options o = adamw_defaults();
    float first[TOTAL], second[TOTAL], grads[TOTAL];
    random_state r;
    random_seed(&r, 7);
    fill(&r, first, TOTAL, 2);
    memcpy(second, first, sizeof second);
    fill(&r, grads, TOTAL, 1e-6);
    ck_ok(adamw_create(&lazy, &layout, &o, NULL, LONG, &error));
    ck_ok(adamw_create(&dense, &layout, &o, NULL, LONG, &error));
    for (size_t step = 0; step < LONG; step++) {
        adamw_begin(lazy, 0.001);
        adamw_begin(dense, 0.001);
        if (step == 0)
            adamw_update_row(lazy, &items[0], 2, first, grads, 1);
        adamw_update_row(dense, &items[0], 2, second, grads, 1);
        memset(grads, 0, sizeof grads);
    }
    adamw_catch_up(lazy, &items[0], 2, first);
    ck_assert(memcmp(first, second, sizeof first) == 0);
    adamw_destroy(lazy);
    adamw_destroy(dense);
}
END_TEST

/* One step of a table of many rows, of which every third is touched, and of a frozen and a learning matrix. */
static void large_step(adamw *a, const param_layout *of, const float *grads, float *params)
{
    adamw_begin(a, 0.001);
    for (size_t row = 0; row < of->items[0].rows; row += 3)
        adamw_update_row(a, &of->items[0], row, params, grads, 1);
    adamw_update(a, &of->items[2], of->items[2].offset, 21, params, grads, 1);
    for (size_t row = 0; row < of->items[0].rows; row++)
        adamw_catch_up(a, &of->items[0], row, params);
}

START_TEST(a_saved_optimiser_goes_on_with_the_same_bits)
{
    enum { MANY = 5000, WIDE = 3, LARGE = MANY * WIDE + 42 };
    static float params[LARGE], others[LARGE], grads[LARGE];
    static const double factors[] = {1, 0, 0.5};
    const param large[] = {
        {.name = "table", .rows = MANY, .cols = WIDE, .offset = 0, .decay = true, .rows_sparse = true},
        {.name = "frozen", .rows = 3, .cols = 7, .offset = MANY * WIDE},
        {.name = "matrix", .rows = 3, .cols = 7, .offset = MANY * WIDE + 21, .decay = true}};
    const param_layout of = {.items = (param *)(uintptr_t)large, .count = 3, .total = LARGE};
    adamw *one = NULL, *other = NULL;
    adamw_options o = adamw_defaults();
    checkpoint_writer *w = NULL;
    checkpoint_reader *c = NULL;
    random_state r;
    char path[600];
    o.factors = factors;
    snprintf(path, sizeof path, "%s/optimiser", testing_folder());
    random_seed(&r, 11);
    fill(&r, params, LARGE, 2);
    fill(&r, grads, LARGE, 1);
    ck_ok(adamw_create(&one, &of, &o, params, 10, &error));
    large_step(one, &of, grads, params);
    ck_ok(checkpoint_create(&w, path, &error));
    ck_ok(adamw_save(one, "a", w, &error));
    ck_ok(checkpoint_commit(w, &error));
    memcpy(others, params, sizeof params);
    ck_ok(adamw_create(&other, &of, &o, others, 10, &error));
    ck_ok(checkpoint_open(&c, path, &error));
    ck_ok(adamw_load(other, "a", c, &error));
    checkpoint_close(c);
    large_step(one, &of, grads, params);
    large_step(other, &of, grads, others);
    ck_assert(memcmp(params, others, sizeof params) == 0);
    adamw_destroy(one);
    adamw_destroy(other);
}
END_TEST

START_TEST(rate_rises_then_falls_and_is_never_zero)
{
    size_t warmup = schedule_warmup(40, 0.1);
    ck_assert_uint_eq(warmup, 4);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_LINEAR, 1, 0, warmup, 40), 0.25, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_LINEAR, 1, 3, warmup, 40), 1, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_LINEAR, 1, 4, warmup, 40), 1, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_LINEAR, 1, 22, warmup, 40), 0.5, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_LINEAR, 1, 39, warmup, 40), 1.0 / 36, 1e-12);
}
END_TEST

START_TEST(rate_falls_along_a_cosine_or_stays)
{
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_COSINE, 1, 1, 4, 40), 0.5, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_COSINE, 1, 4, 4, 40), 1, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_COSINE, 1, 16, 4, 40), 0.75, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_COSINE, 1, 22, 4, 40), 0.5, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_COSINE, 1, 28, 4, 40), 0.25, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_CONSTANT, 1, 1, 4, 40), 0.5, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_CONSTANT, 1, 4, 4, 40), 1, 1e-12);
    ck_assert_double_eq_tol(schedule_rate(SCHEDULE_CONSTANT, 1, 39, 4, 40), 1, 1e-12);
}
END_TEST

START_TEST(shapes_have_names)
{
    schedule_shape shape = SCHEDULE_CONSTANT;
    ck_assert(schedule_shape_of("linear", &shape) && shape == SCHEDULE_LINEAR);
    ck_assert(schedule_shape_of("cosine", &shape) && shape == SCHEDULE_COSINE);
    ck_assert(schedule_shape_of("constant", &shape) && shape == SCHEDULE_CONSTANT);
    ck_assert(!schedule_shape_of("cos", &shape));
}
END_TEST

START_TEST(rate_exists_for_every_length_and_ratio)
{
    for (size_t steps = 1; steps < 30; steps++) {
        for (double ratio = 0; ratio <= 1; ratio += 0.05) {
            size_t warmup = schedule_warmup(steps, ratio);
            ck_assert_uint_le(warmup, steps);
            for (size_t step = 0; step < steps; step++) {
                double rate = schedule_rate((schedule_shape)_i, 1, step, warmup, steps);
                ck_assert(rate > 0 && rate <= 1);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adamw");
    TCase *tests = tcase_create("adamw");
    tcase_add_test(tests, steps_are_those_of_the_paper);
    tcase_add_test(tests, untouched_rows_end_with_the_bits_of_a_dense_update);
    tcase_add_test(tests, biases_do_not_decay);
    tcase_add_test(tests, rows_touched_long_ago_end_with_the_bits_of_a_dense_update);
    tcase_add_test(tests, a_saved_optimiser_goes_on_with_the_same_bits);
    tcase_add_test(tests, rate_rises_then_falls_and_is_never_zero);
    tcase_add_test(tests, rate_falls_along_a_cosine_or_stays);
    tcase_add_test(tests, shapes_have_names);
    tcase_add_loop_test(tests, rate_exists_for_every_length_and_ratio, SCHEDULE_LINEAR, SCHEDULE_CONSTANT + 1);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
