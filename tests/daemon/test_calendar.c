/* Times of day as people write them, and when it was last that time. */
#include "tests/common/testing.h"

#include "daemon/calendar.h"

#include <stdlib.h>
#include <time.h>

/* Middle Europe's rules, with no file of time zones. */
static const char EUROPE[] = "CET-1CEST,M3.5.0,M10.5.0/3";

static int64_t utc(int year, int month, int day, int hour, int minute)
{
    struct tm t = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day, .tm_hour = hour, .tm_min = minute};
    return (int64_t)timegm(&t);
}

static void expect(const char *text, int64_t now, int64_t wanted)
{
    calendar c;
    ck_assert_msg(calendar_parse(&c, text), "%s", text);
    const int64_t found = calendar_last(&c, now);
    ck_assert_msg(found == wanted, "%s at %lld: %lld instead of %lld", text, (long long)now, (long long)found,
                  (long long)wanted);
}

START_TEST(only_times_of_day_with_days_before_them_are_taken)
{
    static const char *const wrong[] = {"",           "3:30",  "24:00",         "03:60",       "03:30:00",
                                        "03.30",      "Sun",   "Sun03:30",      "Sunday 3:30", "Mon, Thu 03:30",
                                        "Mon 03:30 ", "daily", "Mon-Fri 03:30", "Mon 3:3",     "-1:30",
                                        "03:3x"};
    calendar c;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_msg(!calendar_parse(&c, wrong[i]), "%s", wrong[i]);
    ck_assert(calendar_parse(&c, "03:30"));
    ck_assert_uint_eq(c.days, 0x7f);
    ck_assert_int_eq(c.hour, 3);
    ck_assert_int_eq(c.minute, 30);
    ck_assert(calendar_parse(&c, "sun,WED  23:59"));
    ck_assert_uint_eq(c.days, 1U | 1U << 3);
    ck_assert_int_eq(c.hour, 23);
}
END_TEST

START_TEST(the_last_such_moment_is_found)
{
    setenv("TZ", "UTC", 1);
    /* 2026-11-29 is a Sunday. */
    expect("03:30", utc(2026, 11, 29, 3, 30), utc(2026, 11, 29, 3, 30));
    expect("03:30", utc(2026, 11, 29, 3, 29), utc(2026, 11, 28, 3, 30));
    expect("Sun 03:30", utc(2026, 11, 29, 4, 0), utc(2026, 11, 29, 3, 30));
    expect("Sun 03:30", utc(2026, 11, 29, 3, 0), utc(2026, 11, 22, 3, 30));
    expect("Mon,Thu 23:00", utc(2026, 11, 29, 3, 0), utc(2026, 11, 26, 23, 0));
    expect("Mon 00:00", utc(2026, 3, 1, 12, 0), utc(2026, 2, 23, 0, 0));
    expect("03:30", utc(2027, 1, 1, 0, 0), utc(2026, 12, 31, 3, 30));
}
END_TEST

START_TEST(local_time_is_meant_in_summer_and_in_winter)
{
    setenv("TZ", EUROPE, 1);
    expect("03:30", utc(2026, 7, 1, 1, 30), utc(2026, 7, 1, 1, 30));
    expect("03:30", utc(2026, 1, 15, 2, 29), utc(2026, 1, 14, 2, 30));
    /* Across a change: on 29 March clocks go from 2 to 3, on 25 October from 3 to 2. */
    expect("12:00", utc(2026, 3, 29, 9, 0), utc(2026, 3, 28, 11, 0));
    expect("12:00", utc(2026, 3, 29, 10, 0), utc(2026, 3, 29, 10, 0));
    expect("12:00", utc(2026, 10, 25, 10, 30), utc(2026, 10, 24, 10, 0));
    expect("12:00", utc(2026, 10, 25, 11, 0), utc(2026, 10, 25, 11, 0));
    expect("Sun 00:30", utc(2026, 3, 29, 22, 0), utc(2026, 3, 28, 23, 30));
}
END_TEST

/* How often the moment changes while time goes by in minutes. */
static int moments(const char *text, int64_t from, int64_t to)
{
    calendar c;
    ck_assert(calendar_parse(&c, text));
    int count = 0;
    int64_t last = calendar_last(&c, from);
    for (int64_t now = from; now <= to; now += 60) {
        const int64_t found = calendar_last(&c, now);
        ck_assert_int_le(found, now);
        count += found > last;
        if (found > last)
            last = found;
    }
    return count;
}

START_TEST(a_time_that_a_change_of_the_clocks_skips_or_repeats_comes_once)
{
    setenv("TZ", EUROPE, 1);
    ck_assert_int_eq(moments("02:30", utc(2026, 3, 28, 12, 0), utc(2026, 3, 29, 12, 0)), 1);
    ck_assert_int_eq(moments("02:30", utc(2026, 10, 24, 12, 0), utc(2026, 10, 25, 12, 0)), 1);
    ck_assert_int_eq(moments("02:30", utc(2026, 10, 20, 12, 0), utc(2026, 10, 30, 12, 0)), 10);
    ck_assert_int_eq(moments("Sun 02:30", utc(2026, 3, 1, 12, 0), utc(2026, 4, 1, 12, 0)), 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calendar");
    TCase *tests = tcase_create("calendar");
    tcase_add_test(tests, only_times_of_day_with_days_before_them_are_taken);
    tcase_add_test(tests, the_last_such_moment_is_found);
    tcase_add_test(tests, local_time_is_meant_in_summer_and_in_winter);
    tcase_add_test(tests, a_time_that_a_change_of_the_clocks_skips_or_repeats_comes_once);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
