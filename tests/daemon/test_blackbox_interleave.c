/* finetune.rollout = interleave: a candidate that the gate let pass serves in drafted lists before
 * its flip, and people's clicks decide. */
#include "tests/daemon/trial_box.h"

enum { CURRENT = 2, CANDIDATE = 3 };

static box b;
static char prepared[FILES_PATH_MAX];

static void prepare(void)
{
    trial_prepare(prepared);
}

/* A daemon whose job is in its trial; false without the model. */
static bool begin(const char *name, const char *mode)
{
    if (prepared[0] == '\0')
        return false;
    trial_begin(&b, prepared, name, mode);
    trial_wait(&b, 0);
    return true;
}

/* The generation's picks are the best of its own list that were not taken before. */
static void check_picks(const trial_list *drafted, unsigned generation, const trial_list *own)
{
    for (size_t i = 0; i < drafted->count; i++) {
        size_t best = 0;
        while (best < own->count && trial_has(drafted->ids, i, own->ids[best]))
            best++;
        if (drafted->generations[i] == generation)
            ck_assert_uint_eq(drafted->ids[i], own->ids[best]);
    }
    ck_assert(trial_has(drafted->ids, 2, own->ids[0])); /* both lists' best are among the first two */
}

static void click_for(unsigned generation, unsigned from, unsigned count, trial_list *drafted)
{
    trial_click_lessons(&b, CURRENT, CANDIDATE, generation, from, count, drafted);
}

static void check_decision(const char *decision, const char *reason)
{
    box_wait_for_job(&b, "done");
    trial_check_decision(&b, 0, decision, reason);
}

/* --- tests */

static const char *const modes[] = {"full", "query"};

START_TEST(a_candidate_that_wins_is_promoted)
{
    trial_list drafted[TRIAL_CLICKS], own[TRIAL_CLICKS];
    if (!begin("won", modes[_i]))
        return;
    for (unsigned i = 0; i < TRIAL_CLICKS; i++)
        trial_search_lesson(&b, &own[i], i, false); /* not logged: the current generation's alone */
    for (size_t i = 0; i < TRIAL_K; i++)
        ck_assert_uint_eq(own[0].generations[i], 0);
    click_for(CANDIDATE, 0, TRIAL_CLICKS, drafted);
    check_decision("promoted",
                   "promoted by 24 votes for it, 0 for the current generation and 0 for both, of 24 clicks");
    for (unsigned i = 0; i < TRIAL_CLICKS; i++) {
        trial_list after;
        trial_search_lesson(&b, &after, i, true);
        ck_assert_uint_eq(after.generation, CANDIDATE);
        ck_assert_uint_eq(after.generations[0], 0);
        check_picks(&drafted[i], CURRENT, &own[i]);
        check_picks(&drafted[i], CANDIDATE, &after);
    }
    job_box_verify(&b);
}
END_TEST

START_TEST(one_that_loses_is_discarded_and_leaves_nothing)
{
    trial_list drafted[TRIAL_CLICKS];
    if (!begin("lost", modes[_i]))
        return;
    click_for(CANDIDATE, 0, TRIAL_CLICKS / 2, drafted);
    click_for(CURRENT, TRIAL_CLICKS / 2, TRIAL_CLICKS / 2, drafted); /* a tie is a loss */
    check_decision("discarded",
                   "discarded by 12 votes for it, 12 for the current generation and 0 for both, of 24 clicks");
    ck_assert_uint_eq(job_box_check_search(&b), CURRENT);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_restart_in_the_middle_loses_no_click)
{
    trial_list drafted[TRIAL_CLICKS];
    if (!begin("restart", modes[_i]))
        return;
    click_for(CANDIDATE, 0, 10, drafted);
    trial_wait(&b, 10);
    box_kill(&b);
    box_start(&b);
    trial_wait(&b, 10);
    lesson_upsert(&b, JOB_BOX_DOCUMENTS); /* a write meanwhile is in the candidate's space too */
    click_for(CANDIDATE, 10, 8, drafted);
    box_stop(&b);
    box_start(&b);
    trial_wait(&b, 18);
    click_for(CURRENT, 18, 6, drafted);
    check_decision("promoted",
                   "promoted by 18 votes for it, 6 for the current generation and 0 for both, of 24 clicks");
    ck_assert_uint_eq(box_count(object_get(box_call(&b, "search", "{'query': 'a', 'k': 1000, 'exact': true}"), "hits")),
                      JOB_BOX_DOCUMENTS + 1);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_cancelled_trial_leaves_nothing)
{
    trial_list drafted[TRIAL_CLICKS];
    if (!begin("cancelled", modes[_i]))
        return;
    click_for(CANDIDATE, 0, 3, drafted);
    box_call(&b, "job", "{'cancel': true}");
    box_wait_for_job(&b, "cancelled");
    ck_assert_uint_eq(job_box_check_search(&b), CURRENT);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

/* Which searches are interleaved, and how they are logged. */
START_TEST(only_logged_dense_searches_by_text_are_interleaved)
{
    static const char *const others[] = {"'mode': 'lexical'", "'mode': 'hybrid'", "'log': false", "'with': ['vector']"};
    trial_list l;
    if (!begin("others", "full"))
        return;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const msgpack_object *r = box_call(&b, "search", "{'query': 'my card', 'k': 5, %s}", others[i]);
        ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), CURRENT);
        ck_assert_ptr_null(object_get(box_at(object_get(r, "hits"), 0), "generation"));
    }
    const msgpack_object *like = object_get(box_call(&b, "search", "{'like': 5, 'k': 5}"), "hits");
    ck_assert_ptr_null(object_get(box_at(like, 0), "generation"));
    trial_search_lesson(&b, &l, 1, true);
    box_call(&b, "click", "{'query_id': '%s', 'id': %u}", l.query_id,
             l.ids[3]); /* answered when all that was logged is there */
    const msgpack_object *events = object_get(box_call(&b, "events", "{'kinds': ['search']}"), "events");
    const size_t count = box_count(events);
    ck_assert_uint_ge(count, 2);
    const msgpack_object *hits = object_get(box_at(events, count - 1), "hits");
    ck_assert_uint_eq(box_count(hits), TRIAL_K);
    for (size_t i = 0; i < TRIAL_K; i++) {
        ck_assert_uint_eq(object_uint(object_get(box_at(hits, i), "id"), UINT32_MAX), l.ids[i]);
        ck_assert_uint_eq(object_uint(object_get(box_at(hits, i), "generation"), 0), l.generations[i]);
    }
    hits = object_get(box_at(events, count - 2), "hits");
    ck_assert_ptr_null(object_get(box_at(hits, 0), "generation"));
    box_call(&b, "job", "{'cancel': true}");
    box_wait_for_job(&b, "cancelled");
    job_box_verify(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rollout by interleaving");
    TCase *t = tcase_create("rollout by interleaving");
    tcase_set_timeout(t, 180);
    tcase_add_unchecked_fixture(t, prepare, NULL);
    tcase_add_loop_test(t, a_candidate_that_wins_is_promoted, 0, 2);
    tcase_add_loop_test(t, one_that_loses_is_discarded_and_leaves_nothing, 0, 2);
    tcase_add_loop_test(t, a_restart_in_the_middle_loses_no_click, 0, 2);
    tcase_add_loop_test(t, a_cancelled_trial_leaves_nothing, 0, 2);
    tcase_add_test(t, only_logged_dense_searches_by_text_are_interleaved);
    suite_add_tcase(s, t);
    return testing_run(s);
}
