/* When a job starts by itself, by what a store and its event log tell. */
#include "tests/common/testing.h"

#include "base/clock.h"
#include "index/events.h"
#include "daemon/job_triggers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MINUTE_MS = 60 * 1000, HOUR_MS = 60 * MINUTE_MS };

typedef struct rig {
    store *store;
    sem_log log;
    config c;
    job_triggers triggers;
    job_start last;
} rig;

static void open_store(rig *r)
{
    sem_error error;
    const store_options options = {.path = testing_folder(), .map_size = 64 << 20};
    ck_ok(store_open(&r->store, &options, &r->log, &error));
}

static void find_last(rig *r)
{
    sem_error error;
    store_read *read;
    ck_ok(store_read_begin(r->store, &read, &error));
    ck_ok(job_start_find(&r->last, read, &error));
    store_read_end(read);
}

static rig create(int64_t made_ms)
{
    sem_error error;
    store_write *w;
    rig r = {0};
    log_init(&r.log, 2, LOG_LEVEL_ERROR);
    config_defaults(&r.c);
    r.c.finetune.interval_ms = 0;
    open_store(&r);
    store_generation g = {.number = 1,
                          .created_ms = made_ms,
                          .state = GENERATION_CURRENT,
                          .space = 1,
                          .dim = 4,
                          .mode = "seed",
                          .model = "m"};
    ck_ok(store_write_begin(r.store, &w, &error));
    ck_ok(store_generation_put(w, &g, &error));
    ck_ok(store_write_commit(w, &error));
    find_last(&r);
    return r;
}

static void feed(rig *r, unsigned count)
{
    sem_error error;
    store_write *w;
    ck_ok(store_write_begin(r->store, &w, &error));
    for (unsigned i = 0; i < count; i++) {
        const event_feedback f = {.time_ms = clock_wall_ms(),
                                  .collection = 1,
                                  .query = "question",
                                  .query_length = 8,
                                  .text = "answer",
                                  .text_length = 6,
                                  .label = 1};
        ck_ok(events_put_feedback(w, &f, 1, &error));
    }
    ck_ok(store_write_commit(w, &error));
}

/* A job that began now, or so long ago, with all events so far. */
static void put_job(rig *r, const char *kind, int64_t ago_ms)
{
    sem_error error;
    store_write *w;
    char text[256];
    uint32_t number;
    uint64_t events;
    ck_ok(store_write_begin(r->store, &w, &error));
    ck_ok(events_last_seq(store_write_view(w), &events, &error));
    ck_ok(store_job_next(w, &number, &error));
    snprintf(text, sizeof text,
             "{\"job\": %u, \"kind\": \"%s\", \"state\": \"done\", \"started\": %lld, \"events\": %llu}", number, kind,
             (long long)(clock_wall_ms() - ago_ms), (unsigned long long)events);
    ck_ok(store_job_put(w, number, text, &error));
    ck_ok(store_write_commit(w, &error));
    find_last(r);
}

/* What a look says that does not wait for its second. */
static const char *look(rig *r)
{
    r->triggers.look_after_ms = 0;
    const char *found = job_triggers_due(&r->triggers, r->store, &r->c, &r->last);
    return found != NULL ? found : "none";
}

static void restart(rig *r)
{
    store_close(r->store);
    open_store(r);
    memset(&r->triggers, 0, sizeof r->triggers);
    find_last(r);
}

START_TEST(so_many_new_judgements_start_a_job_and_a_restart_forgets_none)
{
    rig r = create(clock_wall_ms());
    r.c.finetune.new_pairs = 10;
    ck_assert_str_eq(look(&r), "none");
    feed(&r, 9);
    ck_assert_str_eq(look(&r), "none");
    restart(&r);
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "finetune.new_pairs");
    put_job(&r, "finetune", 0);
    ck_assert_str_eq(look(&r), "none");
    feed(&r, 9);
    ck_assert_str_eq(look(&r), "none");
    put_job(&r, "rollback", 0); /* learns nothing */
    restart(&r);
    ck_assert_str_eq(look(&r), "none");
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "finetune.new_pairs");
    r.c.finetune.enabled = false;
    ck_assert_str_eq(look(&r), "none");
    store_close(r.store);
}
END_TEST

START_TEST(an_interval_counts_from_the_last_start_across_restarts)
{
    rig r = create(clock_wall_ms() - HOUR_MS);
    r.c.finetune.interval_ms = 30 * MINUTE_MS;
    ck_assert_str_eq(look(&r), "none"); /* nothing was clicked */
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "finetune.interval");
    put_job(&r, "finetune", 10 * MINUTE_MS);
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "none");
    restart(&r);
    ck_assert_str_eq(look(&r), "none");
    put_job(&r, "finetune", 31 * MINUTE_MS);
    ck_assert_str_eq(look(&r), "none"); /* nothing new since */
    feed(&r, 1);
    restart(&r);
    ck_assert_str_eq(look(&r), "finetune.interval");
    put_job(&r, "finetune", -HOUR_MS); /* a clock that was set back: not for ever */
    feed(&r, 1);
    r.c.finetune.interval_ms = 0;
    r.c.finetune.new_pairs = 1;
    ck_assert_str_eq(look(&r), "finetune.new_pairs");
    store_close(r.store);
}
END_TEST

/* finetune.at, so many minutes ago. */
static void set_at(rig *r, int minutes)
{
    time_t then = time(NULL) - minutes * 60;
    struct tm t;
    gmtime_r(&then, &t);
    snprintf(r->c.finetune.at, sizeof r->c.finetune.at, "%02d:%02d", t.tm_hour, t.tm_min);
}

START_TEST(a_time_of_day_starts_one_job_unless_it_is_long_over)
{
    setenv("TZ", "UTC", 1);
    rig r = create(clock_wall_ms() - 5 * HOUR_MS);
    feed(&r, 1);
    set_at(&r, 10);
    ck_assert_str_eq(look(&r), "finetune.at");
    put_job(&r, "finetune", MINUTE_MS); /* after that time */
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "none");
    put_job(&r, "finetune", 20 * MINUTE_MS); /* before it */
    feed(&r, 1);
    restart(&r);
    ck_assert_str_eq(look(&r), "finetune.at");
    set_at(&r, 90);
    put_job(&r, "finetune", 2 * HOUR_MS);
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "none");
    set_at(&r, -30);
    ck_assert_str_eq(look(&r), "none");
    store_close(r.store);
}
END_TEST

START_TEST(a_refusal_waits_for_what_is_missing)
{
    rig r = create(clock_wall_ms() - HOUR_MS);
    r.c.finetune.interval_ms = MINUTE_MS;
    feed(&r, 5);
    ck_assert_str_eq(look(&r), "finetune.interval");
    job_triggers_refused(&r.triggers, 3);
    ck_assert_ptr_null(job_triggers_due(&r.triggers, r.store, &r.c, &r.last)); /* it pauses */
    ck_assert_uint_ge(r.triggers.look_after_ms, clock_monotonic_ms() + MINUTE_MS - 1000);
    ck_assert_str_eq(look(&r), "none");
    feed(&r, 2);
    ck_assert_str_eq(look(&r), "none");
    feed(&r, 1);
    ck_assert_str_eq(look(&r), "finetune.interval");
    uint64_t pause = 0;
    for (int i = 0; i < 12; i++) { /* longer and longer, within bounds */
        job_triggers_refused(&r.triggers, 0);
        const uint64_t now = r.triggers.look_after_ms - clock_monotonic_ms();
        ck_assert_uint_ge(now + 1000, pause);
        ck_assert_uint_le(now, HOUR_MS);
        pause = now;
    }
    ck_assert_uint_ge(pause + 1000, HOUR_MS);
    job_triggers_refused(&r.triggers, 1000);
    job_triggers_forget_refusal(&r.triggers);
    ck_assert_str_eq(look(&r), "finetune.interval");
    store_close(r.store);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("job triggers");
    TCase *tests = tcase_create("job triggers");
    tcase_add_test(tests, so_many_new_judgements_start_a_job_and_a_restart_forgets_none);
    tcase_add_test(tests, an_interval_counts_from_the_last_start_across_restarts);
    tcase_add_test(tests, a_time_of_day_starts_one_job_unless_it_is_long_over);
    tcase_add_test(tests, a_refusal_waits_for_what_is_missing);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
