#include "tests/common/testing.h"

#include "base/niceness.h"
#include "base/patience.h"

static const uint64_t SECOND_NS = 1000000000;

START_TEST(patience_ends_when_threads_hardly_ran_for_seconds_and_comes_back)
{
    thread_patience p = {0};
    const niceness n = {NICENESS_IDLE, &p};
    ck_assert_int_eq(patience_nice(n), NICENESS_IDLE);
    patience_note(&p, 0, 4 * SECOND_NS); /* a short burst of others */
    ck_assert_int_eq(patience_nice(n), NICENESS_IDLE);
    patience_note(&p, 0, 2 * SECOND_NS);
    ck_assert_int_eq(patience_nice(n), PATIENCE_NICE);
    patience_note(&p, SECOND_NS, 9 * SECOND_NS); /* a tenth: as much as it is for */
    ck_assert_int_eq(patience_nice(n), PATIENCE_NICE);
    patience_note(&p, 5 * SECOND_NS, 5 * SECOND_NS);
    ck_assert_int_eq(patience_nice(n), NICENESS_IDLE);
    patience_note(&p, SECOND_NS, 9 * SECOND_NS);
    ck_assert_int_eq(patience_nice(n), NICENESS_IDLE);
}
END_TEST

START_TEST(who_asked_for_a_nice_value_keeps_it)
{
    thread_patience p = {0};
    patience_note(&p, 0, 10 * SECOND_NS);
    for (int nice = 0; nice < NICENESS_IDLE; nice++)
        ck_assert_int_eq(patience_nice((niceness){nice, &p}), nice);
    ck_assert_int_eq(patience_nice((niceness){.added = NICENESS_IDLE}), NICENESS_IDLE); /* and who has no patience */
}
END_TEST

START_TEST(a_thread_learns_how_long_it_ran)
{
    thread_patience p = {0};
    const niceness n = {NICENESS_IDLE, &p};
    const patience_times began = patience_begin(n);
    if (began.ran_ns == 0)
        return; /* a system that does not tell */
    volatile unsigned work = 0;
    while (patience_begin(n).ran_ns == began.ran_ns)
        work++;
    patience_end(n, began);
    ck_assert_uint_gt(atomic_load(&p.ran), 0);
    ck_assert_uint_eq(patience_begin((niceness){.added = 5}).ran_ns, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/patience");
    TCase *all = tcase_create("all");
    tcase_add_test(all, patience_ends_when_threads_hardly_ran_for_seconds_and_comes_back);
    tcase_add_test(all, who_asked_for_a_nice_value_keeps_it);
    tcase_add_test(all, a_thread_learns_how_long_it_ran);
    suite_add_tcase(suite, all);
    return testing_run(suite);
}
