/* Jobs that nobody asks for: they begin when enough was learnt, once, and wait without noise when
 * there is too little. */
#include "tests/daemon/lessons.h"

#include <unistd.h>

enum { DOCUMENTS = 64 };

static box b;

static bool start(const char *trigger, const char *min_pairs)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    size_t n = lesson_options(&b, false);
    b.options[n++] = "finetune.interval=0";
    b.options[n++] = "train.epochs=1";
    b.options[n++] = trigger;
    b.options[n++] = min_pairs;
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        lesson_upsert(&b, i);
    return true;
}

static void feed(unsigned from, unsigned count)
{
    char query[LESSON_TEXT_MAX];
    for (unsigned i = from; i < from + count; i++) {
        lesson_query(i, query);
        box_call(&b, "feedback", "{'pairs': [{'query': '%s', 'id': %u, 'label': 1}]}", query, i);
    }
}

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

static void wait_for_line(const char *text)
{
    while (lines_with(text) == 0)
        usleep(20000);
}

/* The job with this number is over. */
static void wait_for_job_number(unsigned number)
{
    const msgpack_object *job;
    do {
        usleep(20000);
        box_forget_reply(&b);
        buffer params = {0};
        box_pack_json(&params, json_object());
        job = box_send_on(&b, b.client, "job", &params);
    } while (b.reply.is_error || object_uint(object_get(job, "job"), 0) < number ||
             !object_is(object_get(job, "state"), "done"));
    ck_assert_uint_eq(object_uint(object_get(job, "job"), 0), number);
}

START_TEST(enough_new_judgements_start_one_job_across_a_restart)
{
    if (!start("finetune.new_pairs=32", "finetune.min_pairs=20"))
        return;
    feed(0, 31);
    box_fails(&b, "NOT_FOUND", "job", "{}");
    feed(31, 1);
    wait_for_job_number(1);
    wait_for_line("trigger=finetune.new_pairs");
    feed(32, 20);
    box_kill(&b);
    box_start(&b);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "job", "{}"), "job"), 0), 1);
    feed(52, 12);
    wait_for_job_number(2);
    ck_assert_uint_eq(lines_with("trigger=finetune.new_pairs"), 1);
    ck_assert_uint_eq(lines_with("event=trigger_refused"), 0);
    box_stop(&b);
}
END_TEST

/* By the first line the trigger has found too few; what comes then does not have it try again. */
START_TEST(a_trigger_that_finds_too_few_pairs_says_so_once)
{
    if (!start("finetune.new_pairs=1", "finetune.min_pairs=500"))
        return;
    feed(0, 3);
    wait_for_line("event=trigger_refused");
    for (unsigned i = 3; i < DOCUMENTS; i++) { /* the ticker looks meanwhile */
        feed(i, 1);
        usleep(50000);
    }
    ck_assert_uint_eq(lines_with("event=trigger_refused"), 1);
    box_fails(&b, "NOT_FOUND", "job", "{}");
    box_stop(&b);
}
END_TEST

START_TEST(the_timers_command_tells_not_yet_and_under_way_from_failures)
{
    if (!start("finetune.enabled=false", "finetune.min_pairs=20"))
        return;
    ck_assert_int_eq(box_semctl("-s %s finetune", b.daemon.address), 3);
    feed(0, DOCUMENTS);
    char go_on[FILES_PATH_MAX];
    snprintf(go_on, sizeof go_on, "%s/go-on", testing_folder());
    box_stop(&b);
    setenv("SEMD_PAUSE_AT", "training.begin", 1);
    setenv("SEMD_PAUSE_UNTIL", go_on, 1);
    box_start(&b);
    unsetenv("SEMD_PAUSE_AT");
    ck_assert_int_eq(box_semctl("-s %s finetune", b.daemon.address), 0);
    ck_assert_int_eq(box_semctl("-s %s finetune", b.daemon.address), 4);
    FILE *f = fopen(go_on, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
    wait_for_job_number(1);
    ck_assert_int_eq(box_semctl("-s %s finetune --mode sideways", b.daemon.address), 1);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("triggers");
    TCase *t = tcase_create("triggers");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, enough_new_judgements_start_one_job_across_a_restart);
    tcase_add_test(t, a_trigger_that_finds_too_few_pairs_says_so_once);
    tcase_add_test(t, the_timers_command_tells_not_yet_and_under_way_from_failures);
    suite_add_tcase(s, t);
    return testing_run(s);
}
