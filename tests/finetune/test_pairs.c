#include "tests/common/testing.h"

#include "base/hash.h"
#include "finetune/pairs.h"

#include <stdio.h>
#include <string.h>

enum { SPACE = 1, DIM = 4, WINDOW_MS = 1000000 };

static const unsigned char key[16] = "a key of sixteen";
static sem_error error;

/* A store with the collection "notes" and documents of the given texts, ids from 1. */
typedef struct pairs_case {
    store *store;
    uint32_t collection;
    sem_log log;
} pairs_case;

static docid id_of(uint64_t number)
{
    return (docid){.is_integer = true, .integer = number};
}

static void put_documents(pairs_case *t, const char *const *texts, size_t count)
{
    static const float vector[DIM] = {1, 0, 0, 0};
    store_write *w = NULL;
    uint64_t seq = 0;
    ck_ok(store_write_begin(t->store, &w, &error));
    for (size_t i = 0; i < count; i++) {
        store_put put = {.id = id_of(i + 1), .text = texts[i], .text_length = strlen(texts[i]), .vector = vector};
        ck_ok(store_documents_put(w, t->collection, SPACE, DIM, 0, 0, &put, 1, &seq, &error));
    }
    ck_ok(store_write_commit(w, &error));
}

static void arrange(pairs_case *t, const char *const *texts, size_t count)
{
    char path[512];
    store_write *w = NULL;
    bool created = false;
    store_collection notes = {.name = "notes", .metric = METRIC_COSINE};
    log_init(&t->log, 2, LOG_LEVEL_ERROR);
    snprintf(path, sizeof path, "%s/store", testing_folder());
    const store_options options = {.path = path, .map_size = (uint64_t)64 << 20};
    ck_ok(store_open(&t->store, &options, &t->log, &error));
    ck_ok(store_space_open(t->store, SPACE, DIM, &error));
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(store_collection_create(w, &notes, &created, &error));
    ck_ok(store_write_commit(w, &error));
    t->collection = notes.number;
    put_documents(t, texts, count);
}

static sem_status put_search(store_write *w, const event_search *e, sem_error *err)
{
    return events_put_searches(w, &e, 1, err);
}

static void search(pairs_case *t, const char *query_id, const char *query, const docid *shown, size_t count)
{
    store_write *w = NULL;
    const float scores[8] = {0};
    const event_search e = {.query_id = query_id,
                            .time_ms = 1000,
                            .collection = t->collection,
                            .generation = 1,
                            .kind = QUERY_TEXT,
                            .query = query,
                            .query_length = strlen(query),
                            .shown = shown,
                            .scores = scores,
                            .shown_count = count};
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(put_search(w, &e, &error));
    ck_ok(store_write_commit(w, &error));
}

static void click(pairs_case *t, const char *query_id, uint64_t id, double weight)
{
    store_write *w = NULL;
    docid clicked = id_of(id);
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(events_put_click(w, query_id, strlen(query_id), &clicked, weight, 2000, WINDOW_MS, &error));
    ck_ok(store_write_commit(w, &error));
}

/* text NULL: by id. */
static void feedback(pairs_case *t, const char *query, uint64_t id, const char *text, int label)
{
    store_write *w = NULL;
    const event_feedback e = {.time_ms = 3000,
                              .collection = t->collection,
                              .query = query,
                              .query_length = strlen(query),
                              .by_id = text == NULL,
                              .id = id_of(id),
                              .text = text,
                              .text_length = text != NULL ? strlen(text) : 0,
                              .label = label};
    ck_ok(store_write_begin(t->store, &w, &error));
    ck_ok(events_put_feedback(w, &e, 1, &error));
    ck_ok(store_write_commit(w, &error));
}

static void collect(pairs_case *t, double heldout_share, uint32_t collection, pair_set *set)
{
    store_read *r = NULL;
    const pair_options options = {.collection = collection, .heldout_share = heldout_share, .key = key};
    ck_ok(store_read_begin(t->store, &r, &error));
    ck_ok(pair_set_collect(set, r, &options, &error));
    store_read_end(r);
}

static bool is_pair(const train_pair *p, const char *query, const char *document)
{
    return p->query_length == strlen(query) && memcmp(p->query, query, p->query_length) == 0 &&
           p->document_length == strlen(document) && memcmp(p->document, document, p->document_length) == 0;
}

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
