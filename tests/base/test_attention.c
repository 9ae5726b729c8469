/* How long a thread looks for work before it sleeps. */
#include "tests/common/testing.h"

#include "base/attention.h"
#include "base/clock.h"

#include <time.h>

START_TEST(it_lasts_for_its_time_after_something_came)
{
    attention a = {.look_ns = 50000000};
    uint64_t start = clock_monotonic_ns();
    ck_assert(!attention_lasts(&a)); /* nothing has come yet */
    attention_begin(&a);
    while (attention_lasts(&a))
        ;
    ck_assert(a.again_ns > 0 || clock_monotonic_ns() - start >= a.look_ns);
}
END_TEST

START_TEST(without_time_it_never_lasts)
{
    attention a = {0};
    attention_begin(&a);
    ck_assert(!attention_lasts(&a));
}
END_TEST

START_TEST(who_was_kept_from_looking_stops_for_a_while)
{
    const struct timespec away = {.tv_nsec = 2000000};
    attention a = {.look_ns = 1000000000};
    attention_begin(&a);
    nanosleep(&away, NULL);
    ck_assert(!attention_lasts(&a));
    attention_begin(&a);
    ck_assert(!attention_lasts(&a) || clock_monotonic_ns() >= a.again_ns);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *tests = tcase_create("attention");
    tcase_add_test(tests, it_lasts_for_its_time_after_something_came);
    tcase_add_test(tests, without_time_it_never_lasts);
    tcase_add_test(tests, who_was_kept_from_looking_stops_for_a_while);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
