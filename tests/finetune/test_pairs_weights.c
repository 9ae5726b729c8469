/* What a click weighs as a training pair, and which documents become its negatives. */
#include "tests/finetune/pairs_case.h"

#include "base/random.h"
#include "finetune/harvest.h"

#include <math.h>

static const char *const texts[] = {"the first text", "the second text", "the third text", "The  FIRST text", "one",
                                    "the sixth text"};
enum { TEXTS = 6 };

static const docid *all_ids(void)
{
    static docid ids[TEXTS];
    for (uint64_t i = 0; i < TEXTS; i++)
        ids[i] = id_of(i + 1);
    return ids;
}

START_TEST(a_clicks_weight_is_over_its_ranks_propensity)
{
    pairs_case t;
    pair_set set;
    propensities bias;
    arrange(&t, texts, TEXTS);
    search(&t, "q1", "one", all_ids(), TEXTS);
    click(&t, "q1", 1, 1);
    click(&t, "q1", 3, 0.5);
    click(&t, "q1", 6, 1);
    feedback(&t, "two", 2, NULL, 1);
    propensity_prior(&bias, 1);
    const pair_options options = {.key = pairs_key, .bias = &bias, .most_weight = 5};
    collect_with(&t, &options, &set);
    ck_assert_uint_eq(set.count, 4);
    ck_assert_float_eq_tol(set.pairs[0].weight, 1, 1e-6);
    ck_assert_float_eq_tol(set.pairs[1].weight, 1.5, 1e-6);
    ck_assert_float_eq_tol(set.pairs[2].weight, 5, 1e-6);
    ck_assert_float_eq_tol(set.pairs[3].weight, 1, 1e-6);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(each_user_has_one_vote_for_a_query_and_document)
{
    pairs_case t;
    pair_set set;
    arrange(&t, texts, TEXTS);
    search_of(&t, "a1", 7, "one", all_ids(), TEXTS);
    search_of(&t, "a2", 7, "one", all_ids(), TEXTS);
    search_of(&t, "b1", 8, "one", all_ids(), TEXTS);
    search(&t, "n1", "one", all_ids(), TEXTS);
    search(&t, "n2", "one", all_ids(), TEXTS);
    click(&t, "a1", 2, 1);
    click(&t, "a2", 2, 0.5);
    click(&t, "b1", 2, 1);
    click(&t, "n1", 2, 1);
    click(&t, "n2", 2, 0.25);
    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 1);
    ck_assert_float_eq_tol(set.pairs[0].weight, 0.5 + 1 + 0.25, 1e-6);
    pair_set_free(&set);
    feedback(&t, "one", 2, NULL, -1);
    search_of(&t, "c1", 9, "one", all_ids(), TEXTS);
    click(&t, "c1", 2, 1);
    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 1);
    ck_assert_float_eq_tol(set.pairs[0].weight, 1, 1e-6);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(propensities_come_from_the_log)
{
    pairs_case t;
    propensities p;
    store_read *r = NULL;
    char query_id[16];
    const docid one[2] = {id_of(1), id_of(2)}, other[2] = {id_of(2), id_of(1)};
    arrange(&t, texts, TEXTS);
    /* Each of two documents at both ranks; the first rank is clicked twice as often. */
    for (uint64_t i = 0; i < 40; i++) {
        snprintf(query_id, sizeof query_id, "q%d", (int)i);
        search_of(&t, query_id, i + 1, "one", i % 2 == 0 ? one : other, 2);
        click(&t, query_id, i % 2 == 0 ? 1 : 2, 1);
        if (i % 4 < 2)
            click(&t, query_id, i % 2 == 0 ? 2 : 1, 1);
    }
    const propensity_options options = {.eta = 2, .prior_clicks = 1e-9};
    ck_ok(store_read_begin(t.store, &r, &error));
    ck_ok(harvest_propensities(&p, r, t.collection, 0, &options, &error));
    ck_assert_double_eq_tol(propensity_at(&p, 2), 0.5, 1e-4);
    ck_assert_double_eq(p.clicks, 60);
    ck_ok(harvest_propensities(&p, r, t.collection + 1, 0, &options, &error));
    ck_assert_double_eq_tol(propensity_at(&p, 2), 0.25, 1e-9);
    store_read_end(r);
    store_close(t.store);
}
END_TEST

/* Four ask "one": three click document 2, the fourth 4. The gate's votes are left as they are. */
START_TEST(clicks_that_are_trained_on_count_by_agreement)
{
    pairs_case t;
    pair_set set;
    propensities bias;
    agreement agreed;
    store_read *r = NULL;
    char query_id[16];
    arrange(&t, texts, TEXTS);
    for (uint64_t i = 0; i < 4; i++) {
        snprintf(query_id, sizeof query_id, "q%d", (int)i);
        search_of(&t, query_id, i + 1, "one", all_ids(), TEXTS);
        click(&t, query_id, i < 3 ? 2 : 4, 1);
    }
    propensity_prior(&bias, 1);
    ck_ok(store_read_begin(t.store, &r, &error));
    ck_ok(harvest_agreement(&agreed, r, t.collection, 0, &bias, &error));
    store_read_end(r);
    ck_assert_uint_eq(agreed.count, 2);
    const docid two = id_of(2), four = id_of(4);
    const uint64_t query = harvest_query(t.collection, "one", 3);
    const double often = agreement_of(&agreed, query, harvest_document(&two), 2),
                 rarely = agreement_of(&agreed, query, harvest_document(&four), 4);
    ck_assert_msg(rarely < often && often <= 1 && rarely > 0, "%g, %g", often, rarely);
    pair_options options = {.key = pairs_key, .bias = &bias, .most_weight = 10, .agreed = &agreed};
    collect_with(&t, &options, &set);
    ck_assert_uint_eq(set.count, 2);
    ck_assert_float_eq_tol(set.pairs[0].weight, (float)(3 * 2 * often), 1e-5);
    ck_assert_float_eq_tol(set.pairs[1].weight, (float)(4 * rarely), 1e-5);
    pair_set_free(&set);
    options.heldout_share = 1;
    collect_with(&t, &options, &set);
    ck_assert_uint_eq(set.heldout_count, 2);
    ck_assert_double_eq_tol(set.heldout[0].weight, 6, 1e-6);
    ck_assert_double_eq_tol(set.heldout[1].weight, 4, 1e-6);
    pair_set_free(&set);
    agreement_free(&agreed);
    store_close(t.store);
}
END_TEST

static bool has_negative(const train_pair *p, const char *text)
{
    for (size_t i = 0; i < p->negative_count; i++)
        if (p->negatives[i].length == strlen(text) && memcmp(p->negatives[i].text, text, strlen(text)) == 0)
            return true;
    return false;
}

START_TEST(documents_passed_by_above_a_click_are_negatives_but_for_right_ones)
{
    pairs_case t;
    pair_set set;
    arrange(&t, texts, TEXTS);
    /* Above 6: 1 (what it says is clicked as 4 below), 2 (clicked by another), 3, 4, 5 (the query itself). */
    search_of(&t, "a", 7, "one", all_ids(), TEXTS);
    click(&t, "a", 6, 1);
    search_of(&t, "b", 8, "one", all_ids(), TEXTS);
    click(&t, "b", 2, 1);
    const pair_options options = {.key = pairs_key, .negatives = 4};
    collect_with(&t, &options, &set);
    ck_assert_uint_eq(set.count, 2);
    ck_assert_uint_eq(set.pairs[0].negative_count, 3);
    ck_assert(has_negative(&set.pairs[0], "the third text") && has_negative(&set.pairs[0], "the first text"));
    ck_assert(!has_negative(&set.pairs[0], "the second text") && !has_negative(&set.pairs[0], "one"));
    ck_assert_uint_eq(set.pairs[1].negative_count, 1);
    ck_assert(has_negative(&set.pairs[1], "the first text"));
    ck_assert(set.pairs[1].negatives[0].key == hash_text("the first text", 14));
    ck_assert(set.passed_by.candidates == 6 && set.passed_by.known == 1 && set.passed_by.same_text == 1);
    pair_set_free(&set);

    search_of(&t, "c", 9, "one", all_ids(), TEXTS);
    click(&t, "c", 4, 1);
    collect_with(&t, &options, &set);
    ck_assert_uint_eq(set.count, 3);
    ck_assert(!has_negative(&set.pairs[0], texts[3])); /* a positive now */
    ck_assert(!has_negative(&set.pairs[2], texts[0])); /* the positive, in other letters */
    ck_assert(has_negative(&set.pairs[2], texts[2]));
    pair_set_free(&set);

    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.negative_count, 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(those_skipped_most_often_come_first_and_none_for_held_out_queries)
{
    pairs_case t;
    pair_set set;
    const docid first[3] = {id_of(1), id_of(2), id_of(6)}, second[2] = {id_of(2), id_of(6)};
    arrange(&t, texts, TEXTS);
    search_of(&t, "a", 7, "a query", first, 3);
    search_of(&t, "b", 8, "a query", second, 2);
    click(&t, "a", 6, 1);
    click(&t, "b", 6, 1);
    pair_options options = {.key = pairs_key, .negatives = 1};
    collect_with(&t, &options, &set);
    ck_assert(set.count == 1 && set.pairs[0].negative_count == 1);
    ck_assert(has_negative(&set.pairs[0], "the second text"));
    pair_set_free(&set);
    options.heldout_share = 1;
    collect_with(&t, &options, &set);
    ck_assert(set.count == 0 && set.heldout_count == 1 && set.negative_count == 0 && set.passed_by.candidates == 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(only_the_nearest_above_a_click_are_looked_at)
{
    enum { LIST = 12 };
    pairs_case t;
    pair_set set;
    char store_texts[LIST][16];
    const char *pointers[LIST];
    docid shown[LIST];
    for (uint64_t i = 0; i < LIST; i++) {
        snprintf(store_texts[i], sizeof store_texts[i], "text %d", (int)i + 1);
        pointers[i] = store_texts[i];
        shown[i] = id_of(i + 1);
    }
    arrange(&t, pointers, LIST);
    search(&t, "a", "a query", shown, LIST);
    click(&t, "a", LIST, 1);
    const pair_options options = {.key = pairs_key, .negatives = LIST};
    collect_with(&t, &options, &set);
    ck_assert(set.count == 1 && set.pairs[0].negative_count == SKIPPED_ABOVE);
    for (size_t i = LIST - 1 - SKIPPED_ABOVE; i < LIST - 1; i++)
        ck_assert(has_negative(&set.pairs[0], store_texts[i]));
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

/* Honest users click a document of their query's own, each at some rank; a fifth of all clicks
 * are on one document, for every query there is. */
typedef struct share_case {
    size_t attackers;
    bool named;
} share_case;

enum { QUERIES = 100, HONEST = 80, ATTACKED = 20 };

static double attacked_share(const share_case *c, const pair_options *options)
{
    pairs_case t;
    pair_set set;
    char storage[QUERIES + 1][24], query[24], query_id[24];
    const char *pointers[QUERIES + 1];
    for (size_t i = 0; i <= QUERIES; i++) {
        snprintf(storage[i], sizeof storage[i], "document %zu", i + 1);
        pointers[i] = storage[i];
    }
    arrange(&t, pointers, QUERIES + 1);
    for (uint64_t i = 0; i < QUERIES; i++) {
        const uint64_t user = i < HONEST ? 1000 + i % 40 : c->named ? 1 + i % c->attackers : 0;
        const docid shown[8] = {id_of((i + 1) % QUERIES + 1),
                                id_of((i + 2) % QUERIES + 1),
                                id_of(i + 1),
                                id_of((i + 3) % QUERIES + 1),
                                id_of((i + 4) % QUERIES + 1),
                                id_of((i + 5) % QUERIES + 1),
                                id_of((i + 6) % QUERIES + 1),
                                id_of(QUERIES + 1)};
        snprintf(query, sizeof query, "query %d", (int)i);
        snprintf(query_id, sizeof query_id, "q%d", (int)i);
        search_of(&t, query_id, user, query, shown, 8);
        click(&t, query_id, i < HONEST ? i + 1 : QUERIES + 1, 1);
    }
    collect_with(&t, options, &set);
    double sum = 0, wrong = 0;
    for (size_t i = 0; i < set.count; i++) {
        sum += (double)set.pairs[i].weight;
        if (set.pairs[i].document_key == hash_text("document 101", 12))
            wrong += (double)set.pairs[i].weight;
    }
    ck_assert_uint_eq(set.count, QUERIES);
    pair_set_free(&set);
    store_close(t.store);
    return wrong / sum;
}

START_TEST(a_fifth_of_the_clicks_gives_one_document_a_bounded_share)
{
    static const share_case cases[] = {{1, true}, {20, true}, {0, false}};
    propensities bias;
    propensity_prior(&bias, 1);
    pair_options options = {.key = pairs_key, .bias = &bias, .most_weight = 10};
    /* At rank 8 the attack weighs 8, an honest click at rank 3 weighs 3. */
    ck_assert_double_eq_tol(attacked_share(&cases[0], &options), 160.0 / (160 + 240), 1e-6);
    options.trust = (trust_options){.user_share = 0.05, .document_share = 0.05};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_double_le(attacked_share(&cases[i], &options), 0.05 + 1e-6);
    options.trust.document_share = 0;
    ck_assert_double_le(attacked_share(&cases[0], &options), 0.05 + 1e-6); /* the one user's share */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pairs_weights");
    TCase *tests = tcase_create("pairs_weights");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_clicks_weight_is_over_its_ranks_propensity);
    tcase_add_test(tests, each_user_has_one_vote_for_a_query_and_document);
    tcase_add_test(tests, propensities_come_from_the_log);
    tcase_add_test(tests, clicks_that_are_trained_on_count_by_agreement);
    tcase_add_test(tests, documents_passed_by_above_a_click_are_negatives_but_for_right_ones);
    tcase_add_test(tests, those_skipped_most_often_come_first_and_none_for_held_out_queries);
    tcase_add_test(tests, only_the_nearest_above_a_click_are_looked_at);
    tcase_add_test(tests, a_fifth_of_the_clicks_gives_one_document_a_bounded_share);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
