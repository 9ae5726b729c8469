/* Lone queries that several workers compute together, seen from outside. */
#include "tests/daemon/blackbox.h"

#include <pthread.h>
#include <string.h>

enum { DIM = 48, TEXTS = 40, ASKERS = 3, ROUNDS = 4 };

static box b;

static float alone[TEXTS][DIM];

static void encode_params(buffer *out, int i)
{
    packer p;
    char text[64];
    snprintf(text, sizeof text, "where is the card number %d that I ordered", i * i);
    pack_init(&p, out);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "texts");
    pack_array(&p, 1);
    pack_str(&p, text);
}

/* What went wrong, or NULL. */
static const char *ask(client *c, int i, float out[DIM])
{
    sem_error error;
    client_reply reply;
    buffer params = {0};
    encode_params(&params, i);
    sem_status status = client_call(c, "encode", params.data, params.size, BOX_TIMEOUT_MS, &reply, &error);
    buffer_free(&params);
    if (status != SEM_OK)
        return "no answer";
    const msgpack_object *list = reply.is_error ? NULL : object_get(&reply.value, "embeddings");
    bool fine = list != NULL && box_count(list) == 1 && box_at(list, 0)->via.bin.size == DIM * sizeof *out;
    if (fine)
        memcpy(out, box_at(list, 0)->via.bin.ptr, DIM * sizeof *out);
    client_reply_free(&reply);
    return fine ? NULL : "an error or no embedding";
}

static void encode_by_one_worker(void)
{
    b.options[0] = "encode.workers=1";
    b.options[1] = "encode.cache_bytes=0";
    box_start(&b);
    for (int i = 0; i < TEXTS; i++) {
        const char *wrong = ask(b.client, i, alone[i]);
        ck_assert_msg(wrong == NULL, "text %d: %s", i, wrong);
    }
    box_stop(&b);
}

static const char *ask_all(client *c)
{
    float found[DIM];
    for (int k = 0; k < ROUNDS * TEXTS; k++) {
        int i = k * 7 % TEXTS;
        const char *wrong = ask(c, i, found);
        if (wrong != NULL)
            return wrong;
        for (int d = 0; d < DIM; d++)
            if (!(found[d] - alone[i][d] <= 1e-5f && alone[i][d] - found[d] <= 1e-5f))
                return "another embedding than one worker gives";
    }
    return NULL;
}

typedef struct asker {
    pthread_t thread;
    client *client;
    const char *wrong;
} asker;

static void *asker_main(void *argument)
{
    asker *a = argument;
    a->wrong = ask_all(a->client);
    return NULL;
}

START_TEST(lone_queries_get_the_same_answer_from_several_workers)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    encode_by_one_worker();
    b.options[0] = "encode.workers=3";
    box_start(&b);
    const char *wrong = ask_all(b.client);
    ck_assert_msg(wrong == NULL, "%s", wrong);
    box_stop(&b);
}
END_TEST

START_TEST(lone_queries_of_several_clients_are_answered_right_beside_a_bulk_encode)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    encode_by_one_worker();
    b.options[0] = "encode.workers=3";
    box_start(&b);
    asker askers[ASKERS] = {{0}};
    for (int i = 0; i < ASKERS; i++) {
        askers[i].client = box_connect(&b);
        ck_assert_int_eq(pthread_create(&askers[i].thread, NULL, asker_main, &askers[i]), 0);
    }
    for (int i = 0; i < ROUNDS; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %d, 'text': 'hello'}, {'id': %d, 'text': 'and more of the same'}]}", i,
                 i + 100);
    for (int i = 0; i < ASKERS; i++) {
        pthread_join(askers[i].thread, NULL);
        ck_assert_msg(askers[i].wrong == NULL, "client %d: %s", i, askers[i].wrong);
        client_close(askers[i].client);
    }
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("crew of workers");
    TCase *tests = tcase_create("crew of workers");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, lone_queries_get_the_same_answer_from_several_workers);
    tcase_add_test(tests, lone_queries_of_several_clients_are_answered_right_beside_a_bulk_encode);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
