#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/trust.h"

#include <math.h>
#include <string.h>

static sem_error error;

/* A user's search that showed `shown` documents, of which those of `clicks` were clicked, `apart_ms` after
 * each other. Appends to ballots. */
static size_t add_search(ballot *ballots, size_t count, uint64_t user, uint64_t search, uint32_t shown, size_t clicks,
                         int64_t apart_ms)
{
    for (size_t i = 0; i < clicks; i++, count++)
        ballots[count] = (ballot){.user = user,
                                  .search = search,
                                  .time_ms = (int64_t)search * 1000000 + (int64_t)i * apart_ms,
                                  .shown = shown,
                                  .pair = (uint32_t)count,
                                  .serial = (uint32_t)count,
                                  .weight = 1};
    return count;
}

static double weight_of(const ballot *ballots, size_t count, uint64_t user)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ballots[i].user == user ? (double)ballots[i].weight : 0;
    return sum;
}

START_TEST(without_bounds_all_votes_count_whole)
{
    ballot b[64];
    const trust_options none = {0}, ones = {.user_share = 1, .click_share = 1, .document_share = 1};
    size_t n = add_search(b, 0, 7, 1, 30, 30, 1);
    n = add_search(b, n, 8, 2, 10, 1, 1);
    ck_ok(trust_ballots(b, n, &none, &error));
    ck_ok(trust_ballots(b, n, &ones, &error));
    ck_assert_double_eq(weight_of(b, n, 7), 30);
    ck_assert_double_eq(weight_of(b, n, 8), 1);
    trust_pair pairs[2] = {{0, 1, 900}, {0, 2, 1}};
    ck_ok(trust_pairs(pairs, 2, 3, &none, &error));
    ck_assert(pairs[0].weight == 900 && pairs[1].weight == 1);
}
END_TEST

START_TEST(who_clicks_everything_counts_for_less_and_who_chooses_does_not)
{
    ballot b[400];
    const trust_options o = {.click_share = 0.5};
    size_t n = 0;
    for (uint64_t s = 1; s <= 20; s++) {
        n = add_search(b, n, 7, s, 10, 10, 60000);      /* everything */
        n = add_search(b, n, 8, 100 + s, 10, 3, 60000); /* three of ten */
        n = add_search(b, n, 9, 200 + s, 1, 1, 60000);  /* nothing to choose from */
    }
    n = add_search(b, n, 10, 300, 2, 2, 60000); /* two of two, once */
    ck_ok(trust_ballots(b, n, &o, &error));
    /* 200 of 205: (1 - 0.9756) / 0.5 */
    ck_assert_double_eq_tol(weight_of(b, n, 7) / 200, (1 - 200.0 / 205) / 0.5, 1e-5);
    ck_assert_double_eq(weight_of(b, n, 8), 60);
    ck_assert_double_eq(weight_of(b, n, 9), 20);
    ck_assert_double_eq(weight_of(b, n, 10), 2);
}
END_TEST

START_TEST(a_burst_counts_as_the_clicks_that_are_allowed)
{
    ballot b[100];
    const trust_options o = {.burst_clicks = 10, .burst_ms = 60000};
    size_t n = add_search(b, 0, 7, 1, 100, 40, 100); /* 40 in four seconds */
    n = add_search(b, n, 8, 2, 100, 40, 30000);      /* 40 in twenty minutes */
    ck_ok(trust_ballots(b, n, &o, &error));
    ck_assert_double_eq_tol(weight_of(b, n, 7), 10, 1e-5);
    ck_assert_double_eq(weight_of(b, n, 8), 40);
}
END_TEST

START_TEST(one_user_has_no_more_than_its_share_and_nobody_else_loses)
{
    ballot b[400];
    const trust_options o = {.user_share = 0.05};
    size_t n = add_search(b, 0, 7, 1, 1000, 100, 1);
    for (uint64_t s = 0; s < 100; s++)
        n = add_search(b, n, s < 50 ? 100 + s : 0, 10 + s, 10, 1, 1); /* half of the others give no name */
    ck_ok(trust_ballots(b, n, &o, &error));
    ck_assert_double_eq_tol(weight_of(b, n, 7) / (weight_of(b, n, 7) + 100), 0.05, 1e-5);
    for (size_t i = 0; i < n; i++)
        ck_assert(b[i].user == 7 || b[i].weight == 1);
}
END_TEST

START_TEST(feedback_is_no_click_and_each_is_a_voter)
{
    ballot b[300];
    const trust_options o = {.user_share = 0.1, .click_share = 0.1, .burst_clicks = 1, .burst_ms = 1000};
    for (uint32_t i = 0; i < 300; i++)
        b[i] = (ballot){.pair = i, .serial = i, .weight = 1};
    ck_ok(trust_ballots(b, 300, &o, &error));
    ck_assert_double_eq(weight_of(b, 300, 0), 300);
}
END_TEST

START_TEST(a_query_has_no_more_than_its_weight)
{
    trust_pair pairs[4] = {{0, 1, 30}, {0, 2, 10}, {3, 1, 19}, {3, 2, 1}};
    const trust_options o = {.query_weight = 20};
    ck_ok(trust_pairs(pairs, 4, 4, &o, &error));
    ck_assert_float_eq_tol(pairs[0].weight, 15, 1e-5);
    ck_assert_float_eq_tol(pairs[1].weight, 5, 1e-5);
    ck_assert(pairs[2].weight == 19 && pairs[3].weight == 1);
}
END_TEST

START_TEST(no_document_has_more_than_its_share_of_what_is_left)
{
    trust_pair pairs[200];
    const trust_options o = {.document_share = 0.05};
    for (uint32_t i = 0; i < 200; i++)
        pairs[i] = (trust_pair){i, 200 + (i < 50 ? 0 : i < 80 ? 1 : i), 1};
    ck_ok(trust_pairs(pairs, 200, 400, &o, &error));
    double held[2] = {0}, sum = 0;
    for (size_t i = 0; i < 200; i++) {
        sum += (double)pairs[i].weight;
        if (pairs[i].document < 202)
            held[pairs[i].document - 200] += (double)pairs[i].weight;
        else
            ck_assert(pairs[i].weight == 1);
    }
    ck_assert_double_eq_tol(held[0] / sum, 0.05, 1e-5);
    ck_assert_double_eq_tol(held[1] / sum, 0.05, 1e-5);
}
END_TEST

/* Of any sums: what is cut has exactly the share, and no larger cap would do. */
START_TEST(the_cap_is_the_largest_that_keeps_the_share)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (int round = 0; round < 200; round++) {
        double sums[60] = {0}, sorted[60], total = 0;
        const size_t count = 1 + (size_t)random_below(&r, 60);
        const double asked = 0.02 + random_unit(&r) * 0.4, share = fmax(asked, 2 / (double)count);
        for (size_t i = 0; i < count; i++)
            sums[i] = exp(6 * random_unit(&r));
        memcpy(sorted, sums, sizeof sums);
        const double cap = trust_cap(sorted, count, asked);
        double largest = 0;
        for (size_t i = 0; i < count; i++) {
            total += fmin(sums[i], cap);
            largest = fmax(largest, sums[i]);
        }
        if (isinf(cap))
            ck_assert(share >= 1 || largest <= share * total * (1 + 1e-9));
        else
            ck_assert_double_eq_tol(cap / total, share, 1e-9);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trust");
    TCase *tests = tcase_create("trust");
    tcase_add_test(tests, without_bounds_all_votes_count_whole);
    tcase_add_test(tests, who_clicks_everything_counts_for_less_and_who_chooses_does_not);
    tcase_add_test(tests, a_burst_counts_as_the_clicks_that_are_allowed);
    tcase_add_test(tests, one_user_has_no_more_than_its_share_and_nobody_else_loses);
    tcase_add_test(tests, feedback_is_no_click_and_each_is_a_voter);
    tcase_add_test(tests, a_query_has_no_more_than_its_weight);
    tcase_add_test(tests, no_document_has_more_than_its_share_of_what_is_left);
    tcase_add_test(tests, the_cap_is_the_largest_that_keeps_the_share);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
