/* The loop is woken for the answer to a lone query before that is there: the worker that
 * helps to encode it says when the encoding is over. */
#include "tests/common/testing.h"
#include "tests/daemon/blackbox.h"
#include "tests/daemon/daemon_here.h"

enum { WORKERS = 2, QUERIES_MAX = 2000 };

static daemon_here here;
static box b; /* only its client, and what it remembers of answers */

static void stop(void)
{
    box_forget_reply(&b);
    here_stop(&here);
}

START_TEST(who_helped_with_a_lone_query_says_that_its_answer_comes)
{
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        printf("skipped: one processor has no crew\n");
        return;
    }
    here_start(&here, dir, WORKERS, 0);
    b.client = here.client;
    /* A helper that comes when all is done says nothing. */
    for (int i = 0; i < QUERIES_MAX && atomic_load(&here.expected) == 0; i++)
        box_call(&b, "search", "{'query': 'the number %d of all the queries, in a few more words', 'log': false}", i);
    ck_assert_uint_gt(atomic_load(&here.expected), 0);
    stop();
}
END_TEST

START_TEST(a_worker_without_others_says_nothing)
{
    const char *dir = testing_shared("golden/tiny-bert");
    if (dir == NULL)
        return;
    here_start(&here, dir, 1, 0);
    b.client = here.client;
    for (int i = 0; i < 20; i++)
        box_call(&b, "search", "{'query': 'the number %d of all the queries', 'log': false}", i);
    ck_assert_uint_eq(atomic_load(&here.expected), 0);
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("expect");
    TCase *t = tcase_create("expect");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, who_helped_with_a_lone_query_says_that_its_answer_comes);
    tcase_add_test(t, a_worker_without_others_says_nothing);
    suite_add_tcase(s, t);
    return testing_run(s);
}
