/* A job that was under way when the daemon ended goes on when it starts again, as the same job,
 * to the same result; one that was cancelled does not; one that kills the daemon is given up. */
#include "tests/daemon/job_box.h"

#include <sys/wait.h>

static box b;
static char prepared[FILES_PATH_MAX];

static const char MINES[] = "finetune.mined_negatives=1";

static void prepare(void)
{
    static const job_box_trial trials[] = {{"full", "full", NULL}, {"mined", "full", MINES}, {NULL, NULL, NULL}};
    sem_error error;
    ck_ok(files_join(prepared, &error, "%s/prepared", testing_folder()));
    if (!job_box_prepare(prepared, trials))
        prepared[0] = '\0';
}

/* A copy of the store below the test's folder; false without the model. */
static bool take_copy(const char *name)
{
    sem_error error;
    static char folder[FILES_PATH_MAX];
    ck_ok(files_join(folder, &error, "%s/%s", testing_folder(), name));
    if (prepared[0] == '\0')
        return false;
    job_box_copy(prepared, folder);
    return job_box_at(&b, folder);
}

static unsigned number_of_job(void)
{
    return (unsigned)object_uint(object_get(box_call(&b, "job", "{}"), "job"), 0);
}

static bool is_number(const msgpack_object *o)
{
    return o != NULL && (o->type == MSGPACK_OBJECT_FLOAT64 || o->type == MSGPACK_OBJECT_FLOAT32 ||
                         o->type == MSGPACK_OBJECT_POSITIVE_INTEGER);
}

/* --- a moment in each phase */

typedef struct moment {
    const char *label;  /* where the job waits */
    const char *phase;  /* as clients see it there */
    bool loss;          /* something was trained by then */
    const char *option; /* NULL: none */
} moment;

static const moment moments[] = {
    {"pairs.collected", "pairs", false, NULL},   {"training.begin", "training", false, NULL},
    {"training.step:3", "training", true, NULL}, {"gate.begin", "evaluating", true, NULL},
    {"embed.encoded", "embedding", true, NULL},  {"embed.batch_done", "embedding", true, NULL},
    {"catch_up.begin", "embedding", true, NULL}, {"catch_up.done", "catching_up", true, NULL},
    {"mining.begin", "mining", false, MINES},    {"mining.done", "mining", false, MINES},
};
enum { MOMENTS = sizeof moments / sizeof *moments };

static char go_on[FILES_PATH_MAX];

/* The daemon, which was asked to end, has ended in order. */
static void wait_ended(void)
{
    int status;
    box_disconnect(&b);
    ck_assert_int_eq(waitpid(b.daemon.pid, &status, 0), b.daemon.pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "ended with %d; see %s", status, b.log);
}

/* Starts a job that waits at the moment, with the daemon's answers as clients get them. */
static void wait_at(const moment *m)
{
    sem_error error;
    char label[64];
    snprintf(label, sizeof label, "%.*s", (int)strcspn(m->label, ":"), m->label);
    ck_ok(files_join(go_on, &error, "%s/go-on", testing_folder()));
    unlink(go_on);
    setenv("SEMD_PAUSE_AT", label, 1);
    setenv("SEMD_PAUSE_UNTIL", go_on, 1);
    job_box_option(&b, m->option);
    box_start(&b);
    unsetenv("SEMD_PAUSE_AT");
    box_call(&b, "finetune", "{}");
    const msgpack_object *job;
    do {
        usleep(5000);
        job = box_call(&b, "job", "{}");
        ck_assert(!object_is(object_get(job, "state"), "done"));
    } while (!object_is(object_get(job, "phase"), m->phase) || (m->loss && !is_number(object_get(job, "loss"))));
    ck_assert(object_is(object_get(job, "state"), "running"));
    ck_assert_ptr_nonnull(object_get(job, "step"));
    ck_assert_ptr_nonnull(object_get(job, "steps"));
    ck_assert_ptr_nonnull(object_get(job, "eta_s"));
    ck_assert(object_get(job, "resume") == NULL);
}

static void let_go(void)
{
    FILE *f = fopen(go_on, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
}

START_TEST(a_job_is_cancelled_in_each_phase_and_stays_so)
{
    const moment *m = &moments[_i];
    if (!take_copy("cancelled"))
        return;
    wait_at(m);
    box_call(&b, "job", "{'cancel': true}");
    let_go();
    box_wait_for_job(&b, "cancelled");
    const unsigned number = number_of_job();
    ck_assert_uint_eq(job_box_check_search(&b), 2);
    job_box_check_files(&b);
    box_kill(&b);
    box_start(&b);
    ck_assert_uint_eq(number_of_job(), number);
    ck_assert(object_is(object_get(box_call(&b, "job", "{}"), "state"), "cancelled"));
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_job_goes_on_after_an_end_in_order_in_each_phase)
{
    const moment *m = &moments[_i];
    if (!take_copy("stopped"))
        return;
    wait_at(m);
    const unsigned number = number_of_job();
    kill(b.daemon.pid, SIGTERM);
    sem_error error;
    client_reply reply; /* its connection ends when the drain has begun: then the job is let go */
    ck_assert_int_ne(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error), SEM_OK);
    let_go();
    wait_ended();
    box_start(&b);
    ck_assert_uint_eq(number_of_job(), number);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(number_of_job(), number);
    ck_assert(object_is(object_get(box_call(&b, "job", "{}"), "decision"), "promoted"));
    ck_assert_uint_eq(job_box_check_search(&b), 3);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_cancel_that_was_answered_outlives_a_crash)
{
    if (!take_copy("answered"))
        return;
    wait_at(&moments[1]);
    box_call(&b, "job", "{'cancel': true}");
    box_kill(&b);
    box_start(&b);
    const msgpack_object *job = box_call(&b, "job", "{}");
    ck_assert(object_is(object_get(job, "state"), "cancelled"));
    ck_assert(object_get(job, "resume") == NULL);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

/* --- results */

/* How many lines of the daemon's log hold a text. */
static unsigned lines_with(const char *text)
{
    char *log = NULL;
    size_t size = 0;
    sem_error error;
    ck_ok(files_read(b.log, 64 << 20, &log, &size, &error));
    unsigned count = 0;
    for (char *line = strtok(log, "\n"); line != NULL; line = strtok(NULL, "\n"))
        count += strstr(line, text) != NULL;
    free(log);
    return count;
}

static void keep_weights(const char *name)
{
    job_box_shell("cp '%s'/models/tiny-bert-job-2/model.safetensors '%s/%s'", job_box_data(&b), testing_folder(), name);
}

START_TEST(a_training_that_was_killed_ends_with_the_same_weights)
{
    if (!take_copy("whole"))
        return;
    box_start(&b);
    box_call(&b, "finetune", "{'wait': true}");
    keep_weights("whole.weights");
    box_stop(&b);
    ck_assert(take_copy("killed"));
    job_box_crash(&b, "training.step:17", "finetune", "{}");
    ck_assert_uint_eq(job_box_entries(&b, "finetune/job-2", "tiny-bert-job-2.checkpoint"), 1);
    box_start(&b);
    /* What is clicked or written meanwhile is for the next job. */
    lesson_upsert(&b, JOB_BOX_DOCUMENTS);
    box_call(&b, "feedback", "{'pairs': [{'query': 'snow and king', 'id': 5, 'label': 1}]}");
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(lines_with("resumed_at=15"), 1);
    keep_weights("killed.weights");
    job_box_shell("cmp '%s/whole.weights' '%s/killed.weights'", testing_folder(), testing_folder());
    box_stop(&b);
}
END_TEST

START_TEST(a_job_goes_on_with_the_settings_that_it_was_begun_with)
{
    if (!take_copy("settings"))
        return;
    job_box_crash(&b, "training.step:17", "finetune", "{}");
    job_box_option(&b, "finetune.max_p=0.000001"); /* with which nothing would be promoted */
    job_box_option(&b, "train.epochs=1");
    box_start(&b);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(lines_with("resumed_at=15"), 1);
    ck_assert_uint_eq(job_box_check_search(&b), 3);
    box_stop(&b);
}
END_TEST

START_TEST(a_checkpoint_that_does_not_fit_is_left_aside)
{
    if (!take_copy("other"))
        return;
    job_box_crash(&b, "training.step:17", "finetune", "{}");
    job_box_shell("truncate -s -8 '%s/finetune/job-2/tiny-bert-job-2.checkpoint'", job_box_data(&b));
    box_start(&b);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(lines_with("event=checkpoint_left"), 1);
    ck_assert_uint_eq(lines_with("resumed_at=0"), 1);
    ck_assert_uint_eq(job_box_check_search(&b), 3);
    box_stop(&b);
}
END_TEST

START_TEST(what_is_embedded_is_not_embedded_again)
{
    if (!take_copy("embedded"))
        return;
    job_box_crash(&b, "embed.first_pass", "finetune", "{}");
    setenv("SEMD_CRASH_AT", "embed.encoded", 1); /* nothing may come there */
    box_start(&b);
    unsetenv("SEMD_CRASH_AT");
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(job_box_check_search(&b), 3);
    job_box_check_files(&b);
    box_stop(&b);
}
END_TEST

/* --- the guard */

START_TEST(a_job_that_ends_the_daemon_three_times_is_given_up)
{
    if (!take_copy("loop"))
        return;
    sem_error error;
    char *argv[2 * BOX_OPTIONS_MAX + 18];
    job_box_crash(&b, "training.begin", "finetune", "{}");
    for (int crashes = 2; crashes <= 3; crashes++) {
        setenv("SEMD_CRASH_AT", "training.begin", 1);
        box_argv(&b, argv);
        if (process_start(&b.daemon, argv, b.log, false, NULL, &error) == SEM_OK)
            job_box_wait_killed(&b, "training.begin");
    }
    box_start(&b); /* would crash again */
    unsetenv("SEMD_CRASH_AT");
    const msgpack_object *job = box_call(&b, "job", "{}"), *reason = object_get(job, "reason");
    ck_assert_uint_eq(object_uint(object_get(job, "job"), 0), 2);
    ck_assert(object_is(object_get(job, "state"), "failed"));
    ck_assert_ptr_nonnull(memmem(reason->via.str.ptr, reason->via.str.size, "3 times", 7));
    ck_assert_ptr_nonnull(memmem(reason->via.str.ptr, reason->via.str.size, "training", 8));
    ck_assert_uint_eq(job_box_check_search(&b), 2);
    job_box_check_files(&b);
    job_box_verify(&b);
    box_start(&b); /* and the next one works */
    job = box_call(&b, "finetune", "{'wait': true}");
    ck_assert(object_is(object_get(job, "decision"), "promoted"));
    job_box_verify(&b);
}
END_TEST

START_TEST(ends_in_order_are_no_crashes)
{
    if (!take_copy("orderly"))
        return;
    job_box_crash(&b, "training.begin", "finetune", "{}");
    sem_error error;
    for (int i = 0; i < 4; i++) {
        setenv("SEMD_PAUSE_AT", "training.begin", 1);
        ck_ok(files_join(go_on, &error, "%s/go-on", testing_folder()));
        unlink(go_on);
        setenv("SEMD_PAUSE_UNTIL", go_on, 1);
        box_start(&b);
        unsetenv("SEMD_PAUSE_AT");
        kill(b.daemon.pid, SIGTERM);
        client_reply reply;
        ck_assert_int_ne(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error), SEM_OK);
        let_go();
        wait_ended();
    }
    box_start(&b);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(job_box_check_search(&b), 3);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("jobs across restarts");
    TCase *t = tcase_create("jobs across restarts");
    tcase_set_timeout(t, 180);
    tcase_add_unchecked_fixture(t, prepare, NULL);
    tcase_add_loop_test(t, a_job_is_cancelled_in_each_phase_and_stays_so, 0, MOMENTS);
    tcase_add_loop_test(t, a_job_goes_on_after_an_end_in_order_in_each_phase, 0, MOMENTS);
    tcase_add_test(t, a_cancel_that_was_answered_outlives_a_crash);
    tcase_add_test(t, a_training_that_was_killed_ends_with_the_same_weights);
    tcase_add_test(t, a_job_goes_on_with_the_settings_that_it_was_begun_with);
    tcase_add_test(t, a_checkpoint_that_does_not_fit_is_left_aside);
    tcase_add_test(t, what_is_embedded_is_not_embedded_again);
    tcase_add_test(t, a_job_that_ends_the_daemon_three_times_is_given_up);
    tcase_add_test(t, ends_in_order_are_no_crashes);
    suite_add_tcase(s, t);
    return testing_run(s);
}
