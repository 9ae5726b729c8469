/* How often each data set is drawn from. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/mix_weights.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>

static sem_error error;

enum { SETS_MAX = 8 };

/* sizes and expected shares in the file's order of names. */
static void ck_shares(const json_t *golden, const char *key, const mix_weighting *w)
{
    uint64_t sizes[SETS_MAX];
    double expected[SETS_MAX], shares[SETS_MAX];
    const json_t *wanted = json_object_get(golden, key);
    const char *name;
    json_t *size;
    size_t count = 0;
    ck_assert_msg(wanted != NULL, "%s is missing", key);
    json_object_foreach(json_object_get(golden, "sizes"), name, size)
    {
        sizes[count] = (uint64_t)json_integer_value(size);
        expected[count++] = json_number_value(json_object_get(wanted, name));
    }
    ck_ok(mix_shares_of(w, sizes, NULL, count, shares, &error));
    for (size_t i = 0; i < count; i++)
        ck_assert_double_eq_tol(shares[i], expected[i], 1e-12);
}

START_TEST(shares_equal_the_reference)
{
    const char *path = testing_shared("golden/sampling_expected.json");
    if (path == NULL)
        return;
    json_error_t json_error;
    json_t *golden = json_load_file(path, 0, &json_error);
    ck_assert_ptr_nonnull(golden);
    mix_weighting w = mix_weighting_defaults();
    w.method = MIX_EQUAL;
    ck_shares(golden, "equal", &w);
    w.method = MIX_PROPORTIONAL;
    ck_shares(golden, "proportional", &w);
    w.method = MIX_CAPPED;
    ck_assert_uint_eq(w.cap, 1000000);
    ck_shares(golden, "cap_1M", &w);
    w.method = MIX_TEMPERATURE;
    for (size_t t = 2; t <= 10; t += t == 2 ? 3 : 5) {
        char key[32];
        snprintf(key, sizeof key, "temperature_%zu", t);
        w.temperature = (double)t;
        ck_shares(golden, key, &w);
    }
    json_decref(golden);
}
END_TEST

START_TEST(explicit_weights_are_normalised)
{
    const mix_weighting w = {.method = MIX_EXPLICIT};
    const double weights[] = {1, 2, 5};
    double shares[3];
    ck_ok(mix_shares_of(&w, NULL, weights, 3, shares, &error));
    ck_assert_double_eq_tol(shares[0], 0.125, 1e-15);
    ck_assert_double_eq_tol(shares[1], 0.25, 1e-15);
    ck_assert_double_eq_tol(shares[2], 0.625, 1e-15);
}
END_TEST

START_TEST(a_temperature_of_one_is_proportional)
{
    const mix_weighting warm = {.method = MIX_TEMPERATURE, .temperature = 1}, plain = {.method = MIX_PROPORTIONAL};
    const uint64_t sizes[] = {3, 40, 500};
    double a[3], b[3];
    ck_ok(mix_shares_of(&warm, sizes, NULL, 3, a, &error));
    ck_ok(mix_shares_of(&plain, sizes, NULL, 3, b, &error));
    for (size_t i = 0; i < 3; i++)
        ck_assert_double_eq_tol(a[i], b[i], 1e-15);
}
END_TEST

START_TEST(what_makes_no_shares_is_refused)
{
    const uint64_t sizes[] = {10, 0};
    const double weights[] = {1, -1};
    double shares[2];
    mix_weighting w = {.method = MIX_PROPORTIONAL};
    ck_fails(mix_shares_of(&w, sizes, NULL, 2, shares, &error), SEM_INVALID_ARGUMENT);
    ck_fails(mix_shares_of(&w, sizes, NULL, 0, shares, &error), SEM_INVALID_ARGUMENT);
    w = (mix_weighting){.method = MIX_EXPLICIT};
    ck_fails(mix_shares_of(&w, sizes, weights, 2, shares, &error), SEM_INVALID_ARGUMENT);
    w = (mix_weighting){.method = MIX_TEMPERATURE, .temperature = 0.5};
    ck_fails(mix_shares_of(&w, sizes, NULL, 1, shares, &error), SEM_INVALID_ARGUMENT);
    w = (mix_weighting){.method = MIX_CAPPED};
    ck_fails(mix_shares_of(&w, sizes, NULL, 1, shares, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(draws_follow_the_shares)
{
    enum { DRAWS = 100000, SETS = 5 };
    const double shares[SETS] = {0.5, 0.3, 0.15, 0.049, 0.001};
    size_t drawn[SETS] = {0};
    double chi_square = 0;
    for (uint64_t i = 0; i < DRAWS; i++)
        drawn[mix_choose(shares, SETS, random_unit_of(random_at(17, i)))]++;
    for (size_t s = 0; s < SETS; s++) {
        const double expected = shares[s] * DRAWS, off = (double)drawn[s] - expected;
        chi_square += off * off / expected;
    }
    /* 4 degrees of freedom: above 18.47 once in a thousand times. */
    ck_assert_double_lt(chi_square, 18.47);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mix_weights");
    TCase *tests = tcase_create("shares");
    tcase_add_test(tests, shares_equal_the_reference);
    tcase_add_test(tests, explicit_weights_are_normalised);
    tcase_add_test(tests, a_temperature_of_one_is_proportional);
    tcase_add_test(tests, what_makes_no_shares_is_refused);
    tcase_add_test(tests, draws_follow_the_shares);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
