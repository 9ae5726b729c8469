/* What a held-out click is judged among, and what it weighs. */
#include "tests/finetune/pairs_case.h"

#include "base/random.h"
#include "finetune/evaluate.h"

#include <math.h>

static const char *const texts[] = {"the first text", "the second text", "the third text", "the fourth text"};

static void collect_heldout(const pairs_case *t, const propensities *bias, pair_set *set)
{
    const pair_options options = {.heldout_share = 1, .key = pairs_key, .bias = bias, .most_weight = 10};
    store_read *r = NULL;
    ck_ok(store_read_begin(t->store, &r, &error));
    ck_ok(pair_set_collect(set, r, &options, &error));
    store_read_end(r);
}

static bool was_shown(const heldout_query *h, uint32_t docno)
{
    for (size_t i = 0; i < h->shown_count; i++)
        if (h->shown[i] == docno)
            return true;
    return false;
}

START_TEST(a_held_out_click_keeps_its_weight_and_what_was_shown)
{
    pairs_case t;
    pair_set set;
    propensities bias;
    const docid first[] = {id_of(1), id_of(2)}, second[] = {id_of(4), id_of(2), id_of(1)};
    arrange(&t, texts, 4);
    propensity_prior(&bias, 1);
    search_of(&t, "q1", 1, "one", first, 2);
    search_of(&t, "q2", 2, "one", second, 3);
    click(&t, "q1", 2, 1);
    click(&t, "q2", 4, 1);
    feedback(&t, "two", 3, NULL, 1);

    collect_heldout(&t, &bias, &set);
    ck_assert_uint_eq(set.heldout_count, 3);
    const heldout_query *low = &set.heldout[0], *top = &set.heldout[1], *told = &set.heldout[2];
    ck_assert_double_eq_tol(low->weight, 2, 1e-6); /* at rank 2 half of them look */
    ck_assert_double_eq_tol(top->weight, 1, 1e-6);
    ck_assert_uint_eq(low->shown_count, 2);
    ck_assert(was_shown(low, low->docno) && was_shown(top, top->docno) && was_shown(top, low->docno));
    ck_assert_uint_eq(top->shown_count, 3);
    ck_assert_uint_eq(told->shown_count, 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(clicks_on_one_document_have_all_that_was_shown_with_it_once)
{
    pairs_case t;
    pair_set set;
    const docid first[] = {id_of(1), id_of(2)}, second[] = {id_of(2), id_of(3), id_of(1)};
    arrange(&t, texts, 4);
    search_of(&t, "q1", 1, "one", first, 2);
    search_of(&t, "q2", 2, "one", second, 3);
    click(&t, "q1", 2, 1);
    click(&t, "q2", 2, 1);

    collect_heldout(&t, NULL, &set);
    ck_assert_uint_eq(set.heldout_count, 1);
    ck_assert_uint_eq(set.heldout[0].shown_count, 3);
    ck_assert_double_eq_tol(set.heldout[0].weight, 2, 1e-6);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(ranks_among_what_was_shown_do_not_see_the_rest)
{
    const float scores[] = {0.9f, 0.5f, 0.5f, 0.7f, NAN};
    const uint32_t shown[] = {1, 2, 3}, odd[] = {1, 4};
    ck_assert_double_eq(rank_shown(scores, shown, 3, 3), 1);
    ck_assert_double_eq_tol(rank_shown(scores, shown, 3, 1), 1.0 / 3, 1e-12); /* a tie counts against it */
    ck_assert_double_eq(rank_shown(scores, shown, 0, 1), 1);
    ck_assert_double_eq(rank_shown(scores, odd, 2, 1), 0.5); /* and so does what is no number */
    ck_assert_double_eq(rank_whole(scores, 4, 3, 10), 0.5);
    ck_assert_double_eq(rank_whole(scores, 4, 1, 3), 0);
}
END_TEST

/* Documents by rank of what served, as the other model scores them: all at random, but for one right one. */
enum { DOCUMENTS = 40, SHOWN = 10, LISTS = 40000 };

/* The mean change of clicks' reciprocal ranks when a model of other, equally random scores takes over; lift is what
 * it adds to the right document, which the serving model has at a random rank. Some of what is looked at is
 * clicked by mistake. */
static double change_by_clicks(double lift, bool among_shown, double *spread)
{
    random_state r;
    propensities bias;
    double sum = 0, squares = 0, weight = 0;
    uint32_t shown[SHOWN];
    random_seed(&r, testing_seed());
    propensity_prior(&bias, 1);
    for (size_t n = 0; n < LISTS; n++) {
        float served[DOCUMENTS], other[DOCUMENTS];
        const size_t right = (size_t)random_below(&r, DOCUMENTS);
        for (uint32_t d = 0; d < DOCUMENTS; d++) {
            served[d] = -(float)d; /* document d is at rank d + 1 */
            other[d] = (float)(random_unit(&r) + (d == right ? lift : 0));
        }
        for (uint32_t d = 0; d < SHOWN; d++)
            shown[d] = d;
        for (uint32_t d = 0; d < SHOWN; d++) {
            if (random_unit(&r) >= propensity_at(&bias, d + 1) * (d == right ? 1 : 0.1))
                continue;
            const double before = among_shown ? rank_shown(served, shown, SHOWN, d)
                                              : rank_whole(served, DOCUMENTS, d, 10);
            const double after = among_shown ? rank_shown(other, shown, SHOWN, d) : rank_whole(other, DOCUMENTS, d, 10);
            const double w = propensity_weight(&bias, d + 1, 10);
            sum += w * (after - before);
            squares += w * w * (after - before) * (after - before);
            weight += w;
        }
    }
    *spread = sqrt(squares) / weight;
    return sum / weight;
}

START_TEST(weighed_clicks_among_what_was_shown_judge_models_evenly)
{
    double spread, change = change_by_clicks(0, true, &spread);
    ck_assert_msg(fabs(change) < 5 * spread, "as good a model changes clicks by %.4f (+-%.4f)", change, spread);
    change = change_by_clicks(0.5, true, &spread);
    ck_assert_msg(change > 5 * spread, "a better model changes clicks by %.4f (+-%.4f)", change, spread);
    /* Among all documents whatever served looks better than a model that is as good, and than a better one. */
    change = change_by_clicks(0.5, false, &spread);
    ck_assert_msg(change < -5 * spread, "among all documents a better model changes clicks by %.4f", change);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("shown");
    TCase *tests = tcase_create("shown");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_held_out_click_keeps_its_weight_and_what_was_shown);
    tcase_add_test(tests, clicks_on_one_document_have_all_that_was_shown_with_it_once);
    tcase_add_test(tests, ranks_among_what_was_shown_do_not_see_the_rest);
    tcase_add_test(tests, weighed_clicks_among_what_was_shown_judge_models_evenly);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
