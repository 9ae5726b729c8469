/* The cache of query embeddings, seen from outside. */
#include "tests/daemon/blackbox.h"

#include <string.h>
#include <unistd.h>

enum { DIM = 48 };

static box b;

static uint64_t hits(void)
{
    return object_uint(object_get(object_get(box_call(&b, "info", NULL), "query_cache"), "hits"), 999);
}

static uint64_t misses(void)
{
    return object_uint(object_get(object_get(box_call(&b, "info", NULL), "query_cache"), "misses"), 999);
}

/* The vector of a text; beside: encoded with another, which no cache answers. */
static void encode(const char *text, bool beside, float out[DIM])
{
    const msgpack_object *r =
        box_call(&b, "encode", beside ? "{'texts': ['%s', 'something else']}" : "{'texts': ['%s']}", text);
    const msgpack_object *bin = box_at(object_get(r, "embeddings"), 0);
    ck_assert_uint_eq(bin->via.bin.size, DIM * sizeof(float));
    memcpy(out, bin->via.bin.ptr, DIM * sizeof(float));
}

static void check_equal(const float *x, const float *y)
{
    for (int i = 0; i < DIM; i++)
        ck_assert_double_eq_tol(x[i], y[i], 1e-5);
}

START_TEST(a_query_asked_again_is_answered_the_same_from_memory)
{
    float first[DIM], again[DIM];
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    box_start(&b);
    encode("where is my refund", false, first);
    ck_assert_uint_eq(hits(), 0);
    ck_assert_uint_eq(misses(), 1);
    encode("where is my refund", false, again);
    ck_assert_uint_eq(hits(), 1);
    ck_assert_mem_eq(first, again, sizeof first);
    encode("where is my refund", true, again);
    check_equal(first, again);
    ck_assert_uint_eq(hits() + misses(), 2); /* several texts neither ask nor are kept */
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['where is my refund', 'x']}");
    uint64_t tokens = object_uint(box_at(object_get(r, "tokens"), 0), 0);
    r = box_call(&b, "encode", "{'texts': ['where is my refund'], 'precision': 'int8'}");
    ck_assert_uint_eq(box_at(object_get(r, "embeddings"), 0)->via.bin.size, DIM);
    ck_assert_uint_eq(object_uint(box_at(object_get(r, "tokens"), 0), 0), tokens);
    ck_assert_uint_eq(hits(), 2);
    box_stop(&b);
}
END_TEST

START_TEST(searches_share_the_cache_and_documents_do_not)
{
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    box_start(&b);
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'where is my refund'}]}");
    ck_assert_uint_eq(misses(), 0);
    for (int i = 0; i < 3; i++) {
        const msgpack_object *r = box_call(&b, "search", "{'query': 'where is my refund'}");
        const msgpack_object *hit = box_at(object_get(r, "hits"), 0);
        ck_assert_double_eq_tol(object_double(object_get(hit, "score"), 0), 1.0, 1e-5);
    }
    ck_assert_uint_eq(hits(), 2);
    ck_assert_uint_eq(misses(), 1);
    box_stop(&b);
}
END_TEST

START_TEST(a_text_that_is_too_long_is_refused_from_memory_as_well)
{
    char text[501];
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    box_start(&b);
    for (int i = 0; i < 500; i++)
        text[i] = i % 5 == 4 ? ' ' : 'a';
    text[500] = '\0';
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['%s']}", text);
    ck_assert(box_at(object_get(r, "truncated"), 0)->via.boolean);
    r = box_call(&b, "encode", "{'texts': ['%s']}", text);
    ck_assert(box_at(object_get(r, "truncated"), 0)->via.boolean);
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['%s'], 'truncate': false}", text);
    ck_assert_uint_eq(hits(), 2);
    box_stop(&b);
}
END_TEST

START_TEST(prompts_have_vectors_of_their_own)
{
    if (!box_create(&b, "golden/family-bert-cased-sqrt-f16-prompts"))
        return;
    box_start(&b);
    unsigned char vectors[2][4096];
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 2; i++) {
            const msgpack_object *r =
                box_call(&b, "encode", "{'texts': ['money'], 'prompt': '%s'}", i == 0 ? "query" : "document");
            const msgpack_object *bin = box_at(object_get(r, "embeddings"), 0);
            ck_assert_uint_le(bin->via.bin.size, sizeof vectors[0]);
            if (round == 0)
                memcpy(vectors[i], bin->via.bin.ptr, bin->via.bin.size);
            else
                ck_assert_mem_eq(vectors[i], bin->via.bin.ptr, bin->via.bin.size);
            if (round == 0 && i == 1)
                ck_assert_mem_ne(vectors[0], vectors[1], bin->via.bin.size);
        }
    ck_assert_uint_eq(hits(), 2);
    box_stop(&b);
}
END_TEST

START_TEST(no_vector_outlives_its_generation)
{
    float first[DIM], second[DIM], now[DIM];
    char path[FILES_PATH_MAX];
    const char *other = testing_shared("golden/tiny-bert-cls");
    if (other == NULL)
        return;
    ck_assert_ptr_nonnull(realpath(other, path));
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    box_start(&b);
    encode("where is my refund", false, first);
    encode("where is my refund", false, first);
    box_call(&b, "model.load", "{'path': '%s', 'gate': false}", path);
    box_wait_for_job(&b, "done");
    encode("where is my refund", true, second);
    encode("where is my refund", false, now);
    check_equal(now, second);
    encode("where is my refund", false, now);
    check_equal(now, second);
    double cosine = 0;
    for (int i = 0; i < DIM; i++)
        cosine += (double)first[i] * second[i];
    ck_assert_double_lt(cosine, 0.999); /* the models do differ */
    ck_assert_uint_eq(hits(), 2);
    ck_assert_uint_eq(object_uint(object_get(box_call(&b, "rollback", "{}"), "generation"), 0), 1);
    encode("where is my refund", false, now);
    check_equal(now, first);
    ck_assert_uint_eq(hits(), 2);
    encode("where is my refund", false, now);
    check_equal(now, first);
    ck_assert_uint_eq(hits(), 3);
    box_stop(&b);
}
END_TEST

START_TEST(it_can_be_turned_off)
{
    float first[DIM];
    if (!box_create(&b, "golden/tiny-bert"))
        return;
    b.options[0] = "encode.cache_bytes=0";
    box_start(&b);
    for (int i = 0; i < 3; i++)
        encode("where is my refund", false, first);
    ck_assert_uint_eq(hits(), 0);
    ck_assert_uint_eq(misses(), 0);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cache");
    TCase *tests = tcase_create("cache");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_query_asked_again_is_answered_the_same_from_memory);
    tcase_add_test(tests, searches_share_the_cache_and_documents_do_not);
    tcase_add_test(tests, a_text_that_is_too_long_is_refused_from_memory_as_well);
    tcase_add_test(tests, prompts_have_vectors_of_their_own);
    tcase_add_test(tests, no_vector_outlives_its_generation);
    tcase_add_test(tests, it_can_be_turned_off);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
