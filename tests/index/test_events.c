#include "tests/index/store_fixture.h"

#include "index/events.h"

#include <math.h>

enum { COLLECTION = 5, GENERATION = 3 };
static const int64_t NOW = 1790000000000, WINDOW = 86400000;

typedef struct logged {
    event_judgement items[32];
    char queries[32][64];
    char texts[32][64];
    size_t count, stop;
} logged;

static bool keep(void *context, const event_judgement *j)
{
    logged *list = context;
    ck_assert_uint_lt(list->count, 32);
    list->items[list->count] = *j;
    memcpy(list->queries[list->count], j->query, j->query_length);
    list->queries[list->count][j->query_length] = '\0';
    if (!j->by_id) {
        memcpy(list->texts[list->count], j->text, j->text_length);
        list->texts[list->count][j->text_length] = '\0';
    }
    list->count++;
    return list->count != list->stop;
}

static logged judgements(store_read *r, uint64_t after)
{
    sem_error error;
    logged list = {.count = 0};
    ck_ok(events_judgements(r, after, keep, &list, &error));
    return list;
}

static sem_status put_search(store_write *w, const event_search *e, sem_error *err)
{
    return events_put_searches(w, &e, 1, err);
}

/* A search that showed 7, "7" and 9. */
static void log_search(store_write *w, const char *query_id, query_kind kind, int64_t time_ms)
{
    sem_error error;
    const docid shown[3] = {number_id(7), string_id("7"), number_id(9)};
    const float scores[3] = {0.9f, 0.8f, 0.7f};
    event_search e = {.query_id = query_id,
                      .time_ms = time_ms,
                      .collection = COLLECTION,
                      .generation = GENERATION,
                      .kind = kind,
                      .query = "warm \xc3\xa9t\xc3\xa9",
                      .query_length = 10,
                      .user_hash = 42,
                      .shown = shown,
                      .scores = scores,
                      .shown_count = 3};
    ck_ok(put_search(w, &e, &error));
}

static sem_status click(store_write *w, const char *query_id, docid id, double weight, sem_error *error)
{
    return events_put_click(w, query_id, strlen(query_id), &id, weight, NOW, WINDOW, error);
}

static uint64_t count_of(store_read *r)
{
    sem_error error;
    uint64_t count;
    ck_ok(events_judgement_count(r, &count, &error));
    return count;
}

START_TEST(query_ids_are_distinct_and_well_formed)
{
    char a[QUERY_ID_LENGTH + 1], b[QUERY_ID_LENGTH + 1];
    ck_assert(query_id_make(a, NOW));
    ck_assert(query_id_make(b, NOW));
    ck_assert_uint_eq(strlen(a), QUERY_ID_LENGTH);
    ck_assert_uint_eq(strspn(a, "0123456789abcdef"), QUERY_ID_LENGTH);
    ck_assert_mem_eq(a, b, 12);
    ck_assert_str_ne(a, b);
}
END_TEST

START_TEST(a_click_becomes_a_judgement_with_what_the_search_knew)
{
    sem_error error;
    store_write *w;
    store_read *r;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "q1", QUERY_TEXT, NOW - 1000);
    ck_ok(click(w, "q1", string_id("7"), 1.5, &error));
    ck_ok(store_write_commit(w, &error));
    store_close(s);
    s = open_with(MAP, 0);
    ck_ok(store_read_begin(s, &r, &error));
    logged list = judgements(r, 0);
    ck_assert_uint_eq(list.count, 1);
    const event_judgement *j = &list.items[0];
    ck_assert_str_eq(list.queries[0], "warm \xc3\xa9t\xc3\xa9");
    ck_assert(j->by_id && !j->id.is_integer && j->id.length == 1 && j->id.string[0] == '7');
    ck_assert(j->rank == 2 && j->weight == 1.5 && j->generation == GENERATION && j->collection == COLLECTION);
    ck_assert(j->user_hash == 42 && j->time_ms == NOW && j->seq == 2);
    ck_assert_uint_eq(count_of(r), 1);
    ck_assert_uint_eq(judgements(r, j->seq).count, 0);
    store_read_end(r);
    store_close(s);
}
END_TEST

START_TEST(a_click_on_an_unknown_or_old_query_is_not_found)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    char long_id[100];
    memset(long_id, 'q', sizeof long_id - 1);
    long_id[sizeof long_id - 1] = '\0';
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "on-time", QUERY_TEXT, NOW - WINDOW);
    log_search(w, "late", QUERY_TEXT, NOW - WINDOW - 1);
    ck_fails(click(w, "nope", number_id(7), 1, &error), SEM_NOT_FOUND);
    ck_fails(click(w, "", number_id(7), 1, &error), SEM_NOT_FOUND);
    ck_fails(click(w, long_id, number_id(7), 1, &error), SEM_NOT_FOUND);
    ck_fails(click(w, "late", number_id(7), 1, &error), SEM_NOT_FOUND);
    ck_ok(click(w, "on-time", number_id(7), 1, &error));
    ck_assert_uint_eq(count_of(store_write_view(w)), 1);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(a_click_on_what_was_not_shown_is_invalid)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "q", QUERY_TEXT, NOW);
    ck_fails(click(w, "q", number_id(8), 1, &error), SEM_INVALID_ARGUMENT);
    ck_fails(click(w, "q", string_id("9"), 1, &error), SEM_INVALID_ARGUMENT);
    ck_fails(click(w, "q", string_id(""), 1, &error), SEM_INVALID_ARGUMENT);
    ck_fails(click(w, "q", number_id(7), -0.1, &error), SEM_INVALID_ARGUMENT);
    ck_fails(click(w, "q", number_id(7), 10.1, &error), SEM_INVALID_ARGUMENT);
    ck_fails(click(w, "q", number_id(7), (double)NAN, &error), SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(judgements(store_write_view(w), 0).count, 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(a_repeated_click_replaces_the_old_one)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    store_read *view = store_write_view(w);
    log_search(w, "q", QUERY_TEXT, NOW);
    log_search(w, "other", QUERY_TEXT, NOW);
    ck_ok(click(w, "q", number_id(7), 1, &error));
    ck_ok(click(w, "q", number_id(9), 2, &error));
    ck_ok(click(w, "other", number_id(7), 3, &error));
    ck_ok(click(w, "q", number_id(7), 4, &error));
    logged list = judgements(view, 0);
    ck_assert_uint_eq(list.count, 3);
    ck_assert(list.items[0].weight == 2.0 && list.items[1].weight == 3.0 && list.items[2].weight == 4.0);
    ck_assert(list.items[2].seq > list.items[1].seq && list.items[2].rank == 1);
    ck_assert_uint_eq(count_of(view), 3);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(clicks_on_vectors_are_logged_but_judge_nothing)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "v", QUERY_VECTOR, NOW);
    log_search(w, "l", QUERY_LIKE, NOW);
    ck_ok(click(w, "v", number_id(7), 1, &error));
    ck_ok(click(w, "l", number_id(7), 1, &error));
    ck_assert_uint_eq(judgements(store_write_view(w), 0).count, 0);
    ck_assert_uint_eq(count_of(store_write_view(w)), 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(feedback_is_logged_all_or_none)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    event_feedback pairs[3] = {{.time_ms = NOW,
                                .collection = 1,
                                .query = "q1",
                                .query_length = 2,
                                .by_id = true,
                                .id = number_id(3),
                                .label = 1},
                               {.time_ms = NOW,
                                .collection = 2,
                                .query = "q2",
                                .query_length = 2,
                                .text = "a text",
                                .text_length = 6,
                                .label = -1},
                               {.time_ms = NOW,
                                .collection = 1,
                                .query = "q3",
                                .query_length = 2,
                                .by_id = true,
                                .id = string_id("x"),
                                .label = 0}};
    ck_ok(store_write_begin(s, &w, &error));
    store_read *view = store_write_view(w);
    ck_fails(events_put_feedback(w, pairs, 3, &error), SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(judgements(view, 0).count, 0);
    ck_assert_uint_eq(count_of(view), 0);
    pairs[2].label = 1;
    ck_ok(events_put_feedback(w, pairs, 3, &error));
    logged list = judgements(view, 0);
    ck_assert_uint_eq(list.count, 3);
    ck_assert(list.items[0].by_id && list.items[0].id.integer == 3 && list.items[0].weight == 1.0);
    ck_assert(!list.items[1].by_id && list.items[1].weight == -1.0 && list.items[1].collection == 2);
    ck_assert_str_eq(list.texts[1], "a text");
    ck_assert_str_eq(list.queries[1], "q2");
    ck_assert(list.items[1].rank == 0 && list.items[1].generation == 0);
    ck_assert_uint_eq(count_of(view), 3);
    /* One that stops early, and one that starts late. */
    logged first = {.stop = 1};
    ck_ok(events_judgements(view, 0, keep, &first, &error));
    ck_assert_uint_eq(first.count, 1);
    ck_assert_uint_eq(judgements(view, list.items[1].seq).count, 1);
    ck_assert_uint_eq(judgements(view, UINT64_MAX).count, 0);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(longest_ids_and_empty_lists_are_logged)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    char name[DOCID_STRING_MAX + 1], query_id[QUERY_ID_MAX + 2];
    memset(name, 'n', DOCID_STRING_MAX);
    memset(query_id, 'q', QUERY_ID_MAX + 1);
    name[DOCID_STRING_MAX] = query_id[QUERY_ID_MAX + 1] = '\0';
    const docid shown[1] = {string_id(name)};
    const float scores[1] = {1};
    event_search e = {.query_id = query_id,
                      .time_ms = NOW,
                      .kind = QUERY_TEXT,
                      .query = "",
                      .shown = shown,
                      .scores = scores,
                      .shown_count = 1};
    ck_ok(store_write_begin(s, &w, &error));
    ck_fails(put_search(w, &e, &error), SEM_INVALID_ARGUMENT);
    query_id[QUERY_ID_MAX] = '\0';
    ck_ok(put_search(w, &e, &error));
    ck_fails(put_search(w, &e, &error), SEM_ALREADY_EXISTS);
    ck_ok(click(w, query_id, string_id(name), 10, &error));
    e.query_id = "none shown";
    e.shown_count = 0;
    ck_ok(put_search(w, &e, &error));
    ck_fails(click(w, "none shown", string_id(name), 1, &error), SEM_INVALID_ARGUMENT);
    logged list = judgements(store_write_view(w), 0);
    ck_assert(list.count == 1 && list.items[0].query_length == 0 && list.items[0].id.length == DOCID_STRING_MAX);
    ck_ok(store_write_commit(w, &error));
    store_close(s);
}
END_TEST

START_TEST(events_of_a_failed_or_aborted_group_are_gone)
{
    sem_error error;
    store_write *w;
    store_read *r;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "q", QUERY_TEXT, NOW);
    ck_ok(click(w, "q", number_id(7), 1, &error));
    store_write_abort(w);
    ck_ok(store_write_begin(s, &w, &error));
    ck_fails(click(w, "q", number_id(7), 1, &error), SEM_NOT_FOUND);
    log_search(w, "q", QUERY_TEXT, NOW);
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &r, &error));
    ck_assert_uint_eq(count_of(r), 0);
    store_read_end(r);
    store_close(s);
}
END_TEST

START_TEST(a_full_event_log_leaves_documents_writable)
{
    sem_error error;
    store_write *w;
    store *s = new_store(4 << 20);
    static char text[60000];
    memset(text, 't', sizeof text);
    event_feedback pair = {.query = text, .query_length = sizeof text, .text = text, .text_length = 10, .label = 1};
    sem_status status = SEM_OK;
    uint64_t logged_pairs = 0, seq;
    for (int i = 0; i < 1000 && status == SEM_OK; i++) {
        ck_ok(store_write_begin(s, &w, &error));
        status = events_put_feedback(w, &pair, 1, &error);
        logged_pairs += status == SEM_OK;
        if (status != SEM_OK) {
            ck_assert_ptr_nonnull(strstr(error.message, "events"));
            uint32_t c = make_collection(w, "default");
            ck_ok(put_text(w, c, number_id(1), "text", 1, NULL, &seq, &error));
        }
        ck_ok(store_write_commit(w, &error));
    }
    ck_assert_int_eq(status, SEM_RESOURCE_EXHAUSTED);
    ck_assert_uint_gt(logged_pairs, 10);
    store_close(s);
    s = open_with(4 << 20, 0);
    store_read *r;
    ck_ok(store_read_begin(s, &r, &error));
    ck_assert_uint_eq(count_of(r), logged_pairs);
    ck_assert_uint_eq(store_last_seq(r), 1);
    store_read_end(r);
    store_close(s);
}
END_TEST

START_TEST(a_judgement_knows_what_was_shown_above_it)
{
    sem_error error;
    store_write *w;
    store_read *r;
    docid id;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "q1", QUERY_TEXT, NOW);
    ck_ok(click(w, "q1", number_id(9), 1, &error));
    ck_ok(click(w, "q1", number_id(7), 1, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &r, &error));
    logged list = judgements(r, 0);
    ck_assert_uint_eq(list.count, 2);
    event_above above = list.items[0].above;
    ck_assert(event_above_next(&above, &id) && id.is_integer && id.integer == 7);
    ck_assert(event_above_next(&above, &id) && !id.is_integer && id.string[0] == '7');
    ck_assert(!event_above_next(&above, &id));
    above = list.items[1].above;
    ck_assert(!event_above_next(&above, &id));
    ck_assert(list.items[0].search == 1 && list.items[0].shown_count == 3);
    store_read_end(r);
    store_close(s);
}
END_TEST

typedef struct searches {
    size_t count, stop;
    unsigned clicked[8]; /* a bit for each rank */
    uint64_t seq[8];
} searches;

static bool keep_search(void *context, const event_logged_search *s)
{
    searches *list = context;
    ck_assert_uint_lt(list->count, 8);
    ck_assert(s->collection == COLLECTION && s->generation == GENERATION && s->query_length == 10);
    ck_assert(s->shown_count == 3 && s->shown[0].id.integer == 7 && s->shown[2].id.integer == 9);
    for (size_t i = 0; i < s->shown_count; i++)
        list->clicked[list->count] |= (unsigned)s->shown[i].clicked << i;
    list->seq[list->count++] = s->seq;
    return list->count != list->stop;
}

START_TEST(searches_come_newest_first_with_their_clicks)
{
    sem_error error;
    store_write *w;
    store_read *r;
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    log_search(w, "q1", QUERY_TEXT, NOW);
    log_search(w, "q2", QUERY_VECTOR, NOW);
    log_search(w, "q3", QUERY_TEXT, NOW);
    log_search(w, "q4", QUERY_TEXT, NOW);
    ck_ok(click(w, "q1", string_id("7"), 1, &error));
    ck_ok(click(w, "q1", number_id(9), 1, &error));
    ck_ok(click(w, "q2", number_id(9), 1, &error));
    ck_ok(click(w, "q4", number_id(7), 1, &error));
    ck_ok(click(w, "q4", number_id(9), 1, &error));
    ck_ok(click(w, "q4", number_id(9), 0, &error));
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &r, &error));
    searches all = {.count = 0}, first = {.stop = 1};
    ck_ok(events_searches(r, keep_search, &all, &error));
    ck_ok(events_searches(r, keep_search, &first, &error));
    store_read_end(r);
    ck_assert(all.count == 3 && all.seq[0] == 4 && all.seq[1] == 3 && all.seq[2] == 1);
    ck_assert(all.clicked[0] == 1 && all.clicked[1] == 0 && all.clicked[2] == 6);
    ck_assert(first.count == 1 && first.seq[0] == 4);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("events");
    TCase *tests = tcase_create("events");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, query_ids_are_distinct_and_well_formed);
    tcase_add_test(tests, a_click_becomes_a_judgement_with_what_the_search_knew);
    tcase_add_test(tests, a_click_on_an_unknown_or_old_query_is_not_found);
    tcase_add_test(tests, a_click_on_what_was_not_shown_is_invalid);
    tcase_add_test(tests, a_repeated_click_replaces_the_old_one);
    tcase_add_test(tests, clicks_on_vectors_are_logged_but_judge_nothing);
    tcase_add_test(tests, a_judgement_knows_what_was_shown_above_it);
    tcase_add_test(tests, searches_come_newest_first_with_their_clicks);
    tcase_add_test(tests, feedback_is_logged_all_or_none);
    tcase_add_test(tests, longest_ids_and_empty_lists_are_logged);
    tcase_add_test(tests, events_of_a_failed_or_aborted_group_are_gone);
    tcase_add_test(tests, a_full_event_log_leaves_documents_writable);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
