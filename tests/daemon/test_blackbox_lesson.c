/* What a job trains on, as its log tells. */
#include "tests/daemon/lessons.h"

#include "base/files.h"

enum {
    DOCUMENTS = 120,
    LATER = 40,
    NEWEST = DOCUMENTS / 10 /* that the job before only measured with, at most */
};

static box b;

/* Documents of two sentences, so that their own text makes pairs; with another option, NULL: none. */
static bool start(const char *option)
{
    char text[LESSON_TEXT_MAX];
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    size_t n = lesson_options(&b, true);
    b.options[n++] = "finetune.mined_negatives=2";
    b.options[n++] = "finetune.own_pairs=60";
    b.options[n++] = "finetune.skipped_ratio=1"; /* to the tiny model all documents are much alike */
    b.options[n++] = option;
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        lesson_document(i, text);
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': '%s. It is of %s and so on.'}]}", i, text,
                 text + strlen("my "));
    }
    lesson_feedback(&b, DOCUMENTS);
    return true;
}

/* Owned by the caller. */
static char *read_log(void)
{
    char *log = NULL;
    size_t size;
    sem_error error;
    ck_ok(files_read(b.log, (size_t)64 << 20, &log, &size, &error));
    return log;
}

/* The value of a field in the last line of the log of that event. */
static long last_value(const char *event, const char *field)
{
    char *log = read_log(), wanted[64];
    const char *line = NULL;
    snprintf(wanted, sizeof wanted, "event=%s ", event);
    for (const char *at = log; (at = strstr(at, wanted)) != NULL; at++)
        line = at;
    ck_assert_msg(line != NULL, "no line %s in the log", event);
    snprintf(wanted, sizeof wanted, " %s=", field);
    const char *value = strstr(line, wanted), *end = strchr(line, '\n');
    ck_assert_msg(value != NULL && (end == NULL || value < end), "no field %s in the last line %s", field, event);
    const long found = strtol(value + strlen(wanted), NULL, 10);
    free(log);
    return found;
}

START_TEST(a_job_mixes_new_pairs_old_ones_and_own_text_and_mines_negatives)
{
    if (!start(NULL))
        return;
    (void)lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    const long first = last_value("trained", "new"), mined = last_value("mined", "drawn");
    ck_assert_msg(first > DOCUMENTS / 2, "%ld new", first);
    ck_assert_int_eq(last_value("trained", "replayed"), 0);
    ck_assert_msg(last_value("trained", "own") > 10, "%ld of own text", last_value("trained", "own"));
    ck_assert_int_eq(last_value("mined", "pairs"), first); /* feedback passes nothing by */
    ck_assert_int_eq(last_value("mined", "unsearched"), 0);
    ck_assert_int_eq(last_value("mined", "without_words"), 0);
    ck_assert_msg(mined > first, "%ld mined for %ld pairs", mined, first);

    for (unsigned i = 0; i < LATER; i++)
        box_call(&b, "feedback", "{'pairs': [{'query': 'now the %u sun or snow', 'id': %u, 'label': 1}]}", i, i);
    const bool promoted = object_is(object_get(box_call(&b, "finetune", "{'wait': true}"), "decision"), "promoted");
    const long later = last_value("trained", "new"), replayed = last_value("trained", "replayed");
    ck_assert_msg(later > LATER / 2 && later <= LATER + NEWEST, "%ld new", later);
    ck_assert_msg(replayed > later / 2 && replayed < first, "%ld replayed of %ld", replayed, first);

    /* The model of the first job again, in another process: it is as new to that one as it was. */
    if (promoted)
        box_call(&b, "rollback", "{}");
    box_stop(&b);
    box_start(&b);
    box_call(&b, "finetune", "{'wait': true}");
    ck_assert_int_eq(last_value("trained", "new"), later);
    char *log = read_log();
    ck_assert_ptr_null(strstr(log, "event=documents ")); /* they move freely */
    free(log);
    box_stop(&b);
}
END_TEST

START_TEST(a_job_in_fixed_shapes_tells_of_its_plans)
{
    if (!start("train.shape=buckets"))
        return;
    box_call(&b, "finetune", "{'wait': true}");
    const long steps = last_value("trained", "steps");
    ck_assert_int_gt(steps, 1);
    ck_assert_int_eq(last_value("trained_in_shapes", "plans_built"), 1);
    ck_assert_int_eq(last_value("trained_in_shapes", "plans_reused"), steps - 1);
    ck_assert_int_eq(last_value("trained_in_shapes", "steps64"), steps); /* all texts are short */
    ck_assert_int_eq(last_value("trained_in_shapes", "steps256"), 0);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_lesson");
    TCase *tests = tcase_create("lesson");
    tcase_set_timeout(tests, 300);
    tcase_add_test(tests, a_job_mixes_new_pairs_old_ones_and_own_text_and_mines_negatives);
    tcase_add_test(tests, a_job_in_fixed_shapes_tells_of_its_plans);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
