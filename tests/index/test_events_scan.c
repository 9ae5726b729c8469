/* The log of searches read in pieces, forward and backward. */
#include "tests/common/testing.h"

#include "index/events_scan.h"

#include <stdio.h>
#include <string.h>

enum { SEARCHES = 50, SHOWN = 3, WINDOW_MS = 1000000 };

static sem_error error;
static sem_log quiet;

typedef struct scan_case {
    store *store;
    uint64_t seen[2 * SEARCHES];
    size_t count, clicks;
    int64_t clicked_ms;
    size_t refuse; /* the search with this many before it is not taken; SIZE_MAX: all are */
} scan_case;

/* Search i at time 1000 i by user i; the even ones are clicked at rank 2, 7 ms later. */
static void log_search(store *s, size_t i)
{
    store_write *w = NULL;
    char id[16], query[32];
    const docid shown[SHOWN] = {
        {.is_integer = true, .integer = 1}, {.is_integer = true, .integer = 2}, {.is_integer = true, .integer = 3}};
    const float scores[SHOWN] = {0};
    snprintf(id, sizeof id, "q%zu", i);
    snprintf(query, sizeof query, "query %zu", i);
    const int64_t time_ms = 1000 * (int64_t)i;
    const event_search e = {.query_id = id,
                            .time_ms = time_ms,
                            .collection = 1,
                            .generation = (uint32_t)(1 + i / 10),
                            .kind = QUERY_TEXT,
                            .query = query,
                            .query_length = strlen(query),
                            .user_hash = i,
                            .shown = shown,
                            .scores = scores,
                            .shown_count = SHOWN};
    const event_search *all[] = {&e};
    ck_ok(store_write_begin(s, &w, &error));
    ck_ok(events_put_searches(w, all, 1, &error));
    if (i % 2 == 0)
        ck_ok(events_put_click(w, id, strlen(id), &shown[1], 1, time_ms + 7, WINDOW_MS, &error));
    ck_ok(store_write_commit(w, &error));
}

static void arrange(scan_case *t, size_t searches)
{
    char path[512];
    static int number;
    *t = (scan_case){.refuse = SIZE_MAX};
    log_init(&quiet, 2, LOG_LEVEL_ERROR);
    snprintf(path, sizeof path, "%s/store-%d", testing_folder(), number++);
    const store_options options = {.path = path, .map_size = (uint64_t)64 << 20};
    ck_ok(store_open(&t->store, &options, &quiet, &error));
    for (size_t i = 0; i < searches; i++)
        log_search(t->store, i);
}

static bool take(void *context, const event_logged_search *s)
{
    scan_case *t = context;
    if (t->count == t->refuse)
        return false;
    ck_assert_int_eq(s->time_ms, 1000 * (int64_t)s->user_hash);
    ck_assert_uint_eq(s->generation, 1 + s->user_hash / 10);
    ck_assert_uint_eq(s->shown_count, SHOWN);
    ck_assert(!s->shown[0].clicked && !s->shown[2].clicked);
    if (s->shown[1].clicked) {
        t->clicks++;
        t->clicked_ms = s->shown[1].clicked_ms - s->time_ms;
    }
    t->seen[t->count++] = s->user_hash;
    return true;
}

static void scan_some(scan_case *t, events_scan *scan, size_t most)
{
    store_read *r = NULL;
    ck_ok(store_read_begin(t->store, &r, &error));
    ck_ok(events_scan_some(r, scan, most, take, t, &error));
    store_read_end(r);
}

START_TEST(pieces_add_up_to_every_search_once)
{
    scan_case t;
    events_scan scan = {0};
    arrange(&t, SEARCHES);
    unsigned pieces = 0;
    for (; !scan.ended; pieces++)
        scan_some(&t, &scan, 7);
    ck_assert_uint_ge(pieces, SEARCHES * 3 / 2 / 7);
    ck_assert_uint_eq(t.count, SEARCHES);
    for (size_t i = 0; i < SEARCHES; i++)
        ck_assert_uint_eq(t.seen[i], i);
    ck_assert_uint_eq(t.clicks, SEARCHES / 2);
    ck_assert_int_eq(t.clicked_ms, 7);
    /* What comes later is found from there. */
    log_search(t.store, SEARCHES);
    scan_some(&t, &scan, 7);
    ck_assert_uint_eq(t.count, SEARCHES + 1);
    store_close(t.store);
}
END_TEST

START_TEST(backward_goes_from_a_place_to_the_oldest)
{
    scan_case t;
    store_read *r = NULL;
    uint64_t seq;
    arrange(&t, SEARCHES);
    ck_ok(store_read_begin(t.store, &r, &error));
    ck_ok(events_since(r, 20000, &seq, &error));
    store_read_end(r);
    events_scan scan = {.at = seq - 1, .backward = true};
    while (!scan.ended)
        scan_some(&t, &scan, 4);
    ck_assert_uint_eq(t.count, 20);
    for (size_t i = 0; i < 20; i++)
        ck_assert_uint_eq(t.seen[i], 19 - i);
    scan = (events_scan){.at = UINT64_MAX, .backward = true};
    scan_some(&t, &scan, 4);
    ck_assert_uint_eq(t.seen[20], SEARCHES - 1);
    store_close(t.store);
}
END_TEST

START_TEST(a_search_that_was_not_taken_comes_again)
{
    scan_case t;
    events_scan scan = {0};
    arrange(&t, SEARCHES);
    t.refuse = 5;
    scan_some(&t, &scan, 1000);
    scan_some(&t, &scan, 1000);
    ck_assert_uint_eq(t.count, 5);
    ck_assert(!scan.ended);
    t.refuse = SIZE_MAX;
    scan_some(&t, &scan, 1000);
    ck_assert_uint_eq(t.count, SEARCHES);
    ck_assert_uint_eq(t.seen[5], 5);
    store_close(t.store);
}
END_TEST

START_TEST(a_time_leads_to_the_first_event_since)
{
    scan_case t;
    store_read *r = NULL;
    uint64_t seq, end;
    arrange(&t, SEARCHES);
    ck_ok(store_read_begin(t.store, &r, &error));
    ck_ok(events_since(r, INT64_MAX, &end, &error));
    for (size_t i = 0; i < SEARCHES; i++) {
        events_scan scan = {0};
        ck_ok(events_since(r, 1000 * (int64_t)i - 500, &scan.at, &error));
        t.count = 0;
        ck_ok(events_scan_some(r, &scan, 1, take, &t, &error));
        ck_assert(t.count == 1 && t.seen[0] == i);
    }
    ck_ok(events_since(r, -1, &seq, &error));
    ck_assert_uint_le(seq, 1);
    events_scan past = {.at = end};
    t.count = 0;
    ck_ok(events_scan_some(r, &past, 9, take, &t, &error));
    ck_assert(past.ended && t.count == 0);
    store_read_end(r);
    store_close(t.store);
}
END_TEST

START_TEST(an_empty_log_has_nothing)
{
    scan_case t;
    store_read *r = NULL;
    uint64_t seq;
    events_scan forward = {0}, backward = {.at = 9, .backward = true};
    arrange(&t, 0);
    scan_some(&t, &forward, 9);
    scan_some(&t, &backward, 9);
    ck_assert(forward.ended && backward.ended && t.count == 0);
    ck_ok(store_read_begin(t.store, &r, &error));
    ck_ok(events_since(r, 5, &seq, &error));
    ck_assert_uint_eq(seq, 0);
    store_read_end(r);
    store_close(t.store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("events_scan");
    TCase *tests = tcase_create("events_scan");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, pieces_add_up_to_every_search_once);
    tcase_add_test(tests, backward_goes_from_a_place_to_the_oldest);
    tcase_add_test(tests, a_search_that_was_not_taken_comes_again);
    tcase_add_test(tests, a_time_leads_to_the_first_event_since);
    tcase_add_test(tests, an_empty_log_has_nothing);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
