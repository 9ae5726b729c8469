/* Trials with each engine and with passages, while documents come and go and events are erased; and whose
 * clicks are votes. The candidate is a loaded model of another width, which few held-out queries let pass. */
#include "tests/daemon/passages_box.h"
#include "tests/daemon/trial_box.h"

enum { CURRENT = 1, CANDIDATE = 2, DOCUMENTS = 400, LATE = 500 /* a document that comes during the trial */ };

typedef struct kind {
    const char *name, *options; /* of the collection, as JSON; NULL: the default one */
    const char *engine;
    const char *lists;  /* of collection.list; NULL: none are waited for */
    const char *search; /* more parameters of a search */
} kind;

static const kind kinds[] = {
    {"default", NULL, "index.engine=semd", "ivf", "'recall': 0.95"},
    {"default", NULL, "index.engine=faiss", "faiss", "'nprobe': 2"},
    {"long", "{'passage_tokens': 24, 'passage_overlap': 8}", "index.engine=semd", "ivf", "'recall': 0.95"},
    {"long", "{'passage_tokens': 24, 'passage_overlap': 8}", "index.engine=faiss", "faiss", "'exact': true"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static box b;
static const kind *k;

static bool cuts(void)
{
    return k->options != NULL;
}

static void pack_document(packer *p, unsigned id)
{
    char lesson[LESSON_TEXT_MAX];
    buffer text = {0};
    if (cuts()) {
        passages_text(&text, id + 1, 1 + id % 12);
        box_pack_text(p, id, (const char *)text.data, text.size);
    } else {
        lesson_document(id % 512, lesson);
        box_pack_text(p, id, lesson, strlen(lesson));
    }
    buffer_free(&text);
}

static void put(unsigned from, unsigned count)
{
    buffer params = {0};
    packer p = box_begin_upsert(&params, k->name, count);
    for (unsigned id = from; id < from + count; id++)
        pack_document(&p, id);
    box_call_packed(&b, "upsert", &params);
}

static void wait_for_lists(void)
{
    for (int waited = 0; waited < JOB_BOX_PATIENCE_MS; waited += 20) {
        const msgpack_object *index = object_get(box_collection(&b, k->name), "index");
        if (object_is(object_get(index, "kind"), k->lists))
            return;
        usleep(20000);
    }
    ck_abort_msg("no lists; see %s", b.log);
}

/* A daemon with documents in a collection of this kind, whose job is in its trial. False without the models. */
static bool begin(const kind *of)
{
    char path[FILES_PATH_MAX];
    k = of;
    if (!job_box_at(&b, testing_folder()) || testing_shared("golden/family-bert-cased-sqrt-f16-prompts") == NULL)
        return false;
    trial_options(&b);
    job_box_option(&b, k->engine);
    job_box_option(&b, "index.exact_below=100");
    box_start(&b);
    if (cuts())
        box_call(&b, "collection.create", "{'name': '%s', 'options': %s}", k->name, k->options);
    put(0, DOCUMENTS);
    wait_for_lists();
    ck_assert_ptr_nonnull(realpath(testing_shared("golden/family-bert-cased-sqrt-f16-prompts"), path));
    box_call(&b, "model.load", "{'path': '%s'}", path);
    trial_wait(&b, 0);
    return true;
}

static const msgpack_object *search(unsigned query, const char *user, trial_list *out)
{
    static const char *const words[] = {"money and water", "a card for the king", "snow on a tree", "the bank"};
    const char *text = words[query % (sizeof words / sizeof *words)];
    const msgpack_object *r = box_call(&b, "search",
                                       "{'collection': '%s', 'query': '%s %u', 'k': %d, %s, 'user': '%s'}", k->name,
                                       text, query, TRIAL_K, k->search, user);
    trial_take_list(out, r);
    ck_assert_uint_eq(out->count, TRIAL_K);
    trial_check_draft(out, CURRENT, CANDIDATE);
    return r;
}

/* A user's click on the generation's best pick; returns its id. */
static unsigned click(unsigned query, const char *user, unsigned generation)
{
    trial_list l;
    search(query, user, &l);
    return trial_click(&b, &l, generation);
}

/* The same on the best pick that is another document. */
static unsigned click_other(unsigned query, const char *user, unsigned generation, unsigned other)
{
    trial_list l;
    size_t at = 0;
    search(query, user, &l);
    while (l.generations[at] != generation || l.ids[at] == other)
        ck_assert_uint_lt(++at, l.count);
    box_call(&b, "click", "{'query_id': '%s', 'id': %u}", l.query_id, l.ids[at]);
    return l.ids[at];
}

/* --- passages */

typedef struct shown_passage {
    unsigned id;
    size_t from, to;
} shown_passage;

/* The places that the hits of one generation have. Returns how many they are. */
static size_t places_of(unsigned generation, shown_passage out[TRIAL_K])
{
    trial_list l;
    size_t count = 0;
    const msgpack_object *hits = object_get(search(1, "carl", &l), "hits");
    for (size_t i = 0; i < l.count; i++) {
        const msgpack_object *range = object_get(box_at(hits, i), "passage");
        if (l.generations[i] != generation)
            continue;
        out[count++] =
            (shown_passage){l.ids[i], object_uint(box_at(range, 0), SIZE_MAX), object_uint(box_at(range, 1), SIZE_MAX)};
    }
    return count;
}

/* Each is one that the generation that serves has cut. */
static void check_places(const shown_passage *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        cut_document d = passages_get(&b, k->name, all[i].id);
        bool found = false;
        for (size_t j = 0; j < d.count; j++)
            found = found || (d.ranges[j].from == all[i].from && d.ranges[j].to == all[i].to);
        ck_assert_msg(found, "document %u has no passage %zu to %zu", all[i].id, all[i].from, all[i].to);
        cut_document_free(&d);
    }
}

/* --- deletes and erasures */

/* Deletes what a search has just shown as its best, of each generation; the next search has neither. */
static void delete_best(unsigned query, bool gone[DOCUMENTS])
{
    trial_list l;
    search(query, "carl", &l);
    for (size_t i = 0; i < 2; i++) {
        box_call(&b, "delete", "{'collection': '%s', 'ids': [%u]}", k->name, l.ids[i]);
        gone[l.ids[i]] = true;
    }
    search(query, "carl", &l);
    for (size_t i = 0; i < l.count; i++)
        ck_assert(l.ids[i] >= DOCUMENTS || !gone[l.ids[i]]);
}

/* Until the trial has counted so many clicks and no more. */
static void wait_for_clicks(uint64_t clicks)
{
    uint64_t step = UINT64_MAX;
    for (int waited = 0; waited < JOB_BOX_PATIENCE_MS && step != clicks; waited += 10, usleep(10000))
        step = object_uint(object_get(box_call(&b, "job", "{}"), "step"), UINT64_MAX);
    ck_assert_uint_eq(step, clicks);
}

START_TEST(a_trial_is_right_while_documents_and_events_go)
{
    static bool gone[DOCUMENTS];
    shown_passage current[TRIAL_K], candidate[TRIAL_K];
    size_t of_current = 0, of_candidate = 0, deleted = 0;
    if (!begin(&kinds[_i]))
        return;
    for (unsigned query = 0; query < 4; query++)
        delete_best(query, gone);
    put(LATE, 1);
    /* Erased clicks are votes no more. */
    click(0, "ann", CURRENT);
    click(1, "ann", CURRENT);
    const unsigned bobs = click(2, "bob", CANDIDATE);
    wait_for_clicks(3);
    box_call(&b, "events.erase", "{'user': 'ann'}");
    wait_for_clicks(1);
    const unsigned id = click_other(3, "dora", CURRENT, bobs);
    wait_for_clicks(2);
    box_call(&b, "events.erase", "{'id': %u}", id);
    wait_for_clicks(1);
    if (cuts()) {
        of_current = places_of(CURRENT, current);
        of_candidate = places_of(CANDIDATE, candidate);
        check_places(current, of_current);
    }
    for (unsigned i = 1; i < TRIAL_CLICKS; i++) {
        char user[32];
        snprintf(user, sizeof user, "user %u", i);
        click(i, user, CANDIDATE);
    }
    box_wait_for_job(&b, "done");
    trial_check_decision(&b, 0, "promoted",
                         "promoted by 24 votes for it, 0 for the current generation and 0 for both, of 24 clicks");
    check_places(candidate, of_candidate);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        deleted += gone[i];
    const msgpack_object *hits = object_get(
        box_call(&b, "search", "{'collection': '%s', 'query': 'snow', 'k': 1000, 'exact': true}", k->name), "hits");
    ck_assert_uint_eq(box_count(hits), DOCUMENTS + 1 - deleted);
    job_box_verify(&b);
}
END_TEST

/* --- votes */

START_TEST(a_user_has_one_vote_for_a_query)
{
    trial_list l;
    if (!begin(&kinds[0]))
        return;
    for (unsigned i = 0; i < 8; i++)
        click(0, "ann", CANDIDATE); /* one vote for the candidate */
    search(1, "ann", &l);
    trial_click(&b, &l, CANDIDATE); /* and one for both */
    trial_click(&b, &l, CURRENT);
    click(0, "bob", CURRENT); /* three against it */
    click(0, "carl", CURRENT);
    click(0, "dora", CURRENT);
    for (unsigned i = 0; i < 2; i++) { /* two of nobody, whose searches are voters each */
        trial_take_list(&l, box_call(&b, "search", "{'query': 'money', 'k': %d, %s}", TRIAL_K, k->search));
        trial_click(&b, &l, CANDIDATE);
    }
    search(2, "fred", &l); /* and what is taken back is none */
    const unsigned id = trial_click(&b, &l, CANDIDATE);
    box_call(&b, "click", "{'query_id': '%s', 'id': %u, 'weight': 0}", l.query_id, id);
    wait_for_clicks(15);
    for (unsigned i = 0; i < 9; i++)
        click(3, "eve", CURRENT); /* one more against it */
    box_wait_for_job(&b, "done");
    trial_check_decision(&b, 0, "discarded",
                         "discarded by 3 votes for it, 4 for the current generation and 1 for both, of 24 clicks");
    job_box_check_files(&b);
    job_box_verify(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kinds of trials");
    TCase *t = tcase_create("kinds of trials");
    tcase_set_timeout(t, 180);
    tcase_add_loop_test(t, a_trial_is_right_while_documents_and_events_go, 0, KINDS);
    tcase_add_test(t, a_user_has_one_vote_for_a_query);
    suite_add_tcase(s, t);
    return testing_run(s);
}
