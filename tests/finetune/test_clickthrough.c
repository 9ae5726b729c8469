#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/clickthrough.h"

#include <math.h>
#include <stdio.h>

enum { SHOWN = 10, USERS = 400, LEAST = 500, LOOKS = 5, TRIALS = 200 };

static const trust_options no_trust = {0};
static const trust_options usual = {.user_share = 0.05, .click_share = 0.5, .burst_clicks = 10, .burst_ms = 60000};
static sem_error error;

static void add(clickthrough_side *side, uint64_t user, const uint32_t *ranks, size_t clicks,
                const trust_options *trust)
{
    propensities bias;
    propensity_prior(&bias, 1);
    const clickthrough_search s = {.user = user,
                                   .number = side->searches + 1,
                                   .time_ms = (int64_t)side->searches * 100,
                                   .shown = SHOWN,
                                   .ranks = ranks,
                                   .clicks = clicks};
    ck_assert(clickthrough_add(side, &s, &bias, 10, trust));
}

static clickthrough_rate measure(const clickthrough_side *side, const trust_options *trust)
{
    clickthrough_rate rate;
    ck_ok(clickthrough_measure(side, trust, &rate, &error));
    return rate;
}

START_TEST(a_click_counts_over_its_propensity_and_by_its_rank)
{
    clickthrough_side side = {0};
    const uint32_t first[] = {1}, two[] = {1, 3}, deep[] = {50};
    add(&side, 0, first, 1, &no_trust);
    ck_assert_double_eq_tol(measure(&side, &no_trust).rate, 1, 1e-9);
    add(&side, 0, NULL, 0, &no_trust);
    ck_assert_double_eq_tol(measure(&side, &no_trust).rate, 0.5, 1e-9);
    add(&side, 0, two, 2, &no_trust);
    ck_assert_double_eq_tol(measure(&side, &no_trust).rate, (1 + 1 + 3 / log2(4)) / 3, 1e-9);
    add(&side, 0, deep, 1, &no_trust); /* clipped */
    ck_assert_double_eq_tol(measure(&side, &no_trust).rate, (2 + 1.5 + 10 / log2(51)) / 4, 1e-9);
    ck_assert_uint_eq(measure(&side, &no_trust).voters, 4);
    clickthrough_free(&side);
}
END_TEST

START_TEST(one_user_does_not_make_the_rate)
{
    clickthrough_side side = {0};
    const uint32_t first[] = {1};
    const trust_options trust = {.user_share = 0.05};
    for (uint64_t i = 0; i < 1000; i++)
        add(&side, 7, first, 1, &trust);
    for (uint64_t user = 100; user < 200; user++)
        add(&side, user, NULL, 0, &trust);
    ck_assert_uint_eq(side.count, 101);
    const clickthrough_rate rate = measure(&side, &trust);
    ck_assert_uint_eq(rate.searches, 1100);
    ck_assert_msg(rate.rate < 0.051, "%g", rate.rate);
    ck_assert(measure(&side, &no_trust).rate > 0.9);
    clickthrough_free(&side);
}
END_TEST

START_TEST(who_clicks_everything_says_nothing)
{
    clickthrough_side side = {0};
    const uint32_t all[SHOWN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, first[] = {1};
    const trust_options trust = {.click_share = 0.5};
    for (uint64_t i = 0; i < 200; i++)
        add(&side, 7, all, SHOWN, &trust);
    for (uint64_t user = 100; user < 200; user++)
        add(&side, user, first, 1, &trust);
    ck_assert_double_eq_tol(measure(&side, &trust).rate, 1, 0.3);
    ck_assert(measure(&side, &no_trust).rate > 5);
    clickthrough_free(&side);
}
END_TEST

START_TEST(bursts_count_for_so_many_clicks)
{
    clickthrough_side side = {0};
    const uint32_t first[] = {1};
    const trust_options trust = {.burst_clicks = 10, .burst_ms = 60000};
    for (uint64_t i = 0; i < 100; i++) /* within ten seconds */
        add(&side, 7, first, 1, &trust);
    ck_assert_double_eq_tol(measure(&side, &trust).rate, 0.1, 1e-9);
    clickthrough_free(&side);
}
END_TEST

/* Searches of users with a taste of their own: some click much more than others do. */
static void simulate(clickthrough_side *side, random_state *r, size_t searches, double relevance)
{
    while (side->searches < searches) {
        uint32_t ranks[SHOWN];
        size_t clicks = 0;
        const uint64_t user = 1 + random_below(r, USERS);
        const double taste = 2 * random_unit_of(random_at(99, user));
        for (uint32_t rank = 1; rank <= SHOWN; rank++)
            if (random_unit(r) < relevance * taste / rank / rank)
                ranks[clicks++] = rank;
        add(side, random_below(r, 3) == 0 ? 0 : user, ranks, clicks, &usual);
    }
}

/* The look that raised an alarm, or LOOKS. */
static unsigned watch(random_state *r, double relevance_before, double relevance_after)
{
    clickthrough_side before = {0}, after = {0};
    unsigned look = 0;
    simulate(&before, r, clickthrough_look_at(LEAST, LOOKS - 1), relevance_before);
    const clickthrough_rate old = measure(&before, &usual);
    for (; look < LOOKS; look++) {
        simulate(&after, r, clickthrough_look_at(LEAST, look), relevance_after);
        const clickthrough_rate new = measure(&after, &usual);
        if (clickthrough_fall(&old, &new) < clickthrough_look_level(0.01, look))
            break;
    }
    clickthrough_free(&before);
    clickthrough_free(&after);
    return look;
}

START_TEST(equal_rates_raise_no_alarm_in_at_least_95_of_100_trials)
{
    random_state r;
    unsigned alarms = 0;
    random_seed(&r, testing_seed_or(1));
    for (unsigned i = 0; i < TRIALS; i++)
        alarms += watch(&r, 0.3, 0.3) < LOOKS;
    printf("%u alarms in %d trials of %d looks\n", alarms, TRIALS, LOOKS);
    ck_assert_uint_le(alarms, TRIALS / 20);
}
END_TEST

START_TEST(a_rise_raises_no_alarm)
{
    random_state r;
    random_seed(&r, testing_seed_or(1));
    for (unsigned i = 0; i < 20; i++)
        ck_assert_uint_eq(watch(&r, 0.2, 0.3), LOOKS);
}
END_TEST

START_TEST(a_real_fall_raises_an_alarm_the_larger_the_sooner)
{
    random_state r;
    unsigned found = 0, soon = 0;
    random_seed(&r, testing_seed_or(1));
    for (unsigned i = 0; i < 20; i++) {
        found += watch(&r, 0.3, 0.24) < LOOKS;
        soon += watch(&r, 0.3, 0.1) == 0;
    }
    ck_assert_uint_ge(found, 19);
    ck_assert_uint_ge(soon, 19);
}
END_TEST

/* The same documents are clicked, further below: a count of clicks over propensities alone would not see it. */
START_TEST(right_documents_that_sink_are_a_fall)
{
    clickthrough_side before = {0}, after = {0};
    const uint32_t first[] = {1}, fifth[] = {5};
    for (uint64_t i = 0; i < 1000; i++) {
        add(&before, 0, first, i % 2 == 0, &usual);
        add(&after, 0, fifth, i % 10 == 0, &usual); /* people look there a fifth as often */
    }
    const clickthrough_rate old = measure(&before, &usual), new = measure(&after, &usual);
    ck_assert(clickthrough_fall(&old, &new) < 1e-6);
    clickthrough_free(&before);
    clickthrough_free(&after);
}
END_TEST

START_TEST(too_few_voters_are_no_evidence)
{
    clickthrough_side before = {0}, after = {0};
    const uint32_t first[] = {1};
    for (uint64_t i = 0; i < 1000; i++) {
        add(&before, 1 + i % (CLICKTHROUGH_VOTERS_MIN - 1), first, 1, &no_trust);
        add(&after, 1 + i % 100, NULL, 0, &no_trust);
    }
    clickthrough_rate old = measure(&before, &no_trust);
    const clickthrough_rate new = measure(&after, &no_trust);
    ck_assert_double_eq(clickthrough_fall(&old, &new), 1);
    old.voters = CLICKTHROUGH_VOTERS_MIN;
    ck_assert_double_eq(clickthrough_fall(&old, &new), 0);
    clickthrough_free(&before);
    clickthrough_free(&after);
}
END_TEST

START_TEST(all_looks_together_have_the_level_asked_for)
{
    double sum = 0;
    for (unsigned look = 0; look < 60; look++)
        sum += clickthrough_look_level(0.01, look);
    ck_assert_double_le(sum, 0.01);
    ck_assert_uint_eq(clickthrough_look_at(1000, 0), 1000);
    ck_assert_uint_eq(clickthrough_look_at(1000, 3), 8000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clickthrough");
    TCase *tests = tcase_create("clickthrough");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_click_counts_over_its_propensity_and_by_its_rank);
    tcase_add_test(tests, one_user_does_not_make_the_rate);
    tcase_add_test(tests, who_clicks_everything_says_nothing);
    tcase_add_test(tests, bursts_count_for_so_many_clicks);
    tcase_add_test(tests, equal_rates_raise_no_alarm_in_at_least_95_of_100_trials);
    tcase_add_test(tests, a_rise_raises_no_alarm);
    tcase_add_test(tests, a_real_fall_raises_an_alarm_the_larger_the_sooner);
    tcase_add_test(tests, right_documents_that_sink_are_a_fall);
    tcase_add_test(tests, too_few_voters_are_no_evidence);
    tcase_add_test(tests, all_looks_together_have_the_level_asked_for);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
