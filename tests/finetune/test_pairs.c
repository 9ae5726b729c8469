#include "tests/finetune/pairs_case.h"

static const char *const texts[] = {"the first text", "the second text", "the third text", "the first text"};

START_TEST(clicks_become_pairs_of_query_and_clicked_text)
{
    pairs_case t;
    pair_set set;
    const docid shown[] = {id_of(1), id_of(2)};
    arrange(&t, texts, 4);
    search(&t, "q1", "one", shown, 2);
    click(&t, "q1", 2, 1);
    click(&t, "q1", 1, 0.5);

    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 2);
    ck_assert(is_pair(&set.pairs[0], "one", "the second text"));
    ck_assert(is_pair(&set.pairs[1], "one", "the first text"));
    ck_assert_float_eq(set.pairs[0].weight, 1);
    ck_assert_float_eq(set.pairs[1].weight, 0.5f);
    ck_assert(set.pairs[0].query_key == set.pairs[1].query_key);
    ck_assert(set.pairs[0].document_key != set.pairs[1].document_key);
    ck_assert_uint_eq(set.heldout_count + set.skipped, 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(equal_texts_are_one_document)
{
    pairs_case t;
    pair_set set;
    arrange(&t, texts, 4);
    feedback(&t, "one", 1, NULL, 1);
    feedback(&t, "two", 4, NULL, 1);
    feedback(&t, "three", 0, "the first text", 1);
    feedback(&t, "four", 0, "a text of its own", 1);

    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 4);
    ck_assert(set.pairs[0].document_key == set.pairs[1].document_key);
    ck_assert(set.pairs[0].document_key == set.pairs[2].document_key);
    ck_assert(set.pairs[0].document_key != set.pairs[3].document_key);
    ck_assert(set.pairs[3].document_key == hash_text("a text of its own", 17));
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(a_query_and_document_have_one_vote_and_the_latest_counts)
{
    pairs_case t;
    pair_set set;
    const docid shown[] = {id_of(1), id_of(2), id_of(3)};
    arrange(&t, texts, 4);
    search(&t, "q1", "one", shown, 3);
    search(&t, "q2", "one", shown, 3);
    click(&t, "q1", 1, 9);
    click(&t, "q2", 1, 0.25);
    click(&t, "q1", 2, 10);

    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 2);
    ck_assert_float_eq(set.pairs[0].weight, 0.25f);
    ck_assert_float_eq(set.pairs[1].weight, 1);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(negative_label_takes_an_earlier_click_back)
{
    pairs_case t;
    pair_set set;
    const docid shown[] = {id_of(1), id_of(2)};
    arrange(&t, texts, 4);
    search(&t, "q1", "one", shown, 2);
    click(&t, "q1", 1, 1);
    click(&t, "q1", 2, 1);
    feedback(&t, "one", 1, NULL, -1);
    feedback(&t, "two", 0, "the second text", -1);

    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 1);
    ck_assert(is_pair(&set.pairs[0], "one", "the second text"));
    ck_assert_uint_eq(set.skipped, 2);
    pair_set_free(&set);

    feedback(&t, "one", 0, "the first text", 1);
    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 2);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(clicks_on_documents_that_are_gone_are_skipped_and_counted)
{
    pairs_case t;
    pair_set set;
    store_write *w = NULL;
    uint32_t docno = 0;
    size_t deleted = 0;
    uint64_t seq = 0;
    const docid shown[] = {id_of(1), id_of(2)};
    arrange(&t, texts, 4);
    search(&t, "q1", "one", shown, 2);
    click(&t, "q1", 1, 1);
    click(&t, "q1", 2, 1);
    ck_ok(store_write_begin(t.store, &w, &error));
    ck_ok(store_documents_delete(w, t.collection, &shown[0], 1, &docno, &deleted, &seq, &error));
    ck_ok(store_write_commit(w, &error));

    collect(&t, 0, 0, &set);
    ck_assert_uint_eq(set.count, 1);
    ck_assert(is_pair(&set.pairs[0], "one", "the second text"));
    ck_assert_uint_eq(set.skipped, 1);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

static bool is_heldout(const pair_set *set, const char *query)
{
    for (size_t i = 0; i < set->heldout_count; i++) {
        if (set->heldout[i].query_length == strlen(query) && memcmp(set->heldout[i].query, query, strlen(query)) == 0)
            return true;
    }
    return false;
}

START_TEST(held_out_queries_stay_held_out_and_are_never_trained_on)
{
    enum { QUERIES = 400 };
    pairs_case t;
    pair_set first, second;
    char query[32];
    arrange(&t, texts, 4);
    for (size_t i = 0; i < QUERIES; i++) {
        snprintf(query, sizeof query, "query %zu", i);
        feedback(&t, query, 1 + i % 3, NULL, 1);
    }
    collect(&t, 0.2, 0, &first);
    for (size_t i = 0; i < QUERIES; i++) {
        snprintf(query, sizeof query, "query %zu", i);
        feedback(&t, query, 1 + (i + 1) % 3, NULL, 1);
    }
    collect(&t, 0.2, 0, &second);

    ck_assert_uint_eq(first.count + first.heldout_count, QUERIES);
    ck_assert(first.heldout_count > QUERIES / 10 && first.heldout_count < QUERIES * 3 / 10);
    ck_assert_uint_eq(second.count, 2 * first.count);
    ck_assert_uint_eq(second.heldout_count, 2 * first.heldout_count);
    for (size_t i = 0; i < first.heldout_count; i++) {
        snprintf(query, sizeof query, "%.*s", (int)first.heldout[i].query_length, first.heldout[i].query);
        ck_assert(is_heldout(&second, query));
        ck_assert(first.heldout[i].by_id && first.heldout[i].collection == t.collection);
    }
    for (size_t i = 0; i < second.count; i++) {
        snprintf(query, sizeof query, "%.*s", (int)second.pairs[i].query_length, second.pairs[i].query);
        ck_assert(!is_heldout(&second, query));
    }
    pair_set_free(&first);
    pair_set_free(&second);
    store_close(t.store);
}
END_TEST

START_TEST(held_out_query_names_its_document)
{
    pairs_case t;
    pair_set set;
    store_read *r = NULL;
    store_document doc;
    bool found = false;
    arrange(&t, texts, 4);
    feedback(&t, "one", 3, NULL, 1);
    feedback(&t, "two", 0, "a text of its own", 1);

    collect(&t, 1, 0, &set);
    ck_assert_uint_eq(set.count, 0);
    ck_assert_uint_eq(set.heldout_count, 2);
    ck_assert(set.heldout[0].by_id);
    ck_ok(store_read_begin(t.store, &r, &error));
    ck_ok(store_document_by_number(r, t.collection, set.heldout[0].docno, &doc, &found, &error));
    ck_assert(found && doc.id.integer == 3);
    store_read_end(r);
    ck_assert(!set.heldout[1].by_id);
    ck_assert_uint_eq(set.heldout[1].document_length, 17);
    ck_assert(memcmp(set.heldout[1].document, "a text of its own", 17) == 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(another_collection_gives_no_pairs)
{
    pairs_case t;
    pair_set set;
    arrange(&t, texts, 4);
    feedback(&t, "one", 1, NULL, 1);

    collect(&t, 0, t.collection, &set);
    ck_assert_uint_eq(set.count, 1);
    pair_set_free(&set);
    collect(&t, 0, t.collection + 1, &set);
    ck_assert_uint_eq(set.count + set.skipped + set.heldout_count, 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(no_judgements_give_an_empty_set)
{
    pairs_case t;
    pair_set set;
    arrange(&t, texts, 4);
    collect(&t, 0.1, 0, &set);
    ck_assert_uint_eq(set.count + set.skipped + set.heldout_count, 0);
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pairs");
    TCase *tests = tcase_create("pairs");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, clicks_become_pairs_of_query_and_clicked_text);
    tcase_add_test(tests, equal_texts_are_one_document);
    tcase_add_test(tests, a_query_and_document_have_one_vote_and_the_latest_counts);
    tcase_add_test(tests, negative_label_takes_an_earlier_click_back);
    tcase_add_test(tests, clicks_on_documents_that_are_gone_are_skipped_and_counted);
    tcase_add_test(tests, held_out_queries_stay_held_out_and_are_never_trained_on);
    tcase_add_test(tests, held_out_query_names_its_document);
    tcase_add_test(tests, another_collection_gives_no_pairs);
    tcase_add_test(tests, no_judgements_give_an_empty_set);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
