/* Queries that come together, seen from outside. */
#include "tests/daemon/blackbox.h"

#include "base/clock.h"

#include <string.h>

static box b;

enum { MANY = 200, LEFT = 60, LEFT_TEXTS = 400 };

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    return true;
}

/* Texts of very different lengths. */
static void text_number(int i, char text[1200])
{
    size_t words = (size_t)(i * 37 % 11 + 1) * (i % 7 == 0 ? 20 : 1), at = 0;
    for (size_t w = 0; w < words && at < 1100; w++)
        at += (size_t)snprintf(text + at, 1200 - at, "%scard %d", w > 0 ? " " : "", i);
}

START_TEST(what_is_encoded_together_equals_what_is_encoded_alone)
{
    if (!start())
        return;
    static float alone[MANY][48];
    char text[1200];
    uint32_t first = 0;
    sem_error error;
    for (int i = 0; i < MANY; i++) {
        text_number(i, text);
        const msgpack_object *r = box_call(&b, "encode", "{'texts': ['%s']}", text);
        memcpy(alone[i], box_at(object_get(r, "embeddings"), 0)->via.bin.ptr, sizeof alone[i]);
    }
    for (int i = 0; i < MANY; i++) {
        text_number(i, text);
        uint32_t id = box_send(b.client, "encode", "{'texts': ['%s', '%d']}", text, i);
        first = i == 0 ? id : first;
    }
    for (int i = 0; i < MANY; i++) {
        client_reply reply;
        ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
        ck_assert(!reply.is_error);
        const msgpack_object *list = object_get(&reply.value, "embeddings");
        ck_assert_uint_eq(box_count(list), 2);
        float got[48];
        memcpy(got, box_at(list, 0)->via.bin.ptr, sizeof got);
        for (int d = 0; d < 48; d++)
            ck_assert_double_eq_tol(got[d], alone[reply.msgid - first][d], 1e-5);
        client_reply_free(&reply);
    }
    box_stop(&b);
}
END_TEST

START_TEST(one_bad_query_does_not_spoil_those_beside_it)
{
    if (!start())
        return;
    sem_error error;
    uint32_t ids[MANY];
    char text[2001];
    size_t failed = 0;
    memset(text, 0, sizeof text);
    for (int i = 0; i < 2000; i++)
        text[i] = i % 5 == 4 ? ' ' : 'a';
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'hello'}]}");
    for (int i = 0; i < MANY; i++) {
        if (i % 10 == 3)
            ids[i] = box_send(b.client, "encode", "{'texts': ['hello', '%s'], 'truncate': false}", text);
        else if (i % 10 == 5)
            ids[i] = box_send(b.client, "encode", "{'texts': ['hello'], 'prompt': 'nonesuch'}");
        else if (i % 10 == 7)
            ids[i] = box_send(b.client, "search", "{'query': 'hello', 'collection': 'nonesuch'}");
        else
            ids[i] = box_send(b.client, i % 2 == 0 ? "search" : "encode",
                              i % 2 == 0 ? "{'query': '%s'}" : "{'texts': ['%s']}", "hello");
    }
    for (int i = 0; i < MANY; i++) {
        client_reply reply;
        ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
        uint32_t n = reply.msgid - ids[0];
        bool bad = n % 10 == 3 || n % 10 == 5 || n % 10 == 7;
        ck_assert_int_eq(reply.is_error, bad);
        if (bad)
            ck_assert_str_eq(reply.code, n % 10 == 7 ? "NOT_FOUND" : "INVALID_ARGUMENT");
        failed += bad;
        client_reply_free(&reply);
    }
    ck_assert_uint_eq(failed, 3 * MANY / 10);
    box_stop(&b);
}
END_TEST

START_TEST(a_query_overtakes_a_long_encode_that_has_begun)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "encode.workers=1";
    b.options[1] = "encode.token_budget=64";
    box_start(&b);
    sem_error error;
    buffer params = {0};
    packer p;
    pack_init(&p, &params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "texts");
    pack_array(&p, 1000);
    for (int i = 0; i < 1000; i++)
        pack_str(&p, "where is the card that I ordered two weeks ago and why does nobody answer me");
    uint32_t bulk = box_send_packed(b.client, "encode", &params);
    uint32_t query = box_send(b.client, "encode", "{'texts': ['hello']}");
    client_reply reply;
    ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
    ck_assert_uint_eq(reply.msgid, query);
    client_reply_free(&reply);
    ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
    ck_assert_uint_eq(reply.msgid, bulk);
    ck_assert_uint_eq(box_count(object_get(&reply.value, "embeddings")), 1000);
    client_reply_free(&reply);
    box_stop(&b);
}
END_TEST

START_TEST(a_batch_that_does_not_fit_the_budget_is_answered_whole)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "encode.token_budget=16";
    b.options[1] = "encode.batch_deadline=0";
    box_start(&b);
    sem_error error;
    char text[1200];
    for (int i = 0; i < MANY; i++) {
        text_number(i, text);
        box_send(b.client, "encode", "{'texts': ['%s']}", text);
    }
    for (int i = 0; i < MANY; i++) {
        client_reply reply;
        ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
        ck_assert(!reply.is_error);
        client_reply_free(&reply);
    }
    box_stop(&b);
}
END_TEST

START_TEST(encodes_that_nobody_waits_for_do_not_hold_up_the_end_and_writes_are_kept)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "encode.workers=1";
    box_start(&b);
    static char texts[LEFT_TEXTS * 256];
    char text[256];
    size_t used = 0, at = 0;
    for (int i = 0; i < 40; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "a b ");
    for (int i = 0; i < LEFT_TEXTS; i++)
        used += (size_t)snprintf(texts + used, sizeof texts - used, "%s'%s'", i > 0 ? "," : "", text);
    uint64_t began = clock_monotonic_ms();
    box_call(&b, "encode", "{'texts': [%s]}", texts);
    uint64_t one = clock_monotonic_ms() - began + 1;
    for (int i = 0; i < LEFT; i++)
        box_send(b.client, "encode", "{'texts': [%s]}", texts);
    uint32_t write = box_send(b.client, "upsert", "{'docs': [{'id': 1, 'text': 'card'}]}"),
             ping = box_send(b.client, "ping", "{}");
    ck_assert_uint_eq(write + 1, ping);
    for (uint32_t answered = write; answered != ping;) { /* from then on the daemon has read all that was sent */
        client_reply reply;
        sem_error error;
        ck_ok(client_receive(b.client, BOX_TIMEOUT_MS, &reply, &error));
        answered = reply.msgid;
        client_reply_free(&reply);
    }
    began = clock_monotonic_ms();
    box_stop(&b);
    uint64_t end = clock_monotonic_ms() - began;
    ck_assert_msg(end < LEFT / 2 * one, "%llu ms, and one encode takes %llu", (unsigned long long)end,
                  (unsigned long long)one);
    box_start(&b);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "count", "{}"), "count"), 0), 1);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batches");
    TCase *tests = tcase_create("batches");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, what_is_encoded_together_equals_what_is_encoded_alone);
    tcase_add_test(tests, one_bad_query_does_not_spoil_those_beside_it);
    tcase_add_test(tests, a_query_overtakes_a_long_encode_that_has_begun);
    tcase_add_test(tests, a_batch_that_does_not_fit_the_budget_is_answered_whole);
    tcase_add_test(tests, encodes_that_nobody_waits_for_do_not_hold_up_the_end_and_writes_are_kept);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
