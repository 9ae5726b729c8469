/* Jobs as a client sees them: what they say, how they end, what they survive. */
#include "tests/daemon/lessons.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { DOCUMENTS = 200 };

static box b;

/* promote: as of lesson_options(). */
static bool start_with(bool promote, const char *more, const char *also)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    size_t n = lesson_options(&b, promote);
    b.options[n++] = "server.drain_timeout=1h"; /* who waits for that fails by its own patience */
    b.options[n++] = more;
    b.options[n++] = also;
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        lesson_upsert(&b, i);
    lesson_feedback(&b, DOCUMENTS);
    return true;
}

static bool start(bool promote, const char *more)
{
    return start_with(promote, more, NULL);
}

static bool is_number(const msgpack_object *o)
{
    return o != NULL && o->type != MSGPACK_OBJECT_NIL;
}

/* Whatever the latest job was before: the next may be on its way. */
static void wait_for_state(const char *state)
{
    while (!object_is(object_get(box_call(&b, "job", "{}"), "state"), state))
        usleep(20000);
}

/* The same model as a new generation, without a gate that could say no; returns the job. */
static unsigned begin_load(void)
{
    char path[FILES_PATH_MAX];
    ck_assert_ptr_nonnull(realpath(b.model + strlen("model.path="), path));
    return (unsigned)object_uint(object_get(box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path), "job"),
                                 0);
}

static void check_fields(const msgpack_object *job)
{
    static const char *const fields[] = {"job",    "state", "phase",          "step",          "steps",
                                         "loss",   "pairs", "metrics_before", "metrics_after", "decision",
                                         "reason", "eta_s", "generation"};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        ck_assert_msg(object_get(job, fields[i]) != NULL, "no field %s", fields[i]);
}

/* Every collection of the model's has its figures, whether anybody clicked there or not. */
static void check_figures(const msgpack_object *after)
{
    static const char *const names[] = {"default", "quiet"};
    const msgpack_object *all = object_get(after, "collections");
    uint64_t probes = 0;
    for (size_t i = 0; i < 2; i++) {
        const msgpack_object *one = object_get(all, names[i]);
        ck_assert_msg(is_number(object_get(one, "probe_lower")), "no bound of %s", names[i]);
        probes += object_uint(object_get(object_get(one, "probe"), "queries"), 0);
    }
    ck_assert_uint_gt(probes, DOCUMENTS / 2);
    ck_assert_uint_eq(probes, object_uint(object_get(object_get(after, "probe"), "queries"), 0));
    ck_assert_uint_eq(object_uint(object_get(object_get(object_get(all, "quiet"), "probe"), "queries"), 0), 2);
    ck_assert_uint_eq(object_uint(object_get(object_get(object_get(all, "quiet"), "heldout"), "queries"), 9), 0);
    ck_assert_uint_gt(object_uint(object_get(object_get(after, "newest"), "queries"), 0), 0);
    ck_assert(is_number(object_get(after, "gain")) && is_number(object_get(after, "probe_lower")));
    const double drift = object_double(object_get(object_get(after, "drift"), "documents"), -1);
    ck_assert_msg(drift > 0 && drift < 2, "%g", drift);
}

START_TEST(a_discarded_candidate_says_why_and_leaves_nothing)
{
    if (!start(false, NULL))
        return;
    box_call(&b, "collection.create", "{'name': 'quiet'}");
    box_call(&b, "upsert", "{'collection': 'quiet', 'docs': [{'id': 1, 'text': 'a card'}, {'id': 2, 'text': 'cash'}]}");
    const msgpack_object *job = box_call(&b, "finetune", "{'wait': true}");
    check_fields(job);
    ck_assert(object_is(object_get(job, "state"), "done"));
    ck_assert(object_is(object_get(job, "decision"), "discarded"));
    ck_assert_int_eq(object_get(job, "reason")->type, MSGPACK_OBJECT_STR);
    ck_assert_int_eq(object_get(job, "generation")->type, MSGPACK_OBJECT_NIL);
    const msgpack_object *after = object_get(job, "metrics_after");
    ck_assert(is_number(object_get(object_get(after, "heldout"), "mrr")));
    ck_assert(is_number(object_get(object_get(after, "probe"), "queries")));
    ck_assert_ptr_nonnull(object_get(after, "p_value"));
    check_figures(after);
    const msgpack_object *all = box_call(&b, "generations", NULL);
    ck_assert_uint_eq(box_count(all), 1);
    ck_assert(object_is(object_get(box_at(all, 0), "state"), "current"));
    char folder[FILES_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/data/models/tiny-bert-job-1", testing_folder());
    ck_assert_int_ne(access(folder, F_OK), 0);
    box_stop(&b);
}
END_TEST

START_TEST(generations_and_old_jobs_are_told_after_a_restart)
{
    if (!start(true, NULL))
        return;
    unsigned made = lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    box_call(&b, "rollback", "{}");
    for (int round = 0; round < 2; round++) {
        const msgpack_object *all = box_call(&b, "generations", NULL);
        ck_assert_uint_eq(box_count(all), 2);
        const msgpack_object *second = box_at(all, 1);
        ck_assert_uint_eq(object_uint(object_get(second, "generation"), 0), 2);
        ck_assert_uint_eq(object_uint(object_get(second, "parent"), 0), 1);
        ck_assert(object_is(object_get(second, "state"), "rolled_back"));
        ck_assert(object_is(object_get(second, "mode"), "full"));
        ck_assert_uint_gt(object_uint(object_get(second, "created"), 0), 0);
        ck_assert_uint_gt(object_uint(object_get(second, "pairs"), 0), 0);
        ck_assert_uint_gt(object_uint(object_get(second, "bytes"), 0), 0);
        const msgpack_object *metrics = object_get(second, "metrics");
        ck_assert(is_number(object_get(object_get(metrics, "heldout"), "mrr")));
        ck_assert(is_number(object_get(object_get(object_get(metrics, "before"), "heldout"), "mrr")));
        ck_assert_int_eq(object_get(metrics, "reason")->type, MSGPACK_OBJECT_STR);
        const msgpack_object *job = box_call(&b, "job", "{'job': %u}", made);
        check_fields(job);
        ck_assert_uint_eq(object_uint(object_get(job, "job"), 0), made);
        ck_assert(object_is(object_get(job, "state"), "done"));
        ck_assert(object_is(object_get(job, "decision"), "promoted"));
        ck_assert_uint_eq(object_uint(object_get(job, "generation"), 0), 2);
        job = box_call(&b, "job", "{}");
        check_fields(job);
        ck_assert_uint_eq(object_uint(object_get(job, "job"), 0), made + 1);
        ck_assert_uint_eq(object_uint(object_get(job, "generation"), 0), 1);
        box_fails(&b, "NOT_FOUND", "job", "{'job': %u}", made + 2);
        box_fails(&b, "FAILED_PRECONDITION", "job", "{'job': %u, 'cancel': true}", made);
        if (round == 0) {
            box_kill(&b);
            box_start(&b);
        }
    }
    box_stop(&b);
}
END_TEST

START_TEST(a_job_is_cancelled_and_another_can_follow)
{
    if (!start(true, "train.epochs=1000"))
        return;
    uint64_t first = object_uint(object_get(box_call(&b, "finetune", "{}"), "job"), 0);
    wait_for_state("running");
    const char *message = box_fails(&b, "ALREADY_EXISTS", "finetune", "{}");
    ck_assert_ptr_nonnull(strstr(message, "1"));
    box_fails(&b, "ALREADY_EXISTS", "rollback", "{}");
    box_call(&b, "job", "{'cancel': true}");
    wait_for_state("cancelled");
    const msgpack_object *job = box_call(&b, "job", "{}");
    check_fields(job);
    ck_assert_int_eq(object_get(job, "decision")->type, MSGPACK_OBJECT_NIL);
    box_fails(&b, "FAILED_PRECONDITION", "job", "{'cancel': true}");
    uint64_t second = object_uint(object_get(box_call(&b, "finetune", "{}"), "job"), 0);
    ck_assert_uint_eq(second, first + 1);
    box_call(&b, "job", "{'job': %u, 'cancel': true}", (unsigned)second);
    wait_for_state("cancelled");
    box_stop(&b);
}
END_TEST

START_TEST(a_job_cut_short_by_a_crash_goes_on)
{
    if (!start(true, "train.epochs=1000"))
        return;
    box_call(&b, "finetune", "{}");
    wait_for_state("running");
    box_kill(&b);
    box_start(&b);
    wait_for_state("running");
    const msgpack_object *job = box_call(&b, "job", "{}");
    check_fields(job);
    ck_assert_uint_eq(object_uint(object_get(job, "job"), 0), 1);
    ck_assert_ptr_nonnull(strstr(box_fails(&b, "ALREADY_EXISTS", "finetune", "{}"), "1"));
    box_call(&b, "job", "{'cancel': true}");
    wait_for_state("cancelled");
    ck_assert_uint_eq(box_count(box_call(&b, "generations", NULL)), 1);
    box_stop(&b);
}
END_TEST

START_TEST(a_guide_that_finds_every_document_close_leaves_nothing_to_learn)
{
    char guide[FILES_PATH_MAX];
    const char *dir = testing_shared("golden/tiny-bert-max");
    snprintf(guide, sizeof guide, "train.guide=%s", dir != NULL ? dir : "");
    if (!start_with(false, guide, "train.guide_margin=2"))
        return;
    const msgpack_object *job = box_call(&b, "finetune", "{'wait': true}");
    ck_assert(object_is(object_get(job, "state"), "done"));
    ck_assert_uint_gt(object_uint(object_get(job, "steps"), 0), 0);
    ck_assert_double_eq(object_double(object_get(job, "loss"), 1), 0);
    box_stop(&b);
}
END_TEST

START_TEST(a_job_whose_guide_is_missing_fails_and_names_it)
{
    if (!start(true, "train.guide=/nowhere/guide"))
        return;
    const msgpack_object *job = box_call(&b, "finetune", "{'wait': true}"), *reason = object_get(job, "reason");
    ck_assert(object_is(object_get(job, "state"), "failed"));
    ck_assert_int_eq(reason->type, MSGPACK_OBJECT_STR);
    ck_assert_ptr_nonnull(memmem(reason->via.str.ptr, reason->via.str.size, "train.guide", 11));
    ck_assert_ptr_nonnull(memmem(reason->via.str.ptr, reason->via.str.size, "/nowhere/guide", 14));
    box_stop(&b);
}
END_TEST

/* One that waits for a job longer than its deadline is told so; the job goes on.
 * One that waits when the daemon is asked to end gets its answer at once. */
START_TEST(who_waits_for_a_job_is_answered_in_time)
{
    sem_error error;
    if (!start(true, "train.epochs=1000"))
        return;
    box_fails(&b, "DEADLINE_EXCEEDED", "finetune", "{'wait': true, 'deadline_ms': 600}");
    ck_assert(object_is(object_get(box_call(&b, "job", "{}"), "state"), "running"));
    box_call(&b, "job", "{'cancel': true}");
    wait_for_state("cancelled");
    client *waiting = box_connect(&b);
    box_send(waiting, "finetune", "{'wait': true}");
    wait_for_state("running");
    kill(b.daemon.pid, SIGTERM);
    client_reply reply;
    ck_ok(client_receive(waiting, BOX_TIMEOUT_MS, &reply, &error));
    ck_assert(reply.is_error);
    ck_assert_str_eq(reply.code, "UNAVAILABLE");
    client_reply_free(&reply);
    client_close(waiting);
    box_disconnect(&b);
    int status;
    ck_assert_int_eq(waitpid(b.daemon.pid, &status, 0), b.daemon.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

typedef struct writing {
    client *client;
    atomic_bool *stop;
    unsigned first, deleted;
    atomic_uint written;
    bool failed;
    pthread_t thread;
} writing;

static bool write_one(writing *w, const char *method, const buffer *params)
{
    sem_error error;
    client_reply reply;
    bool ok = client_call(w->client, method, params->data, params->size, BOX_TIMEOUT_MS, &reply, &error) == SEM_OK;
    if (ok && reply.is_error)
        ok = false;
    if (ok)
        client_reply_free(&reply);
    return ok;
}

/* Puts a document, and deletes every third that it put. */
static void *write_main(void *argument)
{
    writing *w = argument;
    for (unsigned i = w->first; !atomic_load(w->stop) && !w->failed; i++) {
        char text[LESSON_TEXT_MAX];
        buffer params = {0};
        packer p;
        lesson_document(i % 512, text);
        box_document(&params, i, text);
        w->failed = !write_one(w, "upsert", &params);
        params.size = 0;
        w->written++;
        if (i % 3 == 0 && !w->failed) {
            pack_init(&p, &params);
            pack_array(&p, 1);
            pack_map(&p, 1);
            pack_str(&p, "ids");
            pack_array(&p, 1);
            pack_uint(&p, i);
            w->failed = !write_one(w, "delete", &params);
            w->deleted++;
        }
        buffer_free(&params);
    }
    return NULL;
}

/* Whatever was put and not deleted while the generation changed is found in the
 * new one, with a vector of its own, and nothing that was deleted is. */
static void check_all_present(const writing *w)
{
    uint64_t count = object_uint(object_get(box_call(&b, "count", "{}"), "count"), 0);
    ck_assert_uint_eq(count, DOCUMENTS + w->written - w->deleted);
    const msgpack_object *r = box_call(&b, "search", "{'query': 'my card', 'k': 10000, 'exact': true}");
    const msgpack_object *hits = object_get(r, "hits");
    ck_assert_uint_eq(box_count(hits), count);
    for (size_t i = 0; i < count; i++) {
        uint64_t id = object_uint(object_get(box_at(hits, i), "id"), UINT64_MAX);
        ck_assert(id < DOCUMENTS || (id - w->first < w->written && id % 3 != 0));
    }
}

START_TEST(writes_during_a_flip_are_in_the_new_generation)
{
    if (!start(true, NULL))
        return;
    atomic_bool stop = false;
    for (int round = 0; round < 3; round++) {
        static writing w;
        atomic_store(&stop, false);
        if (round == 0)
            w = (writing){.first = 1000, .stop = &stop};
        unsigned from = w.first + w.written;
        writing now = {.first = from, .stop = &stop, .client = box_connect(&b)};
        ck_assert_int_eq(pthread_create(&now.thread, NULL, write_main, &now), 0);
        if (round == 0) {
            while (atomic_load(&now.written) == 0)
                usleep(1000);
            begin_load();
            wait_for_state("done");
        } else {
            box_call(&b, "rollback", "{'generation': %d}", round == 1 ? 1 : 2);
        }
        /* A collection that is dropped and made anew meanwhile is the new one. */
        box_call(&b, "collection.create", "{'name': 'other'}");
        box_call(&b, "upsert", "{'collection': 'other', 'docs': [{'id': 1, 'text': 'old card'}]}");
        box_call(&b, "collection.drop", "{'name': 'other'}");
        atomic_store(&stop, true);
        pthread_join(now.thread, NULL);
        client_close(now.client);
        ck_assert(!now.failed);
        w.written += now.written;
        w.deleted += now.deleted;
        check_all_present(&w);
    }
    box_stop(&b);
    box_start(&b); /* and after a restart */
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "info", NULL), "generation"), 0), 2);
    box_stop(&b);
}
END_TEST

START_TEST(a_collection_made_anew_during_a_job_is_whole_after_it)
{
    if (!start(true, NULL))
        return;
    box_call(&b, "collection.create", "{'name': 'other'}");
    for (unsigned i = 0; i < 20; i++)
        box_call(&b, "upsert", "{'collection': 'other', 'docs': [{'id': %u, 'text': 'old card %u'}]}", i, i);
    begin_load();
    for (bool done = false; !done;) {
        done = object_is(object_get(box_call(&b, "job", "{}"), "state"), "done");
        box_call(&b, "collection.drop", "{'name': 'other'}");
        box_call(&b, "collection.create", "{'name': 'other'}");
        box_call(&b, "upsert", "{'collection': 'other', 'docs': [{'id': 3, 'text': 'new fee'}]}");
    }
    const msgpack_object *r = box_call(&b, "search", "{'collection': 'other', 'query': 'new fee'}");
    ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), 2);
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 1);
    ck_assert_double_eq_tol(object_double(object_get(box_at(object_get(r, "hits"), 0), "score"), 0), 1.0, 1e-4);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("jobs");
    TCase *t = tcase_create("jobs");
    tcase_set_timeout(t, 180);
    tcase_add_test(t, a_discarded_candidate_says_why_and_leaves_nothing);
    tcase_add_test(t, generations_and_old_jobs_are_told_after_a_restart);
    tcase_add_test(t, a_job_is_cancelled_and_another_can_follow);
    tcase_add_test(t, a_job_cut_short_by_a_crash_goes_on);
    tcase_add_test(t, a_guide_that_finds_every_document_close_leaves_nothing_to_learn);
    tcase_add_test(t, a_job_whose_guide_is_missing_fails_and_names_it);
    tcase_add_test(t, who_waits_for_a_job_is_answered_in_time);
    tcase_add_test(t, writes_during_a_flip_are_in_the_new_generation);
    tcase_add_test(t, a_collection_made_anew_during_a_job_is_whole_after_it);
    suite_add_tcase(s, t);
    return testing_run(s);
}
