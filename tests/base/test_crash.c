/* A process is killed at the point that its environment names, and nowhere else. */
#include "tests/common/testing.h"

#include "base/crash.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOT_KILLED = 7 };

/* A child that comes to first, second, first; the signal that ended it, 0 when it was not killed. */
static int run(const char *crash_at)
{
    int status = 0;
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        if (crash_at != NULL)
            setenv("SEMD_CRASH_AT", crash_at, 1);
        crash_point("first");
        crash_point("second");
        crash_point("first");
        _exit(NOT_KILLED);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status))
        return WTERMSIG(status);
    ck_assert_int_eq(WEXITSTATUS(status), NOT_KILLED);
    return 0;
}

START_TEST(a_process_is_killed_at_the_label_that_is_named)
{
    ck_assert_int_eq(run(NULL), 0);
    ck_assert_int_eq(run("first"), SIGKILL);
    ck_assert_int_eq(run("second"), SIGKILL);
    ck_assert_int_eq(run("fir"), 0);
    ck_assert_int_eq(run("first.more"), 0);
    ck_assert_int_eq(run(""), 0);
}
END_TEST

START_TEST(a_number_says_at_which_time)
{
    ck_assert_int_eq(run("first:1"), SIGKILL);
    ck_assert_int_eq(run("first:2"), SIGKILL);
    ck_assert_int_eq(run("first:3"), 0);
    ck_assert_int_eq(run("second:2"), 0);
}
END_TEST

START_TEST(a_thread_waits_at_a_point_until_a_file_is_there)
{
    char until[512], passed[512];
    snprintf(until, sizeof until, "%s/go-on", testing_folder());
    snprintf(passed, sizeof passed, "%s/passed", testing_folder());
    int status = 0, ends[2];
    char byte;
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        setenv("SEMD_PAUSE_AT", "here", 1);
        setenv("SEMD_PAUSE_UNTIL", until, 1);
        crash_point("elsewhere");
        ck_assert_int_eq(write(ends[1], "x", 1), 1);
        crash_point("here");
        close(open(passed, O_WRONLY | O_CREAT, 0600));
        _exit(access(until, F_OK) == 0 ? NOT_KILLED : 0);
    }
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    ck_assert_int_ne(access(passed, F_OK), 0);
    close(open(until, O_WRONLY | O_CREAT, 0600));
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == NOT_KILLED);
    ck_assert_int_eq(access(passed, F_OK), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crash points");
    TCase *tests = tcase_create("crash points");
    tcase_add_test(tests, a_process_is_killed_at_the_label_that_is_named);
    tcase_add_test(tests, a_number_says_at_which_time);
    tcase_add_test(tests, a_thread_waits_at_a_point_until_a_file_is_there);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
