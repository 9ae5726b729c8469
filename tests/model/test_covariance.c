#include "tests/common/testing.h"

#include "base/random.h"
#include "model/covariance.h"

#include <math.h>
#include <string.h>

enum { ROWS = 300, K_MAX = 400 };

static float x[ROWS * K_MAX], weight[K_MAX], copy[K_MAX];

/* Rows of which every value hangs together with a few common ones, as a model's do. */
static void fill_rows(size_t k, random_state *r)
{
    static float common[4][K_MAX];
    for (size_t c = 0; c < 4; c++)
        for (size_t i = 0; i < k; i++)
            common[c][i] = (float)(random_unit(r) - 0.5);
    for (size_t t = 0; t < ROWS; t++) {
        for (size_t i = 0; i < k; i++)
            x[t * k + i] = 0.1f * (float)(random_unit(r) - 0.5);
        for (size_t c = 0; c < 4; c++) {
            float much = (float)(random_unit(r) + 0.5);
            for (size_t i = 0; i < k; i++)
                x[t * k + i] += much * common[c][i];
        }
    }
}

/* The squared error of the product of the rows with what was rounded. */
static double error_of(size_t k, float scale, const int8_t *q)
{
    double error = 0;
    for (size_t t = 0; t < ROWS; t++) {
        double off = 0;
        for (size_t i = 0; i < k; i++)
            off += (double)x[t * k + i] * ((double)weight[i] - (double)scale * q[i]);
        error += off * off;
    }
    return error;
}

START_TEST(rounding_by_covariance_loses_less_than_rounding_to_the_nearest)
{
    static const size_t widths[] = {7, 16, 33, 192, 200, 384};
    int8_t nearest[K_MAX], found[K_MAX];
    random_state r;
    random_seed(&r, testing_seed_or(1));
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++) {
        for (size_t s = 0; s < sizeof widths / sizeof *widths; s++) {
            size_t k = widths[s];
            sem_error error;
            covariance *c;
            double by_nearest = 0, by_covariance = 0;
            fill_rows(k, &r);
            ck_ok(covariance_create(&c, levels[l], k, &error));
            covariance_add(c, 100, x);
            covariance_add(c, ROWS - 100, x + 100 * k);
            ck_ok(covariance_finish(c, &error));
            ck_ok(covariance_finish(c, &error));
            for (int round = 0; round < 20; round++) {
                const float scale = 1.0f / 127;
                for (size_t i = 0; i < k; i++) {
                    copy[i] = weight[i] = (float)(2 * random_unit(&r) - 1);
                    nearest[i] = (int8_t)lrintf(weight[i] / scale);
                }
                covariance_round(c, copy, scale, found);
                by_nearest += error_of(k, scale, nearest);
                by_covariance += error_of(k, scale, found);
            }
            /* Few columns have few others to make up for them. */
            ck_assert_msg(by_covariance < (k < 100 ? 1 : 0.6) * by_nearest, "%s, %zu columns: %g, to the nearest %g",
                          levels[l]->name, k, by_covariance, by_nearest);
            covariance_destroy(c);
        }
    }
}
END_TEST

START_TEST(rows_of_nothing_round_to_the_nearest)
{
    sem_error error;
    covariance *c;
    float w[] = {1, -0.504f, 0.25f, 0};
    int8_t q[4];
    ck_ok(covariance_create(&c, &kernels_generic, 4, &error));
    memset(x, 0, sizeof x);
    covariance_add(c, 10, x);
    ck_ok(covariance_finish(c, &error));
    covariance_round(c, w, 1.0f / 127, q);
    ck_assert(q[0] == 127 && q[1] == -64 && q[2] == 32 && q[3] == 0);
    covariance_round(c, w, 0, q);
    ck_assert(q[0] == 0 && q[1] == 0 && q[2] == 0 && q[3] == 0);
    covariance_destroy(c);
}
END_TEST

/* Lengths and products of pairs stay, up to the gain; every level gives the same
 * bits, so that int8 rounds alike everywhere. */
START_TEST(a_rotation_keeps_products_at_every_level)
{
    static const size_t widths[] = {1, 15, 16, 17, 31, 32, 48, 96, 100, 312, 384, 512, 768, 1024, 1536, 1540, 3072};
    static float a[4096], b[4096], first[4096];
    random_state r;
    random_seed(&r, testing_seed());
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t s = 0; s < sizeof widths / sizeof *widths; s++) {
        size_t n = widths[s];
        for (size_t l = 0; levels[l] != NULL; l++) {
            double right = 0, found = 0, gain = (double)kernels_spread_gain(n);
            for (size_t i = 0; i < n; i++) {
                a[i] = (float)((i * 2654435761U) % 1000) / 500 - 1;
                b[i] = i == n / 2 ? 100 : (float)((i * 40503U) % 1000) / 1000;
                right += (double)a[i] * b[i];
            }
            levels[l]->spread(a, n, a);
            levels[l]->spread(b, n, b);
            for (size_t i = 0; i < n; i++)
                found += (double)a[i] * b[i];
            ck_assert_msg(fabs(found / gain / gain - right) < 1e-3 * (fabs(right) + 1), "%s, %zu: %g, expected %g",
                          levels[l]->name, n, found / gain / gain, right);
            for (size_t i = 0; i < n && l > 0; i++)
                ck_assert_msg(b[i] == first[i], "%s, %zu: value %zu is %.9g, portable %.9g", levels[l]->name, n, i,
                              (double)b[i], (double)first[i]);
            if (l == 0)
                memcpy(first, b, n * sizeof *b);
        }
    }
}
END_TEST

START_TEST(a_rotation_spreads_a_value_larger_than_the_rest)
{
    static const size_t widths[] = {384, 768, 1024, 1536, 3072};
    static float row[4096];
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    for (size_t l = 0; levels[l] != NULL; l++) {
        for (size_t s = 0; s < sizeof widths / sizeof *widths; s++) {
            float largest = 0, gain = kernels_spread_gain(widths[s]);
            memset(row, 0, sizeof row);
            row[widths[s] / 3 + 5] = 1;
            levels[l]->spread(row, widths[s], row);
            for (size_t i = 0; i < widths[s]; i++)
                largest = fmaxf(largest, fabsf(row[i]));
            ck_assert_float_lt(largest / gain, 0.2f);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/covariance");
    TCase *c = tcase_create("covariance");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, rounding_by_covariance_loses_less_than_rounding_to_the_nearest);
    tcase_add_test(c, rows_of_nothing_round_to_the_nearest);
    tcase_add_test(c, a_rotation_keeps_products_at_every_level);
    tcase_add_test(c, a_rotation_spreads_a_value_larger_than_the_rest);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
