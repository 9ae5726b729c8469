#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/evaluate.h"

#include <math.h>

enum { QUERIES = 500 };

START_TEST(metrics_are_those_worked_out_by_hand)
{
    rank_metrics m = {0};
    const bool third[] = {false, false, true, false, true};
    rank_metrics_add(&m, third, 5, 3, 10);
    rank_metrics_mean(&m);
    ck_assert_uint_eq(m.queries, 1);
    ck_assert_double_eq_tol(m.mrr, 1.0 / 3, 1e-12);
    ck_assert_double_eq_tol(m.recall, 2.0 / 3, 1e-12);
    ck_assert_double_eq_tol(m.map, (1.0 / 3 + 2.0 / 5) / 3, 1e-12);
    ck_assert_double_eq_tol(m.ndcg, (1 / log2(4) + 1 / log2(6)) / (1 + 1 / log2(3) + 1 / log2(4)), 1e-12);
    ck_assert_double_eq_tol(m.top1, 0, 1e-12);
}
END_TEST

START_TEST(metrics_are_cut_at_k_and_averaged_over_queries)
{
    rank_metrics m = {0};
    const bool first[] = {true}, late[] = {false, false, true}, nothing[] = {false};
    rank_metrics_add(&m, first, 1, 1, 2);
    rank_metrics_add(&m, late, 3, 1, 2);
    rank_metrics_add(&m, nothing, 0, 1, 2);
    rank_metrics_add(&m, nothing, 1, 0, 2);
    rank_metrics_mean(&m);
    ck_assert_uint_eq(m.queries, 3);
    ck_assert_double_eq_tol(m.mrr, 1.0 / 3, 1e-12);
    ck_assert_double_eq_tol(m.top1, 1.0 / 3, 1e-12);
    ck_assert_double_eq_tol(m.recall, 1.0 / 3, 1e-12);
    ck_assert_double_eq_tol(m.ndcg, 1.0 / 3, 1e-12);
}
END_TEST

START_TEST(mean_of_no_queries_is_zero)
{
    rank_metrics m = {0};
    rank_metrics_mean(&m);
    ck_assert_double_eq(m.mrr, 0);
}
END_TEST

/* Reciprocal rank among the first n of five documents. */
static double rank(size_t n, size_t k, const uint32_t *relevant, size_t count, rank_metrics *sum)
{
    static const float query[] = {1, 0, 0};
    static const float documents[] = {0.9f, 0, 0, 0.5f, 0, 0, 0.5f, 1, 0, 0.1f, 0, 0, NAN, 0, 0};
    float scores[5];
    return rank_relevant(query, documents, n, 3, relevant, count, k, scores, sum);
}

START_TEST(rank_counts_ties_and_nonsense_against_the_document)
{
    rank_metrics sum = {0};
    const uint32_t each[] = {0, 1, 2, 3, 4};
    ck_assert_double_eq_tol(rank(4, 10, &each[0], 1, &sum), 1, 1e-12);
    ck_assert_double_eq_tol(rank(4, 10, &each[1], 1, &sum), 1.0 / 3, 1e-12);
    ck_assert_double_eq_tol(rank(4, 10, &each[3], 1, &sum), 1.0 / 4, 1e-12);
    ck_assert_double_eq_tol(rank(5, 10, &each[0], 1, &sum), 1.0 / 2, 1e-12);
    ck_assert_double_eq_tol(rank(5, 10, &each[4], 1, &sum), 1.0 / 5, 1e-12);
    ck_assert_double_eq_tol(rank(1, 10, &each[0], 1, &sum), 1, 1e-12);
    ck_assert_double_eq(rank(4, 3, &each[3], 1, &sum), 0);
    ck_assert_uint_eq(sum.queries, 7);
}
END_TEST

START_TEST(the_first_of_several_right_documents_counts)
{
    rank_metrics sum = {0};
    const uint32_t equal[] = {1, 2}, apart[] = {3, 0};
    /* One of two equal ones is first, and neither stands in the other's way. */
    ck_assert_double_eq_tol(rank(4, 10, equal, 2, &sum), 1.0 / 2, 1e-12);
    ck_assert_double_eq_tol(sum.recall, 1, 1e-12);
    ck_assert_double_eq_tol(sum.mrr, 1.0 / 2, 1e-12);
    ck_assert_double_eq_tol(rank(4, 10, apart, 2, &sum), 1, 1e-12);
    ck_assert_double_eq_tol(sum.recall, 2, 1e-12);
    ck_assert_double_eq_tol(rank(4, 2, apart, 2, &sum), 1, 1e-12);
    ck_assert_double_eq_tol(sum.recall, 2.5, 1e-12);
}
END_TEST

/* after = before + gain + noise */
static void fill(double *before, double *after, double gain, double noise)
{
    random_state r;
    random_seed(&r, 11);
    for (size_t i = 0; i < QUERIES; i++) {
        before[i] = random_unit(&r);
        after[i] = before[i] + gain + noise * (random_unit(&r) - 0.5);
    }
}

START_TEST(p_value_tells_gain_from_noise)
{
    double before[QUERIES], after[QUERIES];
    fill(before, after, 0.05, 0.2);
    ck_assert_double_eq_tol(randomisation_test(before, after, QUERIES, 10000, 1), 1.0 / 10001, 1e-12);
    ck_assert(randomisation_test(after, before, QUERIES, 10000, 1) > 0.999);
    fill(before, after, 0, 0.2);
    double p = randomisation_test(before, after, QUERIES, 10000, 1);
    ck_assert(p > 0.02 && p < 0.98);
    ck_assert_double_eq(p, randomisation_test(before, after, QUERIES, 10000, 1));
}
END_TEST

START_TEST(p_value_of_few_queries_is_the_exact_one)
{
    /* Three gains: of 8 sign patterns one is as large. */
    const double before[] = {0, 0, 0}, after[] = {0.5, 0.25, 1};
    ck_assert_double_eq_tol(randomisation_test(before, after, 3, 200000, 3), 0.125, 0.005);
}
END_TEST

START_TEST(no_change_and_no_queries_are_no_evidence)
{
    const double same[] = {0.5, 0.1}, broken[] = {0.5, NAN};
    ck_assert_double_eq_tol(randomisation_test(same, same, 2, 1000, 1), 1, 1e-12);
    ck_assert_double_eq_tol(randomisation_test(same, same, 0, 1000, 1), 1, 1e-12);
    ck_assert_double_eq_tol(randomisation_test(same, broken, 2, 1000, 1), 1, 1e-12);
    ck_assert(bootstrap_lower_bound(same, same, 0, 1000, 1) < -1e300);
    ck_assert(!(bootstrap_lower_bound(same, broken, 2, 1000, 1) > -1));
}
END_TEST

START_TEST(lower_bound_lies_below_the_mean_by_its_error)
{
    double before[QUERIES], after[QUERIES];
    fill(before, after, 0.05, 0.2);
    double mean = 0;
    for (size_t i = 0; i < QUERIES; i++)
        mean += (after[i] - before[i]) / QUERIES;
    /* The error of the mean is 0.2 / sqrt(12) / sqrt(500) = 0.00258. */
    double bound = bootstrap_lower_bound(before, after, QUERIES, 10000, 1);
    ck_assert_double_eq_tol(mean - bound, 1.645 * 0.00258, 0.0006);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("evaluate");
    TCase *tests = tcase_create("evaluate");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, metrics_are_those_worked_out_by_hand);
    tcase_add_test(tests, metrics_are_cut_at_k_and_averaged_over_queries);
    tcase_add_test(tests, mean_of_no_queries_is_zero);
    tcase_add_test(tests, rank_counts_ties_and_nonsense_against_the_document);
    tcase_add_test(tests, the_first_of_several_right_documents_counts);
    tcase_add_test(tests, p_value_tells_gain_from_noise);
    tcase_add_test(tests, p_value_of_few_queries_is_the_exact_one);
    tcase_add_test(tests, no_change_and_no_queries_are_no_evidence);
    tcase_add_test(tests, lower_bound_lies_below_the_mean_by_its_error);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
