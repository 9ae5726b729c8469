/* explain, against the real daemon. */
#include "tests/daemon/blackbox.h"

#include "base/utf8.h"

#include <string.h>

static box b;

static bool start(const char *model)
{
    if (!box_create(&b, model))
        return false;
    b.options[0] = "index.exact_below=10000";
    box_start(&b);
    for (int i = 0; i < 30; i++)
        box_call(&b, "upsert", "{'docs': [{'id': %d, 'text': 'where is card number %d', 'meta': {'n': %d}}]}", i, i, i);
    return true;
}

static bool has(const msgpack_object *map, const char *key)
{
    return object_get(map, key) != NULL;
}

START_TEST(it_finds_what_search_finds_and_tells_how)
{
    uint64_t ids[5];
    double scores[5];
    if (!start("golden/tiny-bert"))
        return;
    const msgpack_object *hits = object_get(box_call(&b, "search", "{'query': 'my card', 'k': 5}"), "hits");
    for (size_t i = 0; i < 5; i++) {
        ids[i] = object_uint(object_get(box_at(hits, i), "id"), 999);
        scores[i] = object_double(object_get(box_at(hits, i), "score"), 9);
    }
    const msgpack_object *r = box_call(&b, "explain", "{'query': 'my card', 'k': 5, 'with': ['text', 'meta']}");
    hits = object_get(r, "hits");
    ck_assert_uint_eq(box_count(hits), 5);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(object_uint(object_get(box_at(hits, i), "id"), 999), ids[i]);
        ck_assert_double_eq_tol(object_double(object_get(box_at(hits, i), "score"), 9), scores[i], 1e-6);
        ck_assert(has(box_at(hits, i), "text") && has(box_at(hits, i), "meta"));
    }
    ck_assert_uint_eq(object_uint(object_get(r, "generation"), 0), 1);
    ck_assert_uint_eq(object_uint(object_get(r, "lists"), 9), 0);
    ck_assert_uint_eq(object_uint(object_get(r, "scanned"), 0), 30);
    ck_assert_uint_eq(object_uint(object_get(r, "candidates"), 0), 5);
    const msgpack_object *plan = object_get(r, "plan");
    ck_assert(object_is(object_get(plan, "kind"), "exact"));
    ck_assert(object_is(object_get(plan, "reason"), "fewer documents than index.exact_below"));
    ck_assert(object_is(object_get(plan, "metric"), "cosine"));
    ck_assert_double_eq(object_double(object_get(plan, "recall"), 0), 0.95);
    ck_assert(!has(plan, "matching"));
    ck_assert(!has(r, "query_id"));
    box_stop(&b);
}
END_TEST

START_TEST(tokens_are_those_that_the_model_sees)
{
    if (!start("golden/family-bert-cased-sqrt-f16-prompts"))
        return;
    const msgpack_object *r = box_call(&b, "explain", "{'query': 'my card'}");
    const msgpack_object *tokens = object_get(r, "tokens"), *prompt = object_get(object_get(r, "plan"), "prompt");
    size_t count = box_count(tokens);
    ck_assert_int_eq(prompt->type, MSGPACK_OBJECT_STR);
    ck_assert_uint_gt(prompt->via.str.size, 0);
    ck_assert(object_is(object_get(box_at(tokens, 0), "token"), "[CLS]"));
    ck_assert(object_is(object_get(box_at(tokens, count - 1), "token"), "[SEP]"));
    ck_assert(has(box_at(tokens, 0), "id"));
    r = box_call(&b, "encode", "{'texts': ['my card'], 'prompt': 'query'}");
    ck_assert_uint_eq(object_uint(box_at(object_get(r, "tokens"), 0), 0), count);
    box_stop(&b);
}
END_TEST

START_TEST(times_of_the_steps_fit_into_the_whole)
{
    static const char *const steps[] = {"queue", "tokenize", "encode", "filter", "coarse", "scan", "rerank", "fetch"};
    double sum = 0;
    if (!start("golden/tiny-bert"))
        return;
    const msgpack_object *r =
        box_call(&b, "explain", "{'query': 'my card', 'filter': {'field': 'n', 'lt': 10}, 'recall': 0.5}");
    const msgpack_object *times = object_get(r, "timings_us");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        double us = object_double(object_get(times, steps[i]), -1);
        ck_assert_double_ge(us, 0);
        sum += us;
    }
    ck_assert_double_gt(object_double(object_get(times, "encode"), 0), 0);
    ck_assert_double_gt(object_double(object_get(times, "filter"), 0), 0);
    ck_assert_double_ge(object_double(object_get(times, "total"), 0), sum);
    ck_assert_uint_eq(object_uint(object_get(object_get(r, "plan"), "matching"), 0), 10);
    ck_assert_uint_eq(object_uint(object_get(r, "scanned"), 0), 10);
    ck_assert_double_eq(object_double(object_get(object_get(r, "plan"), "recall"), 0), 0.5);
    box_stop(&b);
}
END_TEST

START_TEST(like_has_no_tokens_and_wrong_requests_are_refused_as_in_search)
{
    if (!start("golden/tiny-bert"))
        return;
    const msgpack_object *r = box_call(&b, "explain", "{'like': 3, 'exact': true, 'k': 2}");
    ck_assert_uint_eq(box_count(object_get(r, "tokens")), 0);
    ck_assert_uint_eq(box_count(object_get(r, "hits")), 2);
    ck_assert(object_get(object_get(r, "plan"), "exact")->via.boolean);
    ck_assert(object_is(object_get(object_get(r, "plan"), "reason"), "exact was asked for"));
    ck_assert(!has(object_get(r, "plan"), "prompt"));
    box_fails(&b, "NOT_FOUND", "explain", "{'like': 99}");
    box_fails(&b, "NOT_FOUND", "explain", "{'query': 'x', 'collection': 'none'}");
    box_fails(&b, "INVALID_ARGUMENT", "explain", "{'query': 'x', 'nope': 1}");
    box_fails(&b, "INVALID_ARGUMENT", "explain", "{'like': 1, 'mode': 'lexical'}");
    box_fails(&b, "INVALID_ARGUMENT", "explain", "{'query': 'x', 'mode': 'lexical', 'exact': true}");
    box_fails(&b, "DEADLINE_EXCEEDED", "explain", "{'query': 'x', 'deadline_ms': 0}");
    box_stop(&b);
}
END_TEST

/* The lexical index cuts words at 32,768 bytes, here inside a character. */
START_TEST(a_word_that_is_cut_is_told_in_whole_characters)
{
    enum { LETTERS = 20000 };
    static char query[2 * LETTERS + 2] = "a";
    if (!start("golden/tiny-bert"))
        return;
    for (size_t i = 0; i < LETTERS; i++)
        memcpy(query + 1 + 2 * i, "\xce\xb1", 2); /* alpha */
    const msgpack_object *r = box_call(&b, "explain", "{'query': '%s', 'mode': 'lexical'}", query);
    const msgpack_object *word = box_at(object_get(object_get(object_get(r, "plan"), "lexical"), "terms"), 0);
    const msgpack_object *term = object_get(word, "term");
    ck_assert_int_eq(term->type, MSGPACK_OBJECT_STR);
    ck_assert_uint_eq(term->via.str.size, 32767);
    ck_assert(utf8_valid(term->via.str.ptr, term->via.str.size));
    box_stop(&b);
}
END_TEST

START_TEST(it_leaves_no_trace_in_log_and_cache)
{
    if (!start("golden/tiny-bert"))
        return;
    for (int i = 0; i < 3; i++)
        box_call(&b, "explain", "{'query': 'my card', 'log': true, 'user': 'eve'}");
    const msgpack_object *cache = object_get(box_call(&b, "info", NULL), "query_cache");
    ck_assert_uint_eq(object_uint(object_get(cache, "hits"), 9), 0);
    ck_assert_uint_eq(object_uint(object_get(cache, "misses"), 9), 0);
    ck_assert_uint_eq(object_uint(object_get(cache, "entries"), 9), 0);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("explain");
    TCase *tests = tcase_create("explain");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, it_finds_what_search_finds_and_tells_how);
    tcase_add_test(tests, tokens_are_those_that_the_model_sees);
    tcase_add_test(tests, times_of_the_steps_fit_into_the_whole);
    tcase_add_test(tests, like_has_no_tokens_and_wrong_requests_are_refused_as_in_search);
    tcase_add_test(tests, a_word_that_is_cut_is_told_in_whole_characters);
    tcase_add_test(tests, it_leaves_no_trace_in_log_and_cache);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
