/* Which clicks are believed. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/agreement.h"

#include <math.h>
#include <stdlib.h>

enum { SHOWN = 10 };

static sem_error error;

/* A log under the position-based model: each query has one right document, more often at the first
 * ranks, and shows the same list whenever it is asked, by somebody else each time. */
typedef struct people {
    size_t queries, searches; /* searches of each query */
    double right, wrong;      /* rates of a click on what is looked at */
} people;

static size_t place_of_right(size_t query)
{
    random_state r;
    random_seed(&r, random_at(1, query));
    const double drawn = random_unit(&r);
    return (size_t)(drawn * drawn * SHOWN);
}

static impression *ask(const people *p, uint64_t seed, size_t *count)
{
    random_state r;
    impression *all = calloc(p->queries * p->searches * SHOWN, sizeof *all);
    ck_assert_ptr_nonnull(all);
    random_seed(&r, seed);
    *count = 0;
    for (size_t q = 0; q < p->queries; q++)
        for (size_t i = 0; i < p->searches; i++)
            for (size_t k = 0; k < SHOWN; k++) {
                const double rate = k == place_of_right(q) ? p->right : p->wrong;
                const bool clicked = random_unit(&r) < rate / (double)(k + 1);
                all[(*count)++] = (impression){q, k, (uint32_t)k + 1, clicked, i + 1};
            }
    return all;
}

static void estimate(agreement *out, impression *all, size_t count)
{
    propensities bias;
    propensity_prior(&bias, 1);
    ck_ok(agreement_estimate(out, all, count, &bias, &error));
}

/* Of the weight of all clicks over their ranks' propensities the share of right documents. */
static double share_of_right(const impression *all, size_t count, const agreement *a)
{
    double right = 0, sum = 0;
    for (size_t i = 0; i < count; i++) {
        if (!all[i].clicked)
            continue;
        const double chance = a != NULL ? agreement_of(a, all[i].query, all[i].document, all[i].rank) : 1;
        sum += all[i].rank * chance;
        right += all[i].document == place_of_right(all[i].query) ? all[i].rank * chance : 0;
    }
    return right / sum;
}

START_TEST(both_rates_of_a_simulated_log_are_found_and_mistakes_lose_their_weight)
{
    const people noisy = {2000, 6, 0.7, 0.1};
    agreement a;
    size_t count;
    impression *all = ask(&noisy, 7, &count);
    estimate(&a, all, count);
    ck_assert_msg(fabs(a.right / 0.7 - 1) < 0.1, "right %g", a.right);
    ck_assert_msg(fabs(a.wrong / 0.1 - 1) < 0.15, "wrong %g", a.wrong);
    ck_assert_msg(fabs(a.shares[0] - sqrt(0.1)) < 0.05, "share of the first rank %g", a.shares[0]);
    ck_assert_double_lt(share_of_right(all, count, NULL), 0.46); /* 0.7 / (0.7 + 9 * 0.1) */
    ck_assert_msg(share_of_right(all, count, &a) > 0.6, "%g", share_of_right(all, count, &a));
    agreement_free(&a);
    free(all);
}
END_TEST

START_TEST(clicks_without_a_mistake_are_believed)
{
    const people exact = {1000, 4, 0.7, 0};
    agreement a;
    size_t count;
    impression *all = ask(&exact, 3, &count);
    estimate(&a, all, count);
    ck_assert_uint_gt(a.count, 500);
    for (size_t i = 0; i < a.count; i++)
        ck_assert_msg(a.pairs[i].chance > 0.9, "query %d: %g", (int)a.pairs[i].query, a.pairs[i].chance);
    agreement_free(&a);
    free(all);
}
END_TEST

/* Nothing tells mistakes from finds. */
START_TEST(where_nothing_is_shown_twice_clicks_are_believed)
{
    const people once = {20000, 1, 0.7, 0.02};
    agreement a;
    size_t count;
    double sum = 0;
    impression *all = ask(&once, 5, &count);
    estimate(&a, all, count);
    ck_assert_uint_gt(a.count, 1000);
    for (size_t i = 0; i < a.count; i++)
        sum += a.pairs[i].chance;
    ck_assert_msg(sum / (double)a.count > 0.9, "%g", sum / (double)a.count);
    agreement_free(&a);
    free(all);
}
END_TEST

/* A log with more impressions of document 3, at its rank 4, for query 0; clicked as often as said. */
static double chance_with(size_t impressions, size_t clicks, bool one_user)
{
    const people noisy = {500, 6, 0.7, 0.1};
    agreement a;
    size_t count;
    impression *all = ask(&noisy, 2, &count);
    impression *grown = realloc(all, (count + impressions) * sizeof *all);
    ck_assert_ptr_nonnull(grown);
    for (size_t i = 0; i < count; i++)
        if (grown[i].query == 0 && grown[i].document == 3)
            grown[i].clicked = false;
    for (size_t i = 0; i < impressions; i++)
        grown[count + i] = (impression){0, 3, 4, i < clicks, one_user ? 1000 : 1000 + i};
    estimate(&a, grown, count + impressions);
    const double chance = agreement_of(&a, 0, 3, 4);
    agreement_free(&a);
    free(grown);
    return chance;
}

START_TEST(who_clicks_again_says_it_once)
{
    const double once = chance_with(1, 1, true), again = chance_with(5, 5, true), others = chance_with(5, 5, false);
    ck_assert_double_eq_tol(again, once, 1e-9);
    ck_assert_msg(others > again + 0.1, "%g, %g", others, again);
}
END_TEST

START_TEST(searches_without_a_click_take_no_more_than_nine_tenths_of_the_odds)
{
    const people noisy = {500, 6, 0.7, 0.1};
    agreement a;
    size_t count;
    impression *all = ask(&noisy, 2, &count);
    estimate(&a, all, count);
    const double unseen = agreement_of(&a, 77777, 1, 4), drowned = chance_with(2000, 1, false);
    const double odds = unseen / (1 - unseen), left = drowned / (1 - drowned);
    ck_assert_msg(left > 0.05 * odds && left < 0.2 * odds, "%g of %g", left, odds);
    agreement_free(&a);
    free(all);
}
END_TEST

START_TEST(order_of_the_log_makes_no_difference)
{
    const people noisy = {200, 6, 0.7, 0.1};
    agreement first, second;
    random_state r;
    size_t count;
    impression *all = ask(&noisy, 4, &count);
    random_seed(&r, 9);
    estimate(&first, all, count);
    random_shuffle(&r, all, count, sizeof *all);
    estimate(&second, all, count);
    ck_assert_uint_eq(first.count, second.count);
    for (size_t i = 0; i < first.count; i++)
        ck_assert(first.pairs[i].query == second.pairs[i].query &&
                  first.pairs[i].document == second.pairs[i].document &&
                  first.pairs[i].chance == second.pairs[i].chance);
    agreement_free(&first);
    agreement_free(&second);
    free(all);
}
END_TEST

START_TEST(an_empty_log_and_ranks_far_below_are_no_matter)
{
    agreement a;
    impression far[] = {{1, 1, 0, true, 0}, {1, 1, 51, true, 0}, {1, 2, 1000, false, 3}};
    estimate(&a, NULL, 0);
    ck_assert_uint_eq(a.count, 0);
    ck_assert(agreement_of(&a, 1, 1, 1) > 0.5 && agreement_of(&a, 1, 1, 1000) > 0.5);
    agreement_free(&a);
    estimate(&a, far, sizeof far / sizeof *far);
    ck_assert_uint_eq(a.count, 0);
    agreement_free(&a);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agreement");
    TCase *tests = tcase_create("agreement");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, both_rates_of_a_simulated_log_are_found_and_mistakes_lose_their_weight);
    tcase_add_test(tests, clicks_without_a_mistake_are_believed);
    tcase_add_test(tests, where_nothing_is_shown_twice_clicks_are_believed);
    tcase_add_test(tests, who_clicks_again_says_it_once);
    tcase_add_test(tests, searches_without_a_click_take_no_more_than_nine_tenths_of_the_odds);
    tcase_add_test(tests, order_of_the_log_makes_no_difference);
    tcase_add_test(tests, an_empty_log_and_ranks_far_below_are_no_matter);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
