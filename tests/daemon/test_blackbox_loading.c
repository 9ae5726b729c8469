/* model.load before anything is embedded: the model is copied, opened and measured, which takes minutes where it is large.
 * The job says so, and can be ended meanwhile. */
#include "tests/daemon/job_box.h"

static box b;

/* A daemon whose job waits at a point of its code until go_on(); false without the model. */
static bool begin(const char *label, const char *precision)
{
    if (!job_box_at(&b, testing_folder()))
        return false;
    job_box_option(&b, precision);
    setenv("SEMD_PAUSE_AT", label, 1);
    setenv("SEMD_PAUSE_UNTIL", testing_path("go_on"), 1);
    box_start(&b);
    unsetenv("SEMD_PAUSE_AT");
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'a card'}]}");
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", b.model + strlen("model.path="));
    return true;
}

static void go_on(void)
{
    sem_error error;
    ck_ok(files_write(testing_path("go_on"), "", 0, &error));
}

static void wait_for_loading(void)
{
    const msgpack_object *job = box_call(&b, "job", "{}");
    for (int waited = 0; !object_is(object_get(job, "phase"), "loading"); waited += 5) {
        ck_assert_msg(waited < JOB_BOX_PATIENCE_MS, "it never begins to load; see %s", b.log);
        usleep(5000);
        job = box_call(&b, "job", "{}");
    }
    ck_assert(object_is(object_get(job, "state"), "running"));
}

/* What can be cancelled on the way to the point is not to be cancelled there. */
static void wait_for_pause(void)
{
    for (int waited = 0; access(testing_path("go_on.waits"), F_OK) != 0; waited += 5) {
        ck_assert_msg(waited < JOB_BOX_PATIENCE_MS, "the job never comes to the point; see %s", b.log);
        usleep(5000);
    }
}

static bool is_logged(const char *text)
{
    sem_error error;
    char *log;
    size_t size;
    ck_ok(files_read(b.log, 16 << 20, &log, &size, &error));
    const bool found = strstr(log, text) != NULL;
    free(log);
    return found;
}

static unsigned generation(void)
{
    return (unsigned)object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0);
}

START_TEST(a_model_that_is_loading_says_so)
{
    if (!begin("load.copying", "model.precision=int8"))
        return;
    wait_for_loading();
    go_on();
    box_wait_for_job(&b, "done");
    ck_assert(object_double(object_get(object_get(box_call(&b, "job", "{}"), "seconds"), "loading"), 0) > 0);
    ck_assert(is_logged("event=precision_measuring model=\"tiny-bert-job-1\""));
    ck_assert_uint_eq(generation(), 2);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_load_is_cancelled_while_its_model_is_measured)
{
    if (!begin("load.copied", "model.precision=int8"))
        return;
    wait_for_loading();
    wait_for_pause();
    box_call(&b, "job", "{'cancel': true}");
    go_on();
    box_wait_for_job(&b, "cancelled");
    ck_assert(object_is(object_get(box_call(&b, "job", "{}"), "phase"), "loading"));
    ck_assert(is_logged("event=precision_measuring model=\"tiny-bert-job-1\""));
    ck_assert(!is_logged("event=precision model=\"tiny-bert-job-1\""));
    ck_assert_uint_eq(generation(), 1);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(the_end_of_the_daemon_does_not_wait_for_a_measuring)
{
    int status;
    if (!begin("load.copied", "model.precision=int8"))
        return;
    wait_for_loading();
    box_disconnect(&b);
    kill(b.daemon.pid, SIGTERM);
    for (int waited = 0; !is_logged("event=draining"); waited += 5) {
        ck_assert_int_lt(waited, JOB_BOX_PATIENCE_MS);
        usleep(5000);
    }
    go_on();
    ck_assert_int_eq(waitpid(b.daemon.pid, &status, 0), b.daemon.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert(is_logged("event=job_suspended job=1"));
    ck_assert(!is_logged("event=precision model=\"tiny-bert-job-1\""));
    box_start(&b);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(generation(), 2);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("loading");
    TCase *t = tcase_create("loading");
    tcase_set_timeout(t, 180);
    tcase_add_test(t, a_model_that_is_loading_says_so);
    tcase_add_test(t, a_load_is_cancelled_while_its_model_is_measured);
    tcase_add_test(t, the_end_of_the_daemon_does_not_wait_for_a_measuring);
    suite_add_tcase(s, t);
    return testing_run(s);
}
