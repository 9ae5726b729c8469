#include "tests/common/testing.h"

#include "base/files.h"
#include "base/process.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static sem_error error;

static sem_status start(process *out, const char *script)
{
    char log[FILES_PATH_MAX];
    sigset_t mask;
    const char *argv[] = {"/bin/sh", "-c", script, NULL};
    sigemptyset(&mask);
    ck_ok(files_join(log, &error, "%s/log", testing_folder()));
    return process_start(out, (char *const *)argv, log, false, &mask, &error);
}

START_TEST(start_waits_for_the_address)
{
    process p;
    ck_ok(start(&p, "echo time=1 event=starting >&2; sleep 0.1; trap 'exit 0' TERM; "
                    "echo time=2 event=listening address=tcp://127.0.0.1:4123 more=1 >&2; "
                    "while :; do sleep 0.05; done"));
    ck_assert_str_eq(p.address, "tcp://127.0.0.1:4123");
    ck_assert(process_stop(&p));
    ck_assert_int_eq(kill(p.pid, 0) == 0 && p.pid != 0, 0);
}
END_TEST

START_TEST(stop_tells_an_end_by_signal_from_an_orderly_one)
{
    process p;
    ck_ok(start(&p, "echo event=listening address=\\\"unix:/tmp/x y\\\" >&2; exec sleep 100"));
    ck_assert_str_eq(p.address, "unix:/tmp/x");
    ck_assert(!process_stop(&p));
    ck_assert(!process_stop(&p));
}
END_TEST

START_TEST(a_program_that_ends_early_is_an_error_with_its_last_words)
{
    process p;
    ck_fails(start(&p, "echo the model is damaged >&2; exit 3"), SEM_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(error.message, "the model is damaged"));
}
END_TEST

START_TEST(a_program_that_is_missing_is_an_error)
{
    process p;
    char log[FILES_PATH_MAX];
    sigset_t mask;
    const char *argv[] = {"/nowhere/semd", NULL};
    sigemptyset(&mask);
    ck_ok(files_join(log, &error, "%s/log", testing_folder()));
    ck_fails(process_start(&p, (char *const *)argv, log, false, &mask, &error), SEM_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(error.message, "/nowhere/semd"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("process");
    TCase *tests = tcase_create("start and stop");
    tcase_add_test(tests, start_waits_for_the_address);
    tcase_add_test(tests, stop_tells_an_end_by_signal_from_an_orderly_one);
    tcase_add_test(tests, a_program_that_ends_early_is_an_error_with_its_last_words);
    tcase_add_test(tests, a_program_that_is_missing_is_an_error);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
