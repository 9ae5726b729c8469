#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/propensity.h"

#include <math.h>
#include <stdlib.h>

static sem_error error;

/* A log under the position-based model: documents of queries, each with a relevance, are
 * shown by rankers that order them differently; somebody looks at rank k with truth[k - 1]. */
typedef struct simulated {
    size_t queries, documents, searches; /* per query: documents in the list, searches */
    size_t rankers;
    double relevant, other; /* chance of a click when looked at */
    const double *truth;
} simulated;

/* A shuffle of documents of its own for each query and ranker. */
static void rank_documents(const simulated *s, size_t query, size_t ranker, uint32_t *order)
{
    random_state r;
    random_seed(&r, random_at(query, ranker));
    for (size_t d = 0; d < s->documents; d++)
        order[d] = (uint32_t)d;
    random_shuffle(&r, order, s->documents, sizeof *order);
}

static impression *simulate(const simulated *s, uint64_t seed, size_t *count)
{
    random_state r;
    uint32_t *order = calloc(s->documents, sizeof *order);
    impression *all = calloc(s->queries * s->searches * s->documents, sizeof *all);
    random_seed(&r, seed);
    *count = 0;
    for (size_t q = 0; q < s->queries; q++) {
        for (size_t i = 0; i < s->searches; i++) {
            rank_documents(s, q, (size_t)random_below(&r, s->rankers), order);
            for (size_t k = 0; k < s->documents; k++) {
                double relevance = order[k] == q % s->documents ? s->relevant : s->other;
                bool clicked = random_unit(&r) < s->truth[k] * relevance;
                all[(*count)++] = (impression){q, order[k], (uint32_t)k + 1, clicked, 0};
            }
        }
    }
    free(order);
    return all;
}

static void estimate(propensities *p, impression *all, size_t count, double eta, double prior_clicks)
{
    const propensity_options options = {.eta = eta, .prior_clicks = prior_clicks};
    ck_ok(propensity_estimate(p, all, count, &options, &error));
}

/* Not of the prior's shape: a fold below rank 4. */
static const double FOLD[10] = {1, 0.9, 0.8, 0.7, 0.3, 0.28, 0.26, 0.24, 0.22, 0.2};

START_TEST(propensities_of_a_simulated_log_come_out_within_a_tenth)
{
    const simulated s = {2000, 10, 40, 4, 0.8, 0.1, FOLD};
    propensities p;
    size_t count;
    impression *all = simulate(&s, 7, &count);
    estimate(&p, all, count, 1, 100);
    for (uint32_t k = 1; k <= 10; k++)
        ck_assert_msg(fabs(propensity_at(&p, k) / FOLD[k - 1] - 1) < 0.1, "rank %u: %g instead of %g", k,
                      propensity_at(&p, k), FOLD[k - 1]);
    ck_assert_uint_gt(p.moved, 15000);
    free(all);
}
END_TEST

/* Naive click rates by rank are of no use where a ranker puts what is relevant first. */
START_TEST(a_good_ranker_is_not_taken_for_position_bias)
{
    enum { QUERIES = 3000, SEARCHES = 30 };
    static const double truth[3] = {1, 0.6, 0.4}, relevance[3] = {0.8, 0.2, 0.05};
    static const uint32_t orders[2][3] = {{0, 1, 2}, {0, 2, 1}}, swapped[3] = {1, 0, 2};
    random_state r;
    propensities p;
    size_t n = 0;
    double clicks[3] = {0};
    impression *all = calloc((size_t)QUERIES * SEARCHES * 3, sizeof *all);
    random_seed(&r, 3);
    for (uint64_t q = 0; q < QUERIES; q++) {
        for (size_t i = 0; i < SEARCHES; i++) {
            const uint32_t *order = random_below(&r, 10) == 0 ? swapped : orders[random_below(&r, 2)];
            for (uint32_t k = 0; k < 3; k++) {
                bool clicked = random_unit(&r) < truth[k] * relevance[order[k]];
                clicks[k] += clicked;
                all[n++] = (impression){q, order[k], k + 1, clicked, 0};
            }
        }
    }
    estimate(&p, all, n, 0, 1);
    ck_assert(clicks[1] / clicks[0] < 0.2); /* what a look at the rates alone would say */
    ck_assert_msg(fabs(propensity_at(&p, 2) / 0.6 - 1) < 0.1, "%g", propensity_at(&p, 2));
    ck_assert_msg(fabs(propensity_at(&p, 3) / 0.4 - 1) < 0.15, "%g", propensity_at(&p, 3));
    free(all);
}
END_TEST

/* Two ranks and no prior to speak of: the estimate is the ratio of c(2; 1, 2) to c(1; 1, 2), the sums
 * over the documents of both ranks of clicks over times shown. */
START_TEST(two_ranks_have_the_ratio_of_weighted_clicks)
{
    impression all[] = {
        {1, 1, 1, true, 0},  {1, 1, 1, false, 0}, {1, 1, 2, true, 0}, {1, 1, 2, false, 0}, {1, 1, 2, false, 0},
        {1, 1, 2, false, 0}, {1, 2, 2, false, 0}, {1, 2, 1, true, 0}, {1, 2, 1, true, 0},  {1, 2, 1, false, 0},
        {1, 2, 1, false, 0}, {2, 2, 2, true, 0},  {2, 2, 1, true, 0}, {2, 2, 1, true, 0},  {2, 3, 1, true, 0},
        {2, 3, 1, true, 0},  {3, 3, 2, true, 0},
    };
    /* (1, 1): 1/2 and 1/4; (1, 2): 2/4 and 0; (2, 2): 1 and 1; the others at one rank only. */
    const double expected = (0.25 + 0 + 1) / (0.5 + 0.5 + 1);
    propensities p;
    estimate(&p, all, sizeof all / sizeof *all, 1, 1e-9);
    ck_assert_double_eq_tol(propensity_at(&p, 2), expected, 1e-5);
    ck_assert_uint_eq(p.moved, 3);
    ck_assert_double_eq(p.clicks, 7);
}
END_TEST

START_TEST(without_a_document_at_two_ranks_the_prior_stands)
{
    impression all[] = {
        {1, 1, 1, true, 0}, {1, 2, 2, true, 0}, {2, 1, 2, true, 0}, {1, 1, 1, false, 0}, {3, 1, 77, true, 0}};
    propensities p;
    estimate(&p, all, sizeof all / sizeof *all, 0.7, 100);
    for (uint32_t k = 1; k <= 200; k++)
        ck_assert_double_eq_tol(propensity_at(&p, k), pow(k, -0.7), 1e-9);
    ck_assert_uint_eq(p.moved, 0);
    estimate(&p, NULL, 0, 0, 100);
    ck_assert_double_eq(propensity_at(&p, 9), 1);
}
END_TEST

START_TEST(the_prior_gives_way_as_clicks_come)
{
    propensities few, many;
    size_t count;
    const simulated little = {20, 10, 6, 4, 0.8, 0.1, FOLD}, much = {4000, 10, 20, 4, 0.8, 0.1, FOLD};
    impression *a = simulate(&little, 1, &count);
    estimate(&few, a, count, 1, 300);
    free(a);
    a = simulate(&much, 1, &count);
    estimate(&many, a, count, 1, 300);
    free(a);
    const double prior = 0.25, truth = FOLD[3];
    ck_assert_msg(fabs(few.at[3] - prior) < fabs(truth - prior) / 4, "%g", few.at[3]);
    ck_assert_msg(fabs(many.at[3] - truth) < fabs(truth - prior) / 4, "%g", many.at[3]);
}
END_TEST

START_TEST(order_of_the_log_makes_no_difference)
{
    const simulated s = {50, 10, 20, 3, 0.8, 0.1, FOLD};
    propensities first, second;
    random_state r;
    size_t count;
    impression *all = simulate(&s, 5, &count);
    random_seed(&r, 9);
    estimate(&first, all, count, 1, 10);
    random_shuffle(&r, all, count, sizeof *all);
    estimate(&second, all, count, 1, 10);
    ck_assert_mem_eq(first.at, second.at, sizeof first.at);
    free(all);
}
END_TEST

START_TEST(a_clicks_weight_is_the_inverse_and_clipped)
{
    propensities p;
    propensity_prior(&p, 1);
    ck_assert_double_eq_tol(propensity_weight(&p, 1, 10), 1, 1e-12);
    ck_assert_double_eq_tol(propensity_weight(&p, 4, 10), 4, 1e-12);
    ck_assert_double_eq_tol(propensity_weight(&p, 80, 100), 80, 1e-9);
    ck_assert_double_eq(propensity_weight(&p, 11, 10), 10);
    ck_assert_double_eq(propensity_weight(&p, 3, 1), 1);
    ck_assert_double_eq(propensity_weight(&p, 0, 10), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("propensity");
    TCase *tests = tcase_create("propensity");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, propensities_of_a_simulated_log_come_out_within_a_tenth);
    tcase_add_test(tests, a_good_ranker_is_not_taken_for_position_bias);
    tcase_add_test(tests, two_ranks_have_the_ratio_of_weighted_clicks);
    tcase_add_test(tests, without_a_document_at_two_ranks_the_prior_stands);
    tcase_add_test(tests, the_prior_gives_way_as_clicks_come);
    tcase_add_test(tests, order_of_the_log_makes_no_difference);
    tcase_add_test(tests, a_clicks_weight_is_the_inverse_and_clipped);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
