/* After a flip people click less: the daemon notices, says so, and where it may it returns to the
 * generation before. */
#include "tests/daemon/box_metrics.h"

#include <unistd.h>

enum { DOCUMENTS = 30, SEARCHES = 80, PATIENCE_S = 60 };

static box b;

static bool start(const char *rollback)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    const char *const options[] = {"server.http=127.0.0.1:0",     "finetune.enabled=false",
                                   "finetune.watchdog_settle=1s", "finetune.watchdog_searches=60",
                                   "finetune.harvest=false",      rollback};
    memcpy(b.options, options, sizeof options);
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'document number %u of the bank'}]}", i, i);
    return true;
}

static unsigned generation(void)
{
    return (unsigned)object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0);
}

/* Of everybody one search; of every `every` people one clicks the first hit. every 0: nobody. */
static void search_and_click(unsigned every)
{
    char query_id[80];
    for (unsigned i = 0; i < SEARCHES; i++) {
        const msgpack_object *answer =
            box_call(&b, "search", "{'query': 'which document %u', 'k': 5, 'user': 'u%u'}", i, i);
        const msgpack_object *id = object_get(answer, "query_id");
        const unsigned first = (unsigned)object_uint(object_get(box_at(object_get(answer, "hits"), 0), "id"), 0);
        snprintf(query_id, sizeof query_id, "%.*s", (int)id->via.str.size, id->via.str.ptr);
        if (every > 0 && i % every == 0)
            box_call(&b, "click", "{'query_id': '%s', 'id': %u}", query_id, first);
    }
}

/* The same model again, without a gate that could say no. */
static void flip(void)
{
    char path[FILES_PATH_MAX];
    ck_assert_ptr_nonnull(realpath(b.model + strlen("model.path="), path));
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path);
    box_wait_for_job(&b, "done");
    ck_assert_uint_eq(generation(), 2);
}

static double metric_of(const char *name)
{
    static char text[1 << 16];
    char line[128];
    snprintf(line, sizeof line, "\n%s ", name);
    box_metrics(&b, text, sizeof text);
    const char *at = strstr(text, line);
    ck_assert_msg(at != NULL, "no metric %s", name);
    return strtod(at + strlen(line), NULL);
}

static void wait_for_metric(const char *name, double value)
{
    for (int i = 0; i < PATIENCE_S * 20; i++, usleep(50000))
        if (metric_of(name) == value)
            return;
    ck_abort_msg("%s is %g, not %g; see %s", name, metric_of(name), value, b.log);
}

/* Whether a line of the log has all of these. */
static bool logged(const char *event, const char *state, const char *level)
{
    sem_error error;
    char *text;
    size_t size;
    bool found = false;
    ck_ok(files_read(b.log, 1 << 20, &text, &size, &error));
    for (char *line = text, *end; line != NULL && !found; line = end) {
        end = strchr(line, '\n');
        if (end != NULL)
            *end++ = '\0';
        found = strstr(line, event) != NULL && strstr(line, state) != NULL && strstr(line, level) != NULL;
    }
    free(text);
    return found;
}

START_TEST(a_fall_raises_an_alarm_that_a_restart_finds_again)
{
    if (!start("finetune.watchdog_rollback=false"))
        return;
    search_and_click(1);
    flip();
    wait_for_metric("semd_watchdog_searches{generation=\"before\"}", SEARCHES);
    ck_assert_double_eq(metric_of("semd_watchdog_alarm"), 0);
    search_and_click(0);
    wait_for_metric("semd_watchdog_alarm", 1);
    ck_assert_double_eq(metric_of("semd_watchdog_alarms_total"), 1);
    ck_assert_double_eq_tol(metric_of("semd_watchdog_clickthrough{generation=\"before\"}"), 1, 1e-6);
    ck_assert_double_eq(metric_of("semd_watchdog_clickthrough{generation=\"current\"}"), 0);
    ck_assert(logged("event=watchdog", "state=alarm", "level=warning"));
    box_stop(&b);
    box_start(&b);
    wait_for_metric("semd_watchdog_alarm", 1);
    ck_assert_uint_eq(generation(), 2);
    box_stop(&b);
}
END_TEST

START_TEST(a_fall_rolls_back_where_that_is_configured)
{
    if (!start("finetune.watchdog_rollback=true"))
        return;
    search_and_click(1);
    flip();
    search_and_click(0);
    for (int i = 0; i < PATIENCE_S * 20 && generation() != 1; i++)
        usleep(50000);
    ck_assert_uint_eq(generation(), 1);
    box_wait_for_job(&b, "done");
    const msgpack_object *reason = object_get(box_call(&b, "job", "{}"), "reason");
    ck_assert_int_eq(reason->type, MSGPACK_OBJECT_STR);
    ck_assert_ptr_nonnull(memmem(reason->via.str.ptr, reason->via.str.size, "rolled back by the watchdog", 27));
    wait_for_metric("semd_watchdog_alarm", 0); /* of the generation that serves now */
    ck_assert_double_eq(metric_of("semd_watchdog_alarms_total"), 1);
    /* It stays: what was returned to is not compared with what was before it. */
    box_stop(&b);
    box_start(&b);
    search_and_click(0);
    wait_for_metric("semd_watchdog_watching", 0);
    ck_assert_uint_eq(generation(), 1);
    box_stop(&b);
}
END_TEST

START_TEST(as_many_clicks_as_before_raise_no_alarm)
{
    if (!start("finetune.watchdog_rollback=true"))
        return;
    search_and_click(2);
    flip();
    search_and_click(2);
    wait_for_metric("semd_watchdog_searches{generation=\"current\"}", SEARCHES);
    ck_assert_double_eq_tol(metric_of("semd_watchdog_clickthrough{generation=\"current\"}"), 0.5, 0.1);
    ck_assert(logged("event=watchdog", "state=looked", "level=info"));
    ck_assert_double_eq(metric_of("semd_watchdog_alarm"), 0);
    ck_assert_double_eq(metric_of("semd_watchdog_watching"), 1);
    ck_assert_uint_eq(generation(), 2);
    box_stop(&b);
}
END_TEST

START_TEST(a_watchdog_that_is_switched_off_watches_nothing)
{
    if (!start("finetune.watchdog=false"))
        return;
    search_and_click(1);
    flip();
    search_and_click(0);
    usleep(2500000); /* in which the others have looked */
    ck_assert_double_eq(metric_of("semd_watchdog_watching"), 0);
    ck_assert_double_eq(metric_of("semd_watchdog_searches{generation=\"current\"}"), 0);
    ck_assert(!logged("event=watchdog", "state=", "level="));
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_watchdog");
    TCase *tests = tcase_create("blackbox_watchdog");
    tcase_set_timeout(tests, 150);
    tcase_add_test(tests, a_fall_raises_an_alarm_that_a_restart_finds_again);
    tcase_add_test(tests, a_fall_rolls_back_where_that_is_configured);
    tcase_add_test(tests, as_many_clicks_as_before_raise_no_alarm);
    tcase_add_test(tests, a_watchdog_that_is_switched_off_watches_nothing);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
