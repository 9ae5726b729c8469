#include "tests/common/testing.h"

#include "base/crew.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { CHUNKS = 37, HELPERS = 3, PHASES = 4000 };

typedef struct phase {
    unsigned runs[CHUNKS]; /* plain on purpose: the crew must order what its members write */
    unsigned members[CHUNKS];
} phase;

static void count_chunk(void *context, size_t chunk, size_t member)
{
    phase *p = context;
    p->runs[chunk]++;
    p->members[chunk] = (unsigned)member;
}

static void check_all_ran(const phase *p, size_t chunks, unsigned times, size_t members)
{
    for (size_t i = 0; i < chunks; i++) {
        ck_assert_uint_eq(p->runs[i], times);
        ck_assert_uint_lt(p->members[i], members);
    }
}

START_TEST(a_leader_without_helpers_does_every_chunk_once)
{
    sem_error error;
    crew *c;
    phase p = {0};
    ck_ok(crew_create(&c, 4, &error));
    ck_assert(crew_lead(c));
    for (size_t chunks = 0; chunks <= CHUNKS; chunks++) {
        p = (phase){0};
        crew_run(c, count_chunk, &p, chunks);
        check_all_ran(&p, chunks, 1, 1);
    }
    crew_dismiss(c);
    crew_destroy(c);
}
END_TEST

START_TEST(one_thread_leads_at_a_time)
{
    sem_error error;
    crew *c, *alone;
    ck_ok(crew_create(&c, 2, &error));
    ck_assert(crew_lead(c));
    ck_assert(!crew_lead(c));
    crew_dismiss(c);
    ck_assert(crew_lead(c));
    crew_dismiss(c);
    ck_ok(crew_create(&alone, 1, &error));
    ck_assert(!crew_lead(alone)); /* there is nobody to lead */
    crew_destroy(alone);
    crew_destroy(c);
}
END_TEST

START_TEST(a_crew_of_no_or_too_many_threads_is_refused)
{
    sem_error error;
    crew *c;
    ck_fails(crew_create(&c, 0, &error), SEM_INVALID_ARGUMENT);
    ck_fails(crew_create(&c, CREW_MEMBERS_MAX + 1, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

typedef struct helper {
    crew *c;
    atomic_bool *stop;
    unsigned asked, leave_after;
} helper;

static bool leave(void *context)
{
    helper *h = context;
    return atomic_load(h->stop) || ++h->asked % h->leave_after == 0;
}

static void *help(void *argument)
{
    helper *h = argument;
    while (!atomic_load(h->stop)) {
        crew_help(h->c, leave, h);
        sched_yield();
    }
    return NULL;
}

START_TEST(helpers_that_come_and_go_leave_no_chunk_out_and_do_none_twice)
{
    sem_error error;
    crew *c;
    atomic_bool stop = false;
    pthread_t threads[HELPERS];
    helper helpers[HELPERS];
    static phase p;
    ck_ok(crew_create(&c, HELPERS, &error)); /* one helper more than there is room for */
    for (unsigned i = 0; i < HELPERS; i++) {
        helpers[i] = (helper){c, &stop, 0, 3 + 40 * i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, help, &helpers[i]), 0);
    }

    unsigned total = 0;
    for (unsigned round = 0; round < PHASES / 40; round++) {
        ck_assert(crew_lead(c));
        for (unsigned i = 0; i < 40; i++)
            crew_run(c, count_chunk, &p, CHUNKS);
        crew_dismiss(c);
        total += 40;
        check_all_ran(&p, CHUNKS, total, HELPERS);
    }

    atomic_store(&stop, true);
    for (unsigned i = 0; i < HELPERS; i++)
        pthread_join(threads[i], NULL);
    crew_destroy(c);
}
END_TEST

START_TEST(a_helper_returns_at_once_where_nobody_leads)
{
    sem_error error;
    crew *c;
    atomic_bool stop = false;
    helper h = {.stop = &stop, .leave_after = 1000};
    ck_ok(crew_create(&c, 2, &error));
    crew_help(c, leave, &h);
    ck_assert_uint_eq(h.asked, 0);
    crew_destroy(c);
}
END_TEST

/* The leader is away, as a thread that is off the processor: a helper must not
 * burn a core until it is back. */
START_TEST(a_helper_with_nothing_to_do_leaves)
{
    sem_error error;
    crew *c;
    atomic_bool stop = false;
    helper h = {.stop = &stop, .leave_after = 1u << 31};
    ck_ok(crew_create(&c, 2, &error));
    ck_assert(crew_lead(c));
    crew_help(c, leave, &h);
    ck_assert_uint_gt(h.asked, 1);
    crew_dismiss(c);
    crew_destroy(c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crew");
    TCase *all = tcase_create("crew");
    tcase_set_timeout(all, 60);
    tcase_add_test(all, a_leader_without_helpers_does_every_chunk_once);
    tcase_add_test(all, one_thread_leads_at_a_time);
    tcase_add_test(all, a_crew_of_no_or_too_many_threads_is_refused);
    tcase_add_test(all, helpers_that_come_and_go_leave_no_chunk_out_and_do_none_twice);
    tcase_add_test(all, a_helper_returns_at_once_where_nobody_leads);
    tcase_add_test(all, a_helper_with_nothing_to_do_leaves);
    suite_add_tcase(suite, all);
    return testing_run(suite);
}
