/* mode lexical, against the real daemon. */
#include "tests/daemon/blackbox.h"

#include "base/clock.h"

#include <string.h>

static box b;

static bool start(void)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    box_start(&b);
    return true;
}

static bool hit_is(const msgpack_object *hits, size_t i, uint64_t id)
{
    return object_uint(object_get(box_at(hits, i), "id"), UINT64_MAX) == id;
}

START_TEST(a_word_is_found_and_nothing_else)
{
    if (!start())
        return;
    box_call(&b, "upsert",
             "{'docs': [{'id': 1, 'text': 'The quick brown fox'}, {'id': 2, 'text': 'A lazy dog'},"
             "{'id': 3, 'text': 'Fox hunting, with the fox as the prey', 'meta': {'a': 1}}]}");
    const msgpack_object *hits = object_get(
        box_call(&b, "search", "{'query': 'FÓX?', 'mode': 'lexical', 'with': ['text', 'meta', 'vector']}"), "hits");
    ck_assert_uint_eq(box_count(hits), 2);
    ck_assert(hit_is(hits, 0, 3) && hit_is(hits, 1, 1));
    ck_assert(object_get(box_at(hits, 0), "vector") != NULL);
    hits = object_get(box_call(&b, "search", "{'query': 'fox', 'mode': 'lexical', 'filter': {'field': 'a', 'eq': 1}}"),
                      "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    ck_assert(hit_is(hits, 0, 3));
    box_stop(&b);
}
END_TEST

/* Every write that was answered is seen by the next search, on any connection. */
START_TEST(lexical_sees_acknowledged_writes)
{
    if (!start())
        return;
    client *other = box_connect(&b);
    for (unsigned i = 0; i < 120; i++) {
        client *mine = b.client;
        box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'common word%u'}]}", i % 40, i);
        b.client = other;
        const msgpack_object *hits =
            object_get(box_call(&b, "search", "{'query': 'word%u', 'mode': 'lexical', 'with': ['text']}", i), "hits");
        ck_assert_uint_eq(box_count(hits), 1);
        ck_assert(hit_is(hits, 0, i % 40));
        if (i >= 40) {
            hits = object_get(box_call(&b, "search", "{'query': 'word%u', 'mode': 'lexical'}", i - 40), "hits");
            ck_assert_uint_eq(box_count(hits), 0);
        }
        if (i % 7 == 0) {
            box_call(&b, "delete", "{'ids': [%u]}", i % 40);
            hits = object_get(box_call(&b, "search", "{'query': 'word%u', 'mode': 'lexical'}", i), "hits");
            ck_assert_uint_eq(box_count(hits), 0);
            box_call(&b, "upsert", "{'docs': [{'id': %u, 'text': 'common word%u'}]}", i % 40, i);
        }
        b.client = mine;
    }
    box_forget_reply(&b);
    client_close(other);
    box_stop(&b);
}
END_TEST

/* Only the words of a query count, never a query language. */
START_TEST(hostile_queries_are_words)
{
    static const char *const queries[] = {"\\\"",         "\\\"\\\"\\\"",
                                          "NEAR(a b, 5)", "* ^ - + ( ) { } : AND OR NOT",
                                          "text:fox",     "fox*",
                                          "^fox",         "fox\\\\",
                                          "-fox",         "😀",
                                          "猫 好き",      "the of and",
                                          "NOT",          "; DROP TABLE meta; --",
                                          "\\u0001",      "\\ufeff fox"};
    if (!start())
        return;
    box_call(&b, "upsert",
             "{'docs': [{'id': 1, 'text': 'a fox near the den, of and not'}, {'id': 2, 'text': '猫 好き 😀'}]}");
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) {
        box_forget_reply(&b);
        size_t count = box_count(
            object_get(box_call(&b, "search", "{\"query\": \"%s\", \"mode\": \"lexical\"}", queries[i]), "hits"));
        ck_assert_uint_le(count, 2);
        if (strstr(queries[i], "fox") != NULL)
            ck_assert_uint_eq(count, 1);
    }
    const msgpack_object *hits = object_get(box_call(&b, "search", "{'query': '猫', 'mode': 'lexical'}"), "hits");
    ck_assert_uint_eq(box_count(hits), 1);
    ck_assert(hit_is(hits, 0, 2));
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("lexical");
    TCase *tests = tcase_create("lexical");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_word_is_found_and_nothing_else);
    tcase_add_test(tests, lexical_sees_acknowledged_writes);
    tcase_add_test(tests, hostile_queries_are_words);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
