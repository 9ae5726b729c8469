/* A rollback during a trial: it does not wait for the days that a trial may take, but discards the
 * candidate and returns at once, whether an operator asks for it or the watchdog. */
#include "tests/daemon/trial_box.h"

enum { BEFORE = 1, CURRENT = 2, CANDIDATE = 3, TRIAL_JOB = 2, ROLLBACK_JOB = 3 };

static const char LEFT[] = "discarded by a rollback that ended its trial after 3 votes for it, 0 for the current "
                           "generation and 0 for both, of 3 clicks";

static box b;
static char prepared[FILES_PATH_MAX];

static void prepare(void)
{
    trial_prepare(prepared);
}

/* With the job's thread stopped at a point until go_on() where label is not NULL. */
static bool begin(const char *name, const char *mode, const char *label)
{
    if (prepared[0] == '\0')
        return false;
    if (label != NULL) {
        setenv("SEMD_PAUSE_AT", label, 1);
        setenv("SEMD_PAUSE_UNTIL", testing_path("go_on"), 1);
    }
    trial_begin(&b, prepared, name, mode);
    unsetenv("SEMD_PAUSE_AT");
    return true;
}

static void go_on(void)
{
    sem_error error;
    ck_ok(files_write(testing_path("go_on"), "", 0, &error));
}

static unsigned generation(void)
{
    return (unsigned)object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0);
}

static const msgpack_object *job_state(unsigned number)
{
    return object_get(box_call(&b, "job", "{'job': %u}", number), "state");
}

static void check_no_candidate(void)
{
    const msgpack_object *all = box_call(&b, "generations", NULL);
    for (size_t i = 0; i < box_count(all); i++)
        ck_assert_uint_ne(object_uint(object_get(box_at(all, i), "generation"), 0), CANDIDATE);
}

/* Until the daemon's log has the text. */
static void wait_for_log(const char *text)
{
    for (int waited = 0; waited < JOB_BOX_PATIENCE_MS; waited += 10) {
        sem_error error;
        char *log;
        size_t size;
        ck_ok(files_read(b.log, 16 << 20, &log, &size, &error));
        const bool found = strstr(log, text) != NULL;
        free(log);
        if (found)
            return;
        usleep(10000);
    }
    ck_abort_msg("'%s' is not in %s", text, b.log);
}

/* Asks on a connection of its own, which waits for the answer. */
static client *ask_to_roll_back(const char *params)
{
    client *c = box_connect(&b);
    box_send(c, "rollback", "%s", params);
    return c;
}

/* Its answer: an error of this code; NULL: a result with the generation. */
static void check_answer(client *c, const char *code)
{
    sem_error error;
    client_reply reply;
    ck_ok(client_receive(c, BOX_TIMEOUT_MS, &reply, &error));
    if (code != NULL)
        ck_assert_msg(reply.is_error && strcmp(reply.code, code) == 0, "%s", reply.is_error ? reply.code : "a result");
    else
        ck_assert_uint_eq(object_uint(object_get(&reply.value, "generation"), 0), BEFORE);
    client_reply_free(&reply);
    client_close(c);
}

static const char *const modes[] = {"full", "query"};

START_TEST(a_rollback_ends_a_trial_and_returns)
{
    if (!begin("left", modes[_i], NULL))
        return;
    trial_wait(&b, 0);
    trial_click_lessons(&b, CURRENT, CANDIDATE, CANDIDATE, 0, 3, NULL); /* it is ahead, and goes all the same */
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "rollback", "{}"), "generation"), 0), BEFORE);
    ck_assert_uint_eq(job_box_check_search(&b), BEFORE);
    trial_check_decision(&b, TRIAL_JOB, "discarded", LEFT);
    const msgpack_object *job = box_call(&b, "job", "{}");
    ck_assert_uint_eq(object_uint(object_get(job, "job"), 0), ROLLBACK_JOB);
    ck_assert(object_is(object_get(job, "kind"), "rollback"));
    check_no_candidate();
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_rollback_that_cannot_be_leaves_the_trial_alone)
{
    if (!begin("alone", "query", NULL))
        return;
    trial_wait(&b, 0);
    box_fails(&b, "NOT_FOUND", "rollback", "{'generation': %d}", CANDIDATE);
    box_fails(&b, "NOT_FOUND", "rollback", "{'generation': 99}");
    box_fails(&b, "FAILED_PRECONDITION", "rollback", "{'generation': %d}", CURRENT);
    box_fails(&b, "ALREADY_EXISTS", "finetune", "{}"); /* what is no rollback waits */
    trial_click_lessons(&b, CURRENT, CANDIDATE, CANDIDATE, 0, TRIAL_CLICKS, NULL);
    box_wait_for_job(&b, "done");
    trial_check_decision(&b, TRIAL_JOB, "promoted", "promoted by 24 votes for it");
    box_stop(&b);
}
END_TEST

START_TEST(in_another_phase_a_rollback_is_refused_as_ever)
{
    if (!begin("another", "query", "training.begin"))
        return;
    const char *why = box_fails(&b, "ALREADY_EXISTS", "rollback", "{}");
    ck_assert_str_eq(why, "job 2 is under way");
    box_fails(&b, "ALREADY_EXISTS", "rollback", "{'generation': 99}"); /* it is not even looked at */
    go_on();
    trial_wait(&b, 0);
    box_call(&b, "job", "{'cancel': true}");
    box_wait_for_job(&b, "cancelled");
    box_stop(&b);
}
END_TEST

START_TEST(a_trial_that_is_decided_is_not_ended)
{
    if (!begin("decided", "query", "trial.decided"))
        return;
    trial_wait(&b, 0);
    trial_click_lessons(&b, CURRENT, CANDIDATE, CANDIDATE, 0, TRIAL_CLICKS, NULL);
    wait_for_log("event=trial state=over");
    box_fails(&b, "ALREADY_EXISTS", "rollback", "{}");
    go_on();
    box_wait_for_job(&b, "done");
    trial_check_decision(&b, TRIAL_JOB, "promoted", "promoted by 24 votes for it");
    ck_assert_uint_eq(generation(), CANDIDATE);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "rollback", "{}"), "generation"), 0), CURRENT);
    box_stop(&b);
}
END_TEST

/* Between the trial's end and the rollback's start. */
START_TEST(nothing_comes_before_a_rollback_that_waits)
{
    if (!begin("waits", "full", "trial.decided"))
        return;
    trial_wait(&b, 0);
    trial_click_lessons(&b, CURRENT, CANDIDATE, CANDIDATE, 0, 3, NULL);
    trial_wait(&b, 3);
    client *c = ask_to_roll_back("{}");
    wait_for_log("ended_by=rollback");
    box_fails(&b, "ALREADY_EXISTS", "rollback", "{}");
    box_fails(&b, "ALREADY_EXISTS", "finetune", "{}");
    ck_assert_uint_eq(generation(), CURRENT);
    go_on();
    check_answer(c, NULL);
    trial_check_decision(&b, TRIAL_JOB, "discarded", LEFT);
    ck_assert_uint_eq(job_box_check_search(&b), BEFORE);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_rollback_whose_time_is_over_is_not_done)
{
    if (!begin("late", "query", "trial.decided"))
        return;
    trial_wait(&b, 0);
    client *c = ask_to_roll_back("{'deadline_ms': 1000}");
    wait_for_log("ended_by=rollback");
    usleep(1100000);
    go_on();
    check_answer(c, "DEADLINE_EXCEEDED");
    trial_check_decision(&b, TRIAL_JOB, "discarded",
                         "discarded by a rollback that ended its trial after 0 votes for it");
    ck_assert_uint_eq(generation(), CURRENT);
    box_fails(&b, "NOT_FOUND", "job", "{'job': %d}", ROLLBACK_JOB);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "rollback", "{}"), "generation"), 0), BEFORE);
    box_stop(&b);
}
END_TEST

START_TEST(a_rollback_that_the_end_of_the_daemon_meets_is_refused)
{
    if (!begin("ending", "query", "trial.decided"))
        return;
    trial_wait(&b, 0);
    client *c = ask_to_roll_back("{}");
    wait_for_log("ended_by=rollback");
    box_disconnect(&b);
    kill(b.daemon.pid, SIGTERM);
    wait_for_log("event=draining");
    go_on();
    check_answer(c, "UNAVAILABLE");
    int status;
    ck_assert_int_eq(waitpid(b.daemon.pid, &status, 0), b.daemon.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    box_start(&b);
    ck_assert(object_is(job_state(TRIAL_JOB), "done"));
    ck_assert_uint_eq(generation(), CURRENT);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

/* --- the watchdog */

enum { SEARCHES = 80 };

/* Everybody searches once; all click the first hit, or nobody. */
static void search_and_click(bool clicks)
{
    for (unsigned i = 0; i < SEARCHES; i++) {
        char query[64], rest[64];
        trial_list l;
        snprintf(query, sizeof query, "which document %u", i);
        snprintf(rest, sizeof rest, "'user': 'u%u'", i);
        trial_search(&b, &l, query, rest);
        if (clicks)
            box_call(&b, "click", "{'query_id': '%s', 'id': %u}", l.query_id, l.ids[0]);
    }
}

static void load(const char *gate)
{
    box_call(&b, "model.load", "{'path': '%s', 'gate': %s}", b.model + strlen("model.path="), gate);
}

/* It is switched on when the trial is under way: what it finds in the log is bad enough for an alarm. */
START_TEST(the_watchdog_ends_a_trial_too)
{
    static const char SWITCH[] = "finetune.watchdog=false";
    size_t place = 0;
    if (!job_box_at(&b, testing_folder()))
        return;
    job_box_option(&b, "finetune.watchdog_settle=1s");
    job_box_option(&b, "finetune.watchdog_searches=60");
    job_box_option(&b, "finetune.watchdog_rollback=true");
    job_box_option(&b, "finetune.harvest=false");
    job_box_option(&b, "finetune.min_heldout=1000"); /* of fewer the gate makes nothing */
    trial_options(&b);
    job_box_option(&b, SWITCH);
    while (b.options[place] != SWITCH)
        place++;
    box_start(&b);
    job_box_documents(&b);
    search_and_click(true);
    load("false");
    box_wait_for_job(&b, "done");
    search_and_click(false);
    load("true");
    trial_wait(&b, 0);
    box_stop(&b);
    b.options[place] = "finetune.watchdog=true";
    box_start(&b);
    for (int waited = 0; generation() != BEFORE; waited += 20) {
        ck_assert_msg(waited < JOB_BOX_PATIENCE_MS, "nothing was rolled back; see %s", b.log);
        usleep(20000);
    }
    box_wait_for_job(&b, "done");
    trial_check_decision(&b, 2, "discarded", "discarded by a rollback that ended its trial after 0 votes for it");
    const msgpack_object *reason = object_get(box_call(&b, "job", "{}"), "reason");
    ck_assert_ptr_nonnull(memmem(reason->via.str.ptr, reason->via.str.size, "rolled back by the watchdog", 27));
    check_no_candidate();
    job_box_verify(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("the end of a trial by a rollback");
    TCase *t = tcase_create("the end of a trial by a rollback");
    tcase_set_timeout(t, 180);
    tcase_add_unchecked_fixture(t, prepare, NULL);
    tcase_add_loop_test(t, a_rollback_ends_a_trial_and_returns, 0, 2);
    tcase_add_test(t, a_rollback_that_cannot_be_leaves_the_trial_alone);
    tcase_add_test(t, in_another_phase_a_rollback_is_refused_as_ever);
    tcase_add_test(t, a_trial_that_is_decided_is_not_ended);
    tcase_add_test(t, nothing_comes_before_a_rollback_that_waits);
    tcase_add_test(t, a_rollback_whose_time_is_over_is_not_done);
    tcase_add_test(t, a_rollback_that_the_end_of_the_daemon_meets_is_refused);
    tcase_add_test(t, the_watchdog_ends_a_trial_too);
    suite_add_tcase(s, t);
    return testing_run(s);
}
