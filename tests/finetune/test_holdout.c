/* What is measured with is never trained on. */
#include "tests/finetune/pairs_case.h"

#include "finetune/holdout.h"

enum { QUERIES = 300 };

static const char *const texts[] = {"the first text", "the second text", "the third text"};

/* Pairs and held-out queries by name: whether any is in both. */
static bool is_trained_on(const pair_set *set, uint64_t key)
{
    for (size_t i = 0; i < set->count; i++)
        if (holdout_key(pairs_key, set->pairs[i].query, set->pairs[i].query_length) == key)
            return true;
    return false;
}

static bool is_among(const heldout_query *list, size_t count, uint64_t key)
{
    for (size_t i = 0; i < count; i++)
        if (list[i].key == key)
            return true;
    return false;
}

static void collect_both(pairs_case *t, double heldout, double newest, uint64_t trained, pair_set *set)
{
    const pair_options options = {
        .heldout_share = heldout, .newest_share = newest, .key = pairs_key, .trained = trained};
    collect_with(t, &options, set);
}

/* Feedback on queries "<name> 0", "<name> 1", ..., `count` of them, with `end` behind, in one commit. */
static void ask_all(pairs_case *t, const char *name, const char *end, size_t count)
{
    static char queries[QUERIES][64];
    static event_feedback all[QUERIES];
    store_write *w = NULL;
    for (size_t i = 0; i < count; i++) {
        snprintf(queries[i], sizeof queries[i], "%s %zu%s", name, i, end);
        all[i] = (event_feedback){.time_ms = 3000,
                                  .collection = t->collection,
                                  .query = queries[i],
                                  .query_length = strlen(queries[i]),
                                  .by_id = true,
                                  .id = id_of(1 + i % 3),
                                  .label = 1};
    }
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(events_put_feedback(w, all, count, &error));
    ck_ok(store_write_commit(w, &error));
}

START_TEST(a_query_has_one_name_however_it_is_spelt)
{
    const uint64_t name = holdout_key(pairs_key, "Lost card  in Rome", 18);
    ck_assert(name == holdout_key(pairs_key, "lost CARD in\tRome ", 18));
    ck_assert(name != holdout_key(pairs_key, "lost cards in Rome", 18));
    ck_assert(name != holdout_key((const unsigned char *)"another 16 bytes", "Lost card  in Rome", 18));
}
END_TEST

START_TEST(about_the_share_is_held_out)
{
    char query[32];
    size_t taken = 0;
    for (size_t i = 0; i < 10000; i++) {
        int length = snprintf(query, sizeof query, "question %zu", i);
        taken += holdout_takes(holdout_key(pairs_key, query, (size_t)length), 0.1);
    }
    ck_assert(taken > 900 && taken < 1100);
    ck_assert(!holdout_takes(0, 0) && holdout_takes(UINT64_MAX, 1));
}
END_TEST

START_TEST(a_held_out_query_is_trained_on_in_no_spelling)
{
    pairs_case t;
    pair_set set;
    arrange(&t, texts, 3);
    ask_all(&t, "what of", "", QUERIES);
    ask_all(&t, "What  OF", "", QUERIES);
    ask_all(&t, "what of", " ?", QUERIES / 2);
    collect_both(&t, 0.2, 0, 0, &set);
    ck_assert_uint_eq(set.count + set.heldout_count, 2 * QUERIES + QUERIES / 2);
    ck_assert_uint_gt(set.heldout_queries, QUERIES / 10);
    ck_assert_uint_lt(set.heldout_queries, set.heldout_count);
    for (size_t i = 0; i < set.heldout_count; i++)
        ck_assert(!is_trained_on(&set, set.heldout[i].key));
    pair_set_free(&set);
    store_close(t.store);
}
END_TEST

START_TEST(the_newest_queries_wait_for_the_next_round)
{
    pairs_case t;
    pair_set first, second;
    arrange(&t, texts, 3);
    ask_all(&t, "old", "", QUERIES);
    ask_all(&t, "new", "", QUERIES);
    ask_all(&t, "OLD", "", QUERIES); /* asked again, which does not make them new */
    collect_both(&t, 0.2, 0.1, 0, &first);
    const size_t trained = 2 * QUERIES - first.heldout_queries;
    ck_assert_uint_eq(first.newest_count, trained / 10);
    for (size_t i = 0; i < first.newest_count; i++) {
        ck_assert(strncmp(first.newest[i].query, "new ", 4) == 0);
        ck_assert(!is_trained_on(&first, first.newest[i].key));
        ck_assert(!is_among(first.heldout, first.heldout_count, first.newest[i].key));
    }
    ask_all(&t, "newer", "", QUERIES);
    collect_both(&t, 0.2, 0.1, first.last, &second);
    for (size_t i = 0; i < first.newest_count; i++)
        ck_assert(is_trained_on(&second, first.newest[i].key));
    /* A tenth of what is new, and not of all that there ever was. */
    ck_assert_uint_gt(second.newest_count, QUERIES / 20);
    ck_assert_uint_lt(second.newest_count, QUERIES / 5);
    for (size_t i = 0; i < second.count; i++) {
        const train_pair *p = &second.pairs[i];
        const bool was_newest =
            is_among(first.newest, first.newest_count, holdout_key(pairs_key, p->query, p->query_length));
        if (was_newest || strncmp(p->query, "newer", 5) == 0)
            ck_assert_int_eq(p->origin, TRAIN_NEW);
        else if (strncmp(p->query, "old ", 4) == 0)
            ck_assert_int_eq(p->origin, TRAIN_REPLAYED);
    }
    for (size_t i = 0; i < first.heldout_count; i++)
        ck_assert(is_among(second.heldout, second.heldout_count, first.heldout[i].key));
    pair_set_free(&first);
    pair_set_free(&second);
    store_close(t.store);
}
END_TEST

START_TEST(the_newest_are_those_judged_first_last)
{
    const uint64_t queries[] = {5, 9, 5, 7, 9, 3, 7, 5};
    bool newest[8];
    ck_ok(holdout_newest(queries, 8, 0, 0.5, newest, &error));
    for (size_t i = 0; i < 8; i++)
        ck_assert_int_eq(newest[i], queries[i] == 7 || queries[i] == 3);
    ck_ok(holdout_newest(queries, 8, 0, 0.2, newest, &error));
    for (size_t i = 0; i < 8; i++)
        ck_assert(!newest[i]);
    /* Of two that are new one; 9 is asked again and is none of them. */
    ck_ok(holdout_newest(queries, 8, 3, 0.5, newest, &error));
    for (size_t i = 0; i < 8; i++)
        ck_assert_int_eq(newest[i], queries[i] == 3);
    ck_ok(holdout_newest(queries, 0, 0, 0.5, newest, &error));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("holdout");
    TCase *tests = tcase_create("holdout");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_query_has_one_name_however_it_is_spelt);
    tcase_add_test(tests, about_the_share_is_held_out);
    tcase_add_test(tests, a_held_out_query_is_trained_on_in_no_spelling);
    tcase_add_test(tests, the_newest_queries_wait_for_the_next_round);
    tcase_add_test(tests, the_newest_are_those_judged_first_last);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
