/* A search that two generations answered: whose hit each was stays in the log. */
#include "tests/index/events_fixture.h"

#include "index/events_scan.h"

static store *store_with_draft(void)
{
    sem_error error;
    store_write *w;
    store *s = new_store(MAP);
    const docid shown[3] = {number_id(7), string_id("7"), number_id(9)};
    const float scores[3] = {0.75f, 0.5f, 0.25f};
    const bool rivals[3] = {false, true, true};
    event_search drafted = {.query_id = "a",
                            .time_ms = LOG_NOW,
                            .collection = LOG_COLLECTION,
                            .generation = 3,
                            .kind = QUERY_TEXT,
                            .ranking = RANKING_DENSE,
                            .query = "warm",
                            .query_length = 4,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = 3,
                            .rival = 5,
                            .rivals = rivals};
    event_search plain = drafted;
    plain.query_id = "b";
    plain.rival = 0;
    plain.rivals = NULL;
    const event_search *const both[] = {&drafted, &plain};
    const docid seven = number_id(7), text = string_id("7"), nine = number_id(9);
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(events_put_searches(w, both, 2, &error));
    ck_ok(events_put_click(w, "a", 1, &text, 1, LOG_NOW, LOG_WINDOW, &error));
    ck_ok(events_put_click(w, "a", 1, &seven, 1, LOG_NOW, LOG_WINDOW, &error));
    ck_ok(events_put_click(w, "b", 1, &nine, 1, LOG_NOW, LOG_WINDOW, &error));
    ck_ok(store_write_commit(w, &error));
    return s;
}

/* One word an event: rivals of searches and their hits, or of clicks. */
static bool list_one(void *context, const event_listed *e)
{
    event_hits hits = e->hits;
    event_hit hit;
    if (e->kind != EVENT_SEARCH)
        return true;
    listed_add(context, "%u:", e->rival);
    while (event_hit_next(&hits, &hit))
        listed_add(context, hit.erased ? "-" : "%d", hit.of_rival);
    listed_add(context, " ");
    return true;
}

static bool judge_one(void *context, const event_judgement *j)
{
    listed_add(context, "%u/%u/%d ", j->rival, j->rank, j->of_rival);
    return true;
}

static bool search_one(void *context, const event_logged_search *s)
{
    listed_add(context, "%u/%zu/%d%d%d ", s->rival, s->shown_count, s->shown[0].clicked, s->shown[1].clicked,
               s->shown[2].clicked);
    return true;
}

static void ck_listed(store *s, const char *expected)
{
    sem_error error;
    store_read *r;
    listed l = {0};
    ck_ok(store_read_begin(s, &r, &error));
    ck_ok(events_list(r, 0, LOG_ALL, LOG_PLENTY, list_one, &l, &l.last, &l.more, &error));
    ck_ok(events_judgements(r, 0, judge_one, &l, &error));
    ck_ok(events_searches(r, search_one, &l, &error));
    ck_assert_str_eq(l.text, expected);
    store_read_end(r);
}

START_TEST(whose_hit_each_was_is_kept)
{
    store *s = store_with_draft();
    ck_listed(s, "5:011 0:000 5/2/1 5/1/0 0/3/0 0/3/001 5/3/110 ");
    store_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("events of two generations");
    TCase *tests = tcase_create("events of two generations");
    tcase_add_test(tests, whose_hit_each_was_is_kept);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
