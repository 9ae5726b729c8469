/* What connections that watch are told of jobs and generations. */
#include "tests/daemon/lessons.h"

enum { DOCUMENTS = 120, TOLD_MAX = 64 };

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    b.options[lesson_options(&b, true)] = NULL;
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        lesson_upsert(&b, i);
    return true;
}

static void watch(client *c, const char *topics)
{
    sem_error error;
    client_reply reply;
    buffer params = {0};
    char text[64];
    snprintf(text, sizeof text, "{\"topics\": [%s]}", topics);
    json_t *map = json_loads(text, 0, NULL);
    box_pack_json(&params, map);
    ck_ok(client_call(c, "watch", params.data, params.size, BOX_TIMEOUT_MS, &reply, &error));
    ck_assert(!reply.is_error);
    size_t wanted = topics[0] == '\0' ? 0 : 1 + (strchr(topics, ',') != NULL);
    ck_assert_uint_eq(box_count(object_get(&reply.value, "watching")), wanted);
    client_reply_free(&reply);
    buffer_free(&params);
}

/* The next notification as one word: a job's phase or final state, or "generation". */
static const char *next(client *c, uint64_t *number)
{
    static char word[32];
    sem_error error;
    client_notification n;
    ck_ok(client_next_notification(c, BOX_TIMEOUT_MS, &n, &error));
    ck_assert_uint_eq(n.lost, 0);
    const msgpack_object *state = object_get(&n.value, "state"), *phase = object_get(&n.value, "phase");
    const msgpack_object *told = object_is(state, "running") ? phase : state;
    if (strcmp(n.method, "generation") == 0) {
        *number = object_uint(object_get(&n.value, "generation"), 0);
        told = object_get(&n.value, "reason");
    } else {
        ck_assert_str_eq(n.method, "job");
        *number = object_uint(object_get(&n.value, "job"), 0);
    }
    ck_assert(told != NULL && told->type == MSGPACK_OBJECT_STR);
    snprintf(word, sizeof word, "%s%.*s", strcmp(n.method, "generation") == 0 ? "generation:" : "",
             (int)told->via.str.size, told->via.str.ptr);
    client_notification_free(&n);
    return word;
}

/* All that is told up to a job's end, words with spaces between. */
static void hear(client *c, char *out, size_t size, uint64_t *generation)
{
    uint64_t number = 0;
    const char *word = "";
    *generation = 0;
    out[0] = '\0';
    while (strcmp(word, "done") != 0 && strcmp(word, "cancelled") != 0 && strcmp(word, "failed") != 0) {
        word = next(c, &number);
        if (strncmp(word, "generation:", 11) == 0)
            *generation = number;
        snprintf(out + strlen(out), size - strlen(out), "%s ", word);
    }
}

START_TEST(watchers_hear_of_every_phase_and_every_flip)
{
    char heard[1024];
    uint64_t generation;
    if (!start())
        return;
    client *jobs = box_connect(&b), *generations = box_connect(&b);
    watch(jobs, "\"job\", \"generation\"");
    watch(generations, "\"generation\"");
    const char *path = testing_shared("golden/tiny-bert");
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path);
    hear(jobs, heard, sizeof heard, &generation);
    ck_assert_msg(strncmp(heard, "queued ", 7) == 0, "%s", heard);
    ck_assert_ptr_nonnull(strstr(heard, " embedding "));
    ck_assert_ptr_nonnull(strstr(heard, " flip "));
    ck_assert_ptr_nonnull(strstr(heard, " generation:model.load "));
    ck_assert_ptr_nonnull(strstr(heard, " done "));
    ck_assert_uint_eq(generation, 2);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "rollback", "{}"), "generation"), 0), 1);
    hear(jobs, heard, sizeof heard, &generation);
    ck_assert_ptr_nonnull(strstr(heard, " generation:rollback "));
    ck_assert_uint_eq(generation, 1);
    /* Who watches generations alone heard of both, in order, and of nothing else. */
    uint64_t number;
    ck_assert_str_eq(next(generations, &number), "generation:model.load");
    ck_assert_uint_eq(number, 2);
    ck_assert_str_eq(next(generations, &number), "generation:rollback");
    ck_assert_uint_eq(number, 1);
    client_close(jobs);
    client_close(generations);
    box_stop(&b);
}
END_TEST

START_TEST(a_job_that_learns_tells_of_its_training)
{
    char heard[1024];
    uint64_t generation;
    if (!start())
        return;
    lesson_feedback(&b, DOCUMENTS);
    client *c = box_connect(&b);
    watch(c, "\"job\", \"generation\"");
    /* Answers on the same connection come between. */
    box_send(c, "finetune", "{'wait': true}");
    hear(c, heard, sizeof heard, &generation);
    ck_assert_ptr_nonnull(strstr(heard, "queued pairs "));
    ck_assert_ptr_nonnull(strstr(heard, " training "));
    ck_assert_ptr_nonnull(strstr(heard, " evaluating "));
    sem_error error;
    client_reply reply;
    ck_ok(client_receive(c, BOX_TIMEOUT_MS, &reply, &error));
    bool promoted = object_is(object_get(&reply.value, "decision"), "promoted");
    ck_assert_int_eq(promoted, strstr(heard, " generation:finetune ") != NULL);
    client_reply_free(&reply);
    /* Nothing any more. */
    watch(c, "");
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", testing_shared("golden/tiny-bert"));
    client_notification n;
    ck_assert_int_eq(client_next_notification(c, 500, &n, &error), SEM_DEADLINE_EXCEEDED);
    client_close(c);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("blackbox_watch");
    TCase *tests = tcase_create("watch");
    tcase_set_timeout(tests, 240);
    tcase_add_test(tests, watchers_hear_of_every_phase_and_every_flip);
    tcase_add_test(tests, a_job_that_learns_tells_of_its_training);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
