/* A daemon whose job is in its trial (finetune.rollout = interleave): what people see of it, and what they click. */
#ifndef SEM_TESTS_DAEMON_TRIAL_BOX_H
#define SEM_TESTS_DAEMON_TRIAL_BOX_H

#include "tests/daemon/job_box.h"

enum { TRIAL_CLICKS = 24, TRIAL_K = 10 };

/* Adds the options of a trial of TRIAL_CLICKS clicks. */
static inline void trial_options(box *b)
{
    job_box_option(b, "finetune.rollout=interleave");
    job_box_option(b, "finetune.rollout_clicks=24");
    job_box_option(b, "finetune.rollout_time=0");
}

/* Makes a store that job_box_copy() copies, with a model that learns by jobs of modes full and query; its folder
 * goes to prepared, "" without the model. */
static inline void trial_prepare(char prepared[FILES_PATH_MAX])
{
    static const job_box_trial trials[] = {{"full", "full", NULL}, {"query", "query", NULL}, {NULL, NULL, NULL}};
    sem_error error;
    ck_ok(files_join(prepared, &error, "%s/prepared", testing_folder()));
    if (!job_box_prepare(prepared, trials))
        prepared[0] = '\0';
}

/* Starts a daemon on a copy of the store in `prepared`, which trial_prepare() made, with a job of this mode
 * whose candidate goes on trial. */
static inline void trial_begin(box *b, const char *prepared, const char *name, const char *mode)
{
    static char option[64];
    char folder[FILES_PATH_MAX];
    sem_error error;
    ck_ok(files_join(folder, &error, "%s/%s", testing_folder(), name));
    job_box_copy(prepared, folder);
    ck_assert(job_box_at(b, folder));
    snprintf(option, sizeof option, "finetune.mode=%s", mode);
    job_box_option(b, option);
    trial_options(b);
    box_start(b);
    box_call(b, "finetune", "{}");
}

/* Waits until the job is in its trial, with so many clicks. */
static inline void trial_wait(box *b, uint64_t clicks)
{
    for (int waited = 0; waited < JOB_BOX_PATIENCE_MS; waited += 10) {
        const msgpack_object *job = box_call(b, "job", "{}");
        ck_assert_msg(!object_is(object_get(job, "state"), "done"), "see %s", b->log);
        if (object_is(object_get(job, "phase"), "trial") && object_uint(object_get(job, "step"), 0) >= clicks) {
            ck_assert_uint_eq(object_uint(object_get(job, "steps"), 0), TRIAL_CLICKS);
            return;
        }
        usleep(10000);
    }
    ck_abort_msg("the job is in no trial; see %s", b->log);
}

/* --- lists */

typedef struct trial_list {
    unsigned ids[TRIAL_K], generations[TRIAL_K]; /* generation 0: the hits have none */
    size_t count;
    unsigned generation;
    char query_id[65]; /* "": it is not logged */
} trial_list;

static inline void trial_take_list(trial_list *out, const msgpack_object *answer)
{
    const msgpack_object *hits = object_get(answer, "hits"), *id = object_get(answer, "query_id");
    *out = (trial_list){.count = box_count(hits),
                        .generation = (unsigned)object_uint(object_get(answer, "generation"), 0)};
    ck_assert_uint_le(out->count, TRIAL_K);
    for (size_t i = 0; i < out->count; i++) {
        out->ids[i] = (unsigned)object_uint(object_get(box_at(hits, i), "id"), UINT32_MAX);
        out->generations[i] = (unsigned)object_uint(object_get(box_at(hits, i), "generation"), 0);
    }
    if (id->type == MSGPACK_OBJECT_STR)
        snprintf(out->query_id, sizeof out->query_id, "%.*s", (int)id->via.str.size, id->via.str.ptr);
}

/* rest: more parameters, as JSON. */
static inline void trial_search(box *b, trial_list *out, const char *query, const char *rest)
{
    trial_take_list(out, box_call(b, "search", "{'query': '%s', 'k': %d, %s}", query, TRIAL_K, rest));
}

/* The query of a lesson by a user of its own. */
static inline void trial_search_lesson(box *b, trial_list *out, unsigned query, bool log)
{
    char text[LESSON_TEXT_MAX], rest[128];
    lesson_query(query, text);
    snprintf(rest, sizeof rest, "'exact': true, 'log': %s, 'user': 'user %u'", log ? "true" : "false", query);
    trial_search(b, out, text, rest);
    ck_assert_uint_eq(out->count, TRIAL_K);
}

static inline bool trial_has(const unsigned *ids, size_t count, unsigned id)
{
    for (size_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Two captains' picks: in turns, each document once. */
static inline void trial_check_draft(const trial_list *l, unsigned current, unsigned candidate)
{
    int ahead = 0;
    ck_assert_uint_eq(l->generation, current);
    for (size_t i = 0; i < l->count; i++) {
        ck_assert(l->generations[i] == current || l->generations[i] == candidate);
        ck_assert(!trial_has(l->ids, i, l->ids[i]));
        ahead += l->generations[i] == candidate ? 1 : -1;
        ck_assert_int_le(abs(ahead), 1);
        ck_assert(i % 2 == 0 || ahead == 0);
    }
}

/* Clicks on the best pick of a generation; returns its id. */
static inline unsigned trial_click(box *b, const trial_list *l, unsigned generation)
{
    size_t at = 0;
    while (l->generations[at] != generation)
        ck_assert_uint_lt(++at, l->count);
    box_call(b, "click", "{'query_id': '%s', 'id': %u}", l->query_id, l->ids[at]);
    return l->ids[at];
}

/* Searches for lessons and clicks on the best pick of one generation each. lists: NULL or one for each lesson. */
static inline void trial_click_lessons(box *b, unsigned current, unsigned candidate, unsigned generation, unsigned from,
                                       unsigned count, trial_list *lists)
{
    for (unsigned i = from; i < from + count; i++) {
        trial_list l;
        trial_search_lesson(b, &l, i, true);
        trial_check_draft(&l, current, candidate);
        trial_click(b, &l, generation);
        if (lists != NULL)
            lists[i] = l;
    }
}

/* What a job says it came to; 0: the latest. */
static inline void trial_check_decision(box *b, unsigned number, const char *decision, const char *reason)
{
    char asked[64] = "{}", text[1024];
    if (number != 0)
        snprintf(asked, sizeof asked, "{'job': %u}", number);
    const msgpack_object *job = box_call(b, "job", "%s", asked), *why = object_get(job, "reason");
    ck_assert(why != NULL && why->type == MSGPACK_OBJECT_STR);
    snprintf(text, sizeof text, "%.*s", (int)why->via.str.size, why->via.str.ptr);
    ck_assert_msg(object_is(object_get(job, "state"), "done"), "%s", text);
    ck_assert_msg(object_is(object_get(job, "decision"), decision), "%s", text);
    ck_assert_msg(strstr(text, reason) == text, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "; the gate: "));
}

#endif
