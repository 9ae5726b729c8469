/* The log as it is listed for export. */
#include "tests/index/events_fixture.h"

static void put_search(store_write *w, const char *query_id, query_kind kind, event_ranking ranking, docid like)
{
    sem_error error;
    const docid shown[2] = {number_id(7), string_id("7")};
    const float scores[2] = {0.75f, 0.5f};
    const event_search e = {.query_id = query_id,
                            .time_ms = LOG_NOW,
                            .collection = LOG_COLLECTION,
                            .generation = 3,
                            .kind = kind,
                            .ranking = ranking,
                            .query = "warm",
                            .query_length = 4,
                            .like = like,
                            .user_hash = kind == QUERY_TEXT ? 42 : 0,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = 2};
    const event_search *one = &e;
    ck_ok(events_put_searches(w, &one, 1, &error));
}

/* Three searches, two clicks, two of feedback; the click numbered 4 is replaced by that numbered 7. */
static store *store_with_log(void)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    const docid seven = number_id(7), text = string_id("7");
    const event_feedback pairs[2] = {{.time_ms = LOG_NOW,
                                      .collection = LOG_COLLECTION,
                                      .query = "q",
                                      .query_length = 1,
                                      .by_id = true,
                                      .id = seven,
                                      .label = -1},
                                     {.time_ms = LOG_NOW,
                                      .collection = LOG_COLLECTION,
                                      .query = "q",
                                      .query_length = 1,
                                      .text = "t",
                                      .text_length = 1,
                                      .label = 1}};
    ck_ok(store_write_begin(s, &w, &error));
    put_search(w, "a", QUERY_TEXT, RANKING_HYBRID, (docid){0});
    put_search(w, "b", QUERY_VECTOR, RANKING_DENSE, (docid){0});
    put_search(w, "c", QUERY_LIKE, RANKING_DENSE, string_id("near"));
    ck_ok(events_put_click(w, "a", 1, &text, 1, LOG_NOW + 1, LOG_WINDOW, &error));
    ck_ok(events_put_feedback(w, pairs, 2, &error));
    ck_ok(events_put_click(w, "a", 1, &text, 2, LOG_NOW + 5, LOG_WINDOW, &error));
    ck_ok(store_write_commit(w, &error));
    return s;
}

START_TEST(every_event_is_listed_with_what_was_asked)
{
    store *s = store_with_log();
    listed l = log_list(s, 0, LOG_ALL, LOG_PLENTY, LOG_PLENTY);
    ck_assert_str_eq(l.text, "1+0 1 a 'warm' c4 g3 by0 r3 u42 n2: 7=0.75 \"7\"=0.50\n"
                             "2+0 1 b c4 g3 by1 r1 u0 n2: 7=0.75 \"7\"=0.50\n"
                             "3+0 1 c \"near\" c4 g3 by2 r1 u0 n2: 7=0.75 \"7\"=0.50\n"
                             "5+0 4 'q' 7 c4 text'' -1\n"
                             "6+0 4 'q' c4 text't' 1\n"
                             "7+5 2 a \"7\" rank2 w2.0\n");
    ck_assert(!l.more && l.last == 7);
    store_close(s);
}
END_TEST

START_TEST(pages_follow_each_other_without_gap_or_repeat)
{
    store *s = store_with_log();
    char all[16384] = "";
    listed whole = log_list(s, 0, LOG_ALL, LOG_PLENTY, LOG_PLENTY), page = {.more = true};
    for (int pages = 0; page.more; pages++) {
        ck_assert_int_lt(pages, 10);
        page = log_list(s, page.last, LOG_ALL, LOG_PLENTY, 2);
        strcat(all, page.text);
    }
    ck_assert_str_eq(all, whole.text);
    listed end = log_list(s, whole.last, LOG_ALL, LOG_PLENTY, LOG_PLENTY);
    ck_assert(end.count == 0 && !end.more && end.last == whole.last);
    ck_assert_uint_eq(log_list(s, UINT64_MAX, LOG_ALL, LOG_PLENTY, LOG_PLENTY).count, 0);
    store_close(s);
}
END_TEST

START_TEST(kinds_that_are_not_wanted_are_passed_over)
{
    store *s = store_with_log();
    listed clicks = log_list(s, 0, EVENT_CLICK, LOG_PLENTY, LOG_PLENTY);
    ck_assert(clicks.count == 1 && strncmp(clicks.text, "7+5 2", 5) == 0 && !clicks.more);
    ck_assert_uint_eq(log_list(s, 0, EVENT_SEARCH | EVENT_FEEDBACK, LOG_PLENTY, LOG_PLENTY).count, 5);
    /* A page of which nothing was wanted still gets ahead. */
    listed none = log_list(s, 0, EVENT_CLICK, 3, LOG_PLENTY);
    ck_assert(none.count == 0 && none.more && none.last == 3);
    listed found = log_list(s, none.last, EVENT_CLICK, 3, LOG_PLENTY);
    ck_assert(found.count == 1 && !found.more && found.last == 7);
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("events_list");
    TCase *tests = tcase_create("events_list");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_event_is_listed_with_what_was_asked);
    tcase_add_test(tests, pages_follow_each_other_without_gap_or_repeat);
    tcase_add_test(tests, kinds_that_are_not_wanted_are_passed_over);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
