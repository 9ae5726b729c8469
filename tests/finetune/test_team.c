#include "tests/common/testing.h"

#include "base/niceness.h"
#include "finetune/team.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HELPERS = 4, ROUNDS = 2000 };

static sem_error error;

typedef struct counts {
    unsigned parts[HELPERS];
    int nice[HELPERS], policy[HELPERS];
    unsigned failing; /* bit of each helper that fails */
} counts;

static sem_status count_part(void *context, unsigned helper, sem_error *err)
{
    counts *c = context;
    c->parts[helper]++;
    errno = 0;
    c->nice[helper] = getpriority(PRIO_PROCESS, (id_t)gettid());
    c->policy[helper] = sched_getscheduler(0);
    if (c->failing >> helper & 1)
        return sem_fail(err, SEM_UNAVAILABLE, "helper %u failed", helper);
    return SEM_OK;
}

START_TEST(every_helper_does_its_part_once_a_round)
{
    team *t = NULL;
    counts c = {0};
    ck_ok(team_create(&t, HELPERS, (niceness){0}, &error));
    for (unsigned round = 1; round <= ROUNDS; round++) {
        ck_ok(team_run(t, count_part, &c, &error));
        for (unsigned i = 0; i < HELPERS; i++)
            ck_assert_uint_eq(c.parts[i], round);
    }
    team_destroy(t);
}
END_TEST

START_TEST(error_is_that_of_the_first_helper_and_does_not_stick)
{
    team *t = NULL;
    counts c = {.failing = 1 << 3 | 1 << 1};
    ck_ok(team_create(&t, HELPERS, (niceness){0}, &error));
    ck_fails(team_run(t, count_part, &c, &error), SEM_UNAVAILABLE);
    ck_assert_str_eq(error.message, "helper 1 failed");
    c.failing = 0;
    ck_ok(team_run(t, count_part, &c, &error));
    team_destroy(t);
}
END_TEST

START_TEST(helpers_are_nicer_than_their_leader)
{
    team *t = NULL;
    counts c = {0};
    int mine = getpriority(PRIO_PROCESS, (id_t)gettid());
    ck_ok(team_create(&t, HELPERS, (niceness){.added = 5}, &error));
    ck_ok(team_run(t, count_part, &c, &error));
    for (unsigned i = 0; i < HELPERS; i++)
        ck_assert_int_eq(c.nice[i], mine + 5 < 19 ? mine + 5 : 19);
    ck_assert_int_eq(getpriority(PRIO_PROCESS, (id_t)gettid()), mine);
    team_destroy(t);
    team_destroy(NULL);
}
END_TEST

static void check_helpers(team *t, int policy)
{
    counts c = {0};
    ck_ok(team_run(t, count_part, &c, &error));
    for (unsigned i = 0; i < HELPERS; i++) {
        ck_assert_uint_eq(c.parts[i], 1);
        ck_assert_int_eq(c.policy[i], policy);
    }
}

START_TEST(helpers_that_starve_are_replaced_by_nice_ones_until_all_is_well)
{
    const uint64_t long_ns = 10000000000;
    thread_patience p = {0};
    team *t = NULL;
    ck_ok(team_create(&t, HELPERS, (niceness){NICENESS_IDLE, &p}, &error));
    check_helpers(t, SCHED_IDLE);
    patience_note(&p, 0, long_ns);
    check_helpers(t, SCHED_OTHER);
    check_helpers(t, SCHED_OTHER);
    patience_note(&p, long_ns, 0);
    check_helpers(t, SCHED_IDLE);
    team_destroy(t);
}
END_TEST

START_TEST(idle_helpers_run_where_nobody_else_wants_to)
{
    team *t = NULL;
    counts c = {0};
    const int mine = sched_getscheduler(0);
    ck_ok(team_create(&t, HELPERS, (niceness){.added = NICENESS_IDLE}, &error));
    ck_ok(team_run(t, count_part, &c, &error));
    for (unsigned i = 0; i < HELPERS; i++)
        ck_assert_int_eq(c.policy[i], SCHED_IDLE);
    ck_assert_int_eq(sched_getscheduler(0), mine);
    team_destroy(t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("team");
    TCase *tests = tcase_create("team");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_helper_does_its_part_once_a_round);
    tcase_add_test(tests, error_is_that_of_the_first_helper_and_does_not_stick);
    tcase_add_test(tests, helpers_are_nicer_than_their_leader);
    tcase_add_test(tests, helpers_that_starve_are_replaced_by_nice_ones_until_all_is_well);
    tcase_add_test(tests, idle_helpers_run_where_nobody_else_wants_to);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
