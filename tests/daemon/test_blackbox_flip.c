/* Generations change under load: no request fails, and no answer mixes two. */
#include "tests/daemon/lessons.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum {
    CLIENTS = 4,
    DOCUMENTS = 300,
    REQUESTS = 10000,
    ROLLBACKS = 6,
    PAUSE_US = 500 /* or nothing is left for the training */
};

typedef struct searcher {
    box *box;
    client *client;
    unsigned number;
    size_t requests, failed, mixed;
    size_t of_generation[64];
    atomic_bool *stop;
    pthread_t thread;
} searcher;

/* A document searched by its own text has cosine 1 if, and only if, both
 * vectors were made by the same model. */
static void check_answer(searcher *s, unsigned i, const client_reply *reply)
{
    s->requests++;
    if (reply->is_error) {
        s->failed++;
        return;
    }
    const msgpack_object *hit = box_at(object_get(&reply->value, "hits"), 0);
    uint64_t generation = object_uint(object_get(&reply->value, "generation"), 0);
    if (generation < 64)
        s->of_generation[generation]++;
    s->mixed += fabs(object_double(object_get(hit, "score"), 0) - 1.0) > 1e-4 ||
                object_uint(object_get(hit, "id"), UINT64_MAX) != i;
}

static void *search_main(void *argument)
{
    searcher *s = argument;
    sem_error error;
    for (unsigned n = s->number; !atomic_load(s->stop); n += CLIENTS) {
        buffer params = {0};
        packer p;
        char text[LESSON_TEXT_MAX];
        client_reply reply;
        lesson_document(n % DOCUMENTS, text);
        pack_init(&p, &params);
        pack_array(&p, 1);
        pack_map(&p, 2);
        pack_str(&p, "query");
        pack_str(&p, text);
        pack_str(&p, "k");
        pack_uint(&p, 3);
        if (client_call(s->client, "search", params.data, params.size, BOX_TIMEOUT_MS, &reply, &error) == SEM_OK) {
            check_answer(s, n % DOCUMENTS, &reply);
            client_reply_free(&reply);
        } else {
            s->requests++;
            s->failed++;
        }
        buffer_free(&params);
        usleep(PAUSE_US);
    }
    return NULL;
}

static size_t total_requests(const searcher *all)
{
    size_t sum = 0;
    for (int i = 0; i < CLIENTS; i++)
        sum += all[i].requests;
    return sum;
}

static box b;
static searcher all[CLIENTS];
static atomic_bool stop;

static bool start_everything(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    lesson_options(&b, true);
    box_start(&b);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        lesson_upsert(&b, i);
    lesson_feedback(&b, DOCUMENTS);
    for (unsigned i = 0; i < CLIENTS; i++) {
        all[i] = (searcher){.box = &b, .client = box_connect(&b), .number = i, .stop = &stop};
        ck_assert_int_eq(pthread_create(&all[i].thread, NULL, search_main, &all[i]), 0);
    }
    return true;
}

START_TEST(a_flip_under_load_fails_no_request_and_mixes_nothing)
{
    if (!start_everything())
        return;
    lesson_finetune_until_promoted(&b, DOCUMENTS / 2);
    ck_assert_uint_eq(object_uint(object_get(&b.reply.value, "generation"), 0), 2);
    for (int i = 0; i < ROLLBACKS; i++) {
        unsigned target = i % 2 == 0 ? 1 : 2;
        lesson_upsert(&b, 400 + (unsigned)i); /* the backlog of the generation that is not current */
        const msgpack_object *r = box_call(&b, "rollback", "{'generation': %u}", target);
        ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), target);
        char text[LESSON_TEXT_MAX];
        lesson_document(400 + (unsigned)i, text);
        r = box_call(&b, "search", "{'query': '%s', 'k': 1}", text);
        ck_assert_uint_eq(object_uint(object_get(box_at(object_get(r, "hits"), 0), "id"), 0), 400 + (unsigned)i);
    }
    while (total_requests(all) < REQUESTS)
        usleep(10000);
    atomic_store(&stop, true);
    size_t failed = 0, mixed = 0, first = 0, second = 0;
    for (int i = 0; i < CLIENTS; i++) {
        pthread_join(all[i].thread, NULL);
        client_close(all[i].client);
        failed += all[i].failed;
        mixed += all[i].mixed;
        first += all[i].of_generation[1];
        second += all[i].of_generation[2];
    }
    printf("%zu requests: %zu of generation 1, %zu of generation 2\n", total_requests(all), first, second);
    ck_assert_uint_eq(failed, 0);
    ck_assert_uint_eq(mixed, 0);
    ck_assert_uint_gt(first, 0);
    ck_assert_uint_gt(second, 0);
    box_stop(&b);
}
END_TEST

START_TEST(a_model_of_another_width_is_loaded_and_taken_back)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    const char *minilm = testing_minilm();
    if (minilm == NULL)
        return;
    char path[FILES_PATH_MAX];
    ck_assert_ptr_nonnull(realpath(minilm, path));
    box_start(&b);
    for (unsigned i = 0; i < 40; i++)
        lesson_upsert(&b, i);
    box_fails(&b, "NOT_FOUND", "model.load", "{'path': '/nonexistent'}");
    box_call(&b, "model.load", "{'path': '%s'}", path);
    box_fails(&b, "ALREADY_EXISTS", "model.load", "{'path': '%s'}", path);
    box_wait_for_job(&b, "done");
    const msgpack_object *info = box_call(&b, "info", NULL);
    ck_assert_uint_eq(object_uint(object_get(object_get(info, "model"), "dim"), 0), 384);
    const msgpack_object *r = box_call(&b, "search", "{'query': 'get my money back', 'k': 1}");
    ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), 2);
    r = box_call(&b, "get", "{'ids': [3], 'with': ['vector']}");
    ck_assert_uint_eq(object_get(box_at(r, 0), "vector")->via.bin.size, 4 * 384);
    r = box_call(&b, "rollback", "{}");
    ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), 1);
    box_stop(&b);
    box_start(&b); /* the same after a restart */
    info = box_call(&b, "info", NULL);
    ck_assert_uint_eq(object_uint(object_get(object_get(info, "model"), "dim"), 0), 48);
    r = box_call(&b, "generations", NULL);
    ck_assert(object_is(object_get(box_at(r, 0), "state"), "current"));
    ck_assert(object_is(object_get(box_at(r, 1), "state"), "rolled_back"));
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("generations under load");
    TCase *t = tcase_create("flip");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, a_flip_under_load_fails_no_request_and_mixes_nothing);
    tcase_add_test(t, a_model_of_another_width_is_loaded_and_taken_back);
    suite_add_tcase(s, t);
    return testing_run(s);
}
