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

static char filter_bytes[EVENT_FILTER_MAX + 1];

/* drafted: with a rival's number before those fields and its mark behind them. */
static void put_asked(store_write *w, const char *query_id, event_asked asked, bool drafted)
{
    sem_error error;
    const docid shown[2] = {number_id(7), string_id("7")};
    const float scores[2] = {0.75f, 0.5f};
    const bool rivals[2] = {false, true};
    const event_search e = {.query_id = query_id,
                            .time_ms = LOG_NOW,
                            .collection = LOG_COLLECTION,
                            .generation = 3,
                            .ranking = RANKING_LEXICAL,
                            .query = "warm",
                            .query_length = 4,
                            .asked = asked,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = 2,
                            .rival = drafted ? 4 : 0,
                            .rivals = drafted ? rivals : NULL};
    const event_search *one = &e;
    ck_ok(events_put_searches(w, &one, 1, &error));
}

typedef struct asked_list {
    event_asked all[16];
    char filters[16][64]; /* the first bytes */
    size_t count;
} asked_list;

static bool take_asked(void *context, const event_listed *e)
{
    asked_list *l = context;
    event_hits hits = e->hits;
    event_hit hit;
    ck_assert_uint_lt(l->count, 16);
    if (e->asked.filter != NULL)
        memcpy(l->filters[l->count], e->asked.filter, e->asked.filter_size < 63 ? e->asked.filter_size : 63);
    l->all[l->count++] = e->asked;
    ck_assert(e->hit_count == 2 && e->query_length == 4 && memcmp(e->query, "warm", 4) == 0);
    ck_assert(event_hit_next(&hits, &hit) && hit.id.is_integer && hit.id.integer == 7);
    ck_assert(event_hit_next(&hits, &hit) && !hit.id.is_integer && hit.of_rival == (e->rival == 4));
    return true;
}

/* With what a version before the fifth wrote, which has nothing of it, among them. */
START_TEST(a_search_is_listed_with_the_fields_of_its_request)
{
    sem_error error;
    store_write *w;
    store_read *r;
    uint64_t last;
    bool more;
    static asked_list l;
    const char filter[] = "\x81\xa3not\x80"; /* what it means is not the log's */
    store *s = new_store(MAP);
    ck_ok(store_write_begin(s, &w, &error));
    for (int i = 0; i < 2; i++) {
        put_asked(w, i == 0 ? "a" : "A", (event_asked){0}, i == 1);
        put_asked(w, i == 0 ? "b" : "B", (event_asked){.k = 10}, i == 1);
        put_asked(w, i == 0 ? "c" : "C",
                  (event_asked){.k = 10000,
                                .effort = EFFORT_NPROBE,
                                .measure = UINT32_MAX,
                                .with = 5,
                                .filter = filter,
                                .filter_size = sizeof filter - 1},
                  i == 1);
        put_asked(w, i == 0 ? "d" : "D",
                  (event_asked){.k = 1,
                                .effort = EFFORT_RECALL,
                                .measure = 0.8,
                                .filter = filter_bytes,
                                .filter_size = EVENT_FILTER_MAX},
                  i == 1);
        put_asked(
            w, i == 0 ? "e" : "E",
            (event_asked){.k = 2, .effort = EFFORT_EXACT, .filter = filter_bytes, .filter_size = EVENT_FILTER_MAX + 1},
            i == 1);
    }
    ck_ok(store_write_commit(w, &error));
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_list(r, 0, LOG_ALL, LOG_PLENTY, take_asked, &l, &last, &more, &error));
    store_read_end(r);
    ck_assert_uint_eq(l.count, 10);
    for (size_t i = 0; i < 10; i += 5) {
        const event_asked *a = &l.all[i];
        ck_assert(a[0].k == 0 && a[0].filter == NULL && a[0].filter_size == 0);
        ck_assert(a[1].k == 10 && a[1].effort == EFFORT_USUAL && a[1].with == 0 && a[1].filter_size == 0);
        ck_assert(a[2].k == 10000 && a[2].effort == EFFORT_NPROBE && a[2].measure == UINT32_MAX && a[2].with == 5);
        ck_assert(a[2].filter_size == sizeof filter - 1);
        ck_assert_mem_eq(l.filters[i + 2], filter, sizeof filter - 1);
        ck_assert(a[3].k == 1 && a[3].effort == EFFORT_RECALL && a[3].measure == 0.8);
        ck_assert(a[3].filter != NULL && a[3].filter_size == EVENT_FILTER_MAX);
        ck_assert(a[4].k == 2 && a[4].effort == EFFORT_EXACT);
        ck_assert(a[4].filter == NULL && a[4].filter_size == EVENT_FILTER_MAX + 1);
    }
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
    tcase_add_test(tests, a_search_is_listed_with_the_fields_of_its_request);
    tcase_add_test(tests, pages_follow_each_other_without_gap_or_repeat);
    tcase_add_test(tests, kinds_that_are_not_wanted_are_passed_over);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
