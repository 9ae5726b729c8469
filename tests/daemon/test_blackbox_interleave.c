/* finetune.rollout = interleave: a candidate that the gate let pass serves in drafted lists before
 * its flip, and people's clicks decide. */
#include "tests/daemon/job_box.h"

enum { CLICKS = 24, K = 10, CURRENT = 2, CANDIDATE = 3 };

static box b;
static char prepared[FILES_PATH_MAX], model_option[64];

static void prepare(void)
{
    static const job_box_trial trials[] = {{"full", "full", NULL}, {"query", "query", NULL}, {NULL, NULL, NULL}};
    sem_error error;
    ck_ok(files_join(prepared, &error, "%s/prepared", testing_folder()));
    if (!job_box_prepare(prepared, trials))
        prepared[0] = '\0';
}

/* A daemon with a copy of the store, whose job is in its trial; false without the model. */
static bool begin(const char *name, const char *mode)
{
    sem_error error;
    char folder[FILES_PATH_MAX];
    ck_ok(files_join(folder, &error, "%s/%s", testing_folder(), name));
    if (prepared[0] == '\0')
        return false;
    job_box_copy(prepared, folder);
    ck_assert(job_box_at(&b, folder));
    snprintf(model_option, sizeof model_option, "finetune.mode=%s", mode);
    job_box_option(&b, model_option);
    job_box_option(&b, "finetune.rollout=interleave");
    job_box_option(&b, "finetune.rollout_clicks=24");
    job_box_option(&b, "finetune.rollout_time=0");
    box_start(&b);
    box_call(&b, "finetune", "{}");
    return true;
}

/* Waits until the job is in its trial, with so many clicks. */
static void wait_for_trial(uint64_t clicks)
{
    for (int waited = 0; waited < JOB_BOX_PATIENCE_MS; waited += 10) {
        const msgpack_object *job = box_call(&b, "job", "{}");
        ck_assert_msg(!object_is(object_get(job, "state"), "done"), "see %s", b.log);
        if (object_is(object_get(job, "phase"), "trial") && object_uint(object_get(job, "step"), 0) >= clicks) {
            ck_assert_uint_eq(object_uint(object_get(job, "steps"), 0), CLICKS);
            return;
        }
        usleep(10000);
    }
    ck_abort_msg("the job is in no trial; see %s", b.log);
}

/* --- lists */

typedef struct list {
    unsigned ids[K], generations[K]; /* generation 0: the hits have none */
    size_t count;
    unsigned generation;
    char query_id[65];
} list;

static void search(list *out, unsigned query, bool log)
{
    char text[LESSON_TEXT_MAX];
    lesson_query(query, text);
    const msgpack_object *r = box_call(&b, "search",
                                       "{'query': '%s', 'k': %d, 'exact': true, 'log': %s, 'user': 'user %u'}", text, K,
                                       log ? "true" : "false", query);
    const msgpack_object *hits = object_get(r, "hits"), *id = object_get(r, "query_id");
    *out = (list){.count = box_count(hits), .generation = (unsigned)object_uint(object_get(r, "generation"), 0)};
    ck_assert_uint_eq(out->count, K);
    for (size_t i = 0; i < K; i++) {
        out->ids[i] = (unsigned)object_uint(object_get(box_at(hits, i), "id"), UINT32_MAX);
        out->generations[i] = (unsigned)object_uint(object_get(box_at(hits, i), "generation"), 0);
    }
    if (log)
        snprintf(out->query_id, sizeof out->query_id, "%.*s", (int)id->via.str.size, id->via.str.ptr);
}

static bool has(const unsigned *ids, size_t count, unsigned id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* The generation's picks are the best of its own list that were not taken before. */
static void check_picks(const list *drafted, unsigned generation, const list *own)
{
    for (size_t i = 0; i < drafted->count; i++) {
        size_t best = 0;
        while (best < own->count && has(drafted->ids, i, own->ids[best]))
            best++;
        if (drafted->generations[i] == generation)
            ck_assert_uint_eq(drafted->ids[i], own->ids[best]);
    }
    ck_assert(has(drafted->ids, 2, own->ids[0])); /* both lists' best are among the first two */
}

static void check_draft(const list *l)
{
    int ahead = 0;
    ck_assert_uint_eq(l->generation, CURRENT);
    for (size_t i = 0; i < l->count; i++) {
        ck_assert(l->generations[i] == CURRENT || l->generations[i] == CANDIDATE);
        ck_assert(!has(l->ids, i, l->ids[i]));
        ahead += l->generations[i] == CANDIDATE ? 1 : -1;
        ck_assert_int_le(abs(ahead), 1);
        ck_assert(i % 2 == 0 || ahead == 0);
    }
}

/* Searches and clicks on the best pick of one generation. */
static void click_for(unsigned generation, unsigned from, unsigned count, list *drafted)
{
    for (unsigned i = from; i < from + count; i++) {
        list l;
        size_t at = 0;
        search(&l, i, true);
        check_draft(&l);
        while (l.generations[at] != generation)
            at++;
        box_call(&b, "click", "{'query_id': '%s', 'id': %u}", l.query_id, l.ids[at]);
        drafted[i] = l;
    }
}

static void check_decision(const char *decision, const char *reason)
{
    box_wait_for_job(&b, "done");
    const msgpack_object *job = box_call(&b, "job", "{}"), *why = object_get(job, "reason");
    char text[1024];
    ck_assert(why != NULL && why->type == MSGPACK_OBJECT_STR);
    snprintf(text, sizeof text, "%.*s", (int)why->via.str.size, why->via.str.ptr);
    ck_assert_msg(object_is(object_get(job, "decision"), decision), "%s", text);
    ck_assert_msg(strstr(text, reason) == text, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "; the gate: held-out clicks "));
}

/* --- tests */

static const char *const modes[] = {"full", "query"};

START_TEST(a_candidate_that_wins_is_promoted)
{
    list drafted[CLICKS], own[CLICKS];
    if (!begin("won", modes[_i]))
        return;
    wait_for_trial(0);
    for (unsigned i = 0; i < CLICKS; i++)
        search(&own[i], i, false); /* not logged: the current generation's alone */
    for (size_t i = 0; i < K; i++)
        ck_assert_uint_eq(own[0].generations[i], 0);
    click_for(CANDIDATE, 0, CLICKS, drafted);
    check_decision("promoted",
                   "promoted by 24 votes for it, 0 for the current generation and 0 for both, of 24 clicks");
    for (unsigned i = 0; i < CLICKS; i++) {
        list after;
        search(&after, i, true);
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
    list drafted[CLICKS];
    if (!begin("lost", modes[_i]))
        return;
    wait_for_trial(0);
    click_for(CANDIDATE, 0, CLICKS / 2, drafted);
    click_for(CURRENT, CLICKS / 2, CLICKS / 2, drafted); /* a tie is a loss */
    check_decision("discarded",
                   "discarded by 12 votes for it, 12 for the current generation and 0 for both, of 24 clicks");
    ck_assert_uint_eq(job_box_check_search(&b), CURRENT);
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

START_TEST(a_restart_in_the_middle_loses_no_click)
{
    list drafted[CLICKS];
    if (!begin("restart", modes[_i]))
        return;
    wait_for_trial(0);
    click_for(CANDIDATE, 0, 10, drafted);
    wait_for_trial(10);
    box_kill(&b);
    box_start(&b);
    wait_for_trial(10);
    lesson_upsert(&b, JOB_BOX_DOCUMENTS); /* a write meanwhile is in the candidate's space too */
    click_for(CANDIDATE, 10, 8, drafted);
    box_stop(&b);
    box_start(&b);
    wait_for_trial(18);
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
    list drafted[CLICKS];
    if (!begin("cancelled", modes[_i]))
        return;
    wait_for_trial(0);
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
    list l;
    if (!begin("others", "full"))
        return;
    wait_for_trial(0);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        const msgpack_object *r = box_call(&b, "search", "{'query': 'my card', 'k': 5, %s}", others[i]);
        ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), CURRENT);
        ck_assert_ptr_null(object_get(box_at(object_get(r, "hits"), 0), "generation"));
    }
    const msgpack_object *like = object_get(box_call(&b, "search", "{'like': 5, 'k': 5}"), "hits");
    ck_assert_ptr_null(object_get(box_at(like, 0), "generation"));
    search(&l, 1, true);
    box_call(&b, "click", "{'query_id': '%s', 'id': %u}", l.query_id,
             l.ids[3]); /* answered when all that was logged is there */
    const msgpack_object *events = object_get(box_call(&b, "events", "{'kinds': ['search']}"), "events");
    const size_t count = box_count(events);
    ck_assert_uint_ge(count, 2);
    const msgpack_object *hits = object_get(box_at(events, count - 1), "hits");
    ck_assert_uint_eq(box_count(hits), K);
    for (size_t i = 0; i < K; i++) {
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
