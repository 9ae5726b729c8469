#include "tests/common/testing.h"

#include "bench/clicksim/click_model.h"

#include <math.h>
#include <stdlib.h>

enum { RANKS = 10, LISTS = 200000 };

/* Clicks at each rank over many lists. relevant [RANKS]. */
static void count_clicks(const click_model *m, const bool *relevant, double rates[RANKS])
{
    random_state r;
    bool clicked[RANKS];
    random_seed(&r, testing_seed());
    for (size_t i = 0; i < RANKS; i++)
        rates[i] = 0;
    for (size_t n = 0; n < LISTS; n++) {
        size_t told = click_draw(m, relevant, RANKS, &r, clicked), clicks = 0;
        for (size_t i = 0; i < RANKS; i++) {
            rates[i] += clicked[i];
            clicks += clicked[i];
        }
        ck_assert_uint_eq(told, clicks);
    }
    for (size_t i = 0; i < RANKS; i++)
        rates[i] /= LISTS;
}

/* Within five standard errors of a share of LISTS. */
static void ck_share(double found, double expected, size_t rank)
{
    double error = sqrt(expected * (1 - expected) / LISTS);
    ck_assert_msg(fabs(found - expected) <= 5 * error + 1e-12, "rank %zu: %.5f instead of %.5f", rank, found, expected);
}

START_TEST(position_based_clicks_follow_propensity_and_relevance)
{
    static const double strengths[] = {0, 0.5, 1, 2};
    bool relevant[RANKS];
    double rates[RANKS];
    for (size_t i = 0; i < RANKS; i++)
        relevant[i] = i % 3 == 1;
    for (size_t s = 0; s < sizeof strengths / sizeof *strengths; s++) {
        const click_model m = {.kind = CLICK_PBM, .strength = strengths[s], .hit = 0.8, .noise = 0.1};
        count_clicks(&m, relevant, rates);
        for (size_t i = 0; i < RANKS; i++)
            ck_share(rates[i], (relevant[i] ? 0.8 : 0.1) / pow((double)(i + 1), strengths[s]), i + 1);
    }
}
END_TEST

START_TEST(in_a_cascade_a_rank_is_looked_at_while_nothing_above_is_clicked)
{
    const click_model m = {.kind = CLICK_CASCADE, .strength = 1, .hit = 1, .noise = 0.2};
    bool relevant[RANKS] = {false};
    double rates[RANKS], above = 1; /* chance that nothing above was clicked */
    relevant[4] = true;
    count_clicks(&m, relevant, rates);
    for (size_t i = 0; i < RANKS; i++) {
        double attracts = relevant[i] ? 1 : 0.2;
        ck_share(rates[i], above / (double)(i + 1) * attracts, i + 1);
        above *= 1 - attracts;
    }
    for (size_t i = 5; i < RANKS; i++)
        ck_assert_double_eq(rates[i], 0); /* who gets to the right one stops */
}
END_TEST

START_TEST(a_cascade_has_one_click_at_most)
{
    const click_model m = {.kind = CLICK_CASCADE, .strength = 0, .hit = 1, .noise = 0.5};
    const bool relevant[RANKS] = {false};
    random_state r;
    bool clicked[RANKS];
    random_seed(&r, testing_seed());
    for (size_t n = 0; n < 10000; n++)
        ck_assert_uint_le(click_draw(&m, relevant, RANKS, &r, clicked), 1);
}
END_TEST

START_TEST(equal_dice_give_equal_clicks)
{
    static const click_kind kinds[] = {CLICK_PBM, CLICK_CASCADE};
    const bool relevant[RANKS] = {false, true, false, false, true};
    for (size_t k = 0; k < 2; k++) {
        const click_model m = {.kind = kinds[k], .strength = 1, .hit = 0.7, .noise = 0.3};
        for (uint64_t seed = 1; seed <= 100; seed++) {
            random_state a, b;
            bool first[RANKS], second[RANKS];
            random_seed(&a, seed);
            random_seed(&b, seed);
            ck_assert_uint_eq(click_draw(&m, relevant, RANKS, &a, first), click_draw(&m, relevant, RANKS, &b, second));
            ck_assert_mem_eq(first, second, sizeof first);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("click model");
    TCase *tests = tcase_create("clicks");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, position_based_clicks_follow_propensity_and_relevance);
    tcase_add_test(tests, in_a_cascade_a_rank_is_looked_at_while_nothing_above_is_clicked);
    tcase_add_test(tests, a_cascade_has_one_click_at_most);
    tcase_add_test(tests, equal_dice_give_equal_clicks);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
