/* The forms and prompts of encode, against the real daemon. */
#include "tests/daemon/blackbox.h"

#include <jansson.h>

#include <math.h>
#include <string.h>

enum { DIM_MAX = 256 };

static box b;
static size_t dim;

static bool start(const char *model)
{
    if (!box_create(&b, model))
        return false;
    box_start(&b);
    return true;
}

/* The float32 vector of the first text. */
static void take_vector(const msgpack_object *r, float *out)
{
    const msgpack_object *bin = box_at(object_get(r, "embeddings"), 0);
    dim = object_uint(object_get(r, "dim"), 0);
    ck_assert_uint_le(dim, DIM_MAX);
    ck_assert_int_eq(bin->type, MSGPACK_OBJECT_BIN);
    ck_assert_uint_eq(bin->via.bin.size, dim * sizeof(float));
    memcpy(out, bin->via.bin.ptr, bin->via.bin.size);
}

static int64_t integer(const msgpack_object *o)
{
    ck_assert(o->type == MSGPACK_OBJECT_POSITIVE_INTEGER || o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER);
    return o->via.i64;
}

START_TEST(int8_is_127_times_the_vector_rounded)
{
    float vector[DIM_MAX];
    if (!start("golden/tiny-bert"))
        return;
    for (int i = 0; i < 20; i++) {
        take_vector(box_call(&b, "encode", "{'texts': ['text %d']}", i), vector);
        const msgpack_object *r = box_call(&b, "encode", "{'texts': ['text %d'], 'precision': 'int8'}", i);
        const msgpack_object *bin = box_at(object_get(r, "embeddings"), 0);
        ck_assert_uint_eq(bin->via.bin.size, dim);
        ck_assert_uint_eq(object_uint(object_get(r, "dim"), 0), dim);
        for (size_t d = 0; d < dim; d++)
            ck_assert_int_eq((signed char)bin->via.bin.ptr[d], lrintf(127.0f * vector[d]));
    }
    box_stop(&b);
}
END_TEST

START_TEST(binary_is_the_signs_most_significant_first)
{
    float vector[DIM_MAX];
    if (!start("golden/tiny-bert"))
        return;
    for (int i = 0; i < 20; i++) {
        take_vector(box_call(&b, "encode", "{'texts': ['text %d']}", i), vector);
        const msgpack_object *r = box_call(&b, "encode", "{'texts': ['text %d'], 'precision': 'binary'}", i);
        const msgpack_object *bin = box_at(object_get(r, "embeddings"), 0);
        ck_assert_uint_eq(bin->via.bin.size, (dim + 7) / 8);
        for (size_t d = 0; d < dim; d++)
            ck_assert_int_eq(((unsigned char)bin->via.bin.ptr[d / 8] >> (7 - d % 8)) & 1, vector[d] > 0);
    }
    box_stop(&b);
}
END_TEST

START_TEST(arrays_hold_the_numbers_that_the_bin_would)
{
    if (!start("golden/tiny-bert"))
        return;
    static const char *const precisions[] = {"int8", "binary"};
    for (int k = 0; k < 2; k++) {
        unsigned char bytes[DIM_MAX];
        const msgpack_object *r = box_call(&b, "encode", "{'texts': ['my card'], 'precision': '%s'}", precisions[k]);
        const msgpack_object *bin = box_at(object_get(r, "embeddings"), 0);
        size_t size = bin->via.bin.size;
        ck_assert_uint_le(size, sizeof bytes);
        memcpy(bytes, bin->via.bin.ptr, size);
        r = box_call(&b, "encode", "{'texts': ['my card'], 'precision': '%s', 'encoding': 'array'}", precisions[k]);
        const msgpack_object *numbers = box_at(object_get(r, "embeddings"), 0);
        ck_assert_uint_eq(box_count(numbers), size);
        for (size_t i = 0; i < size; i++)
            ck_assert_int_eq(integer(box_at(numbers, i)), k == 0 ? (signed char)bytes[i] : bytes[i]);
    }
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['x'], 'precision': 'int4'}");
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['x'], 'encoding': 'json'}");
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': []}");
    box_stop(&b);
}
END_TEST

START_TEST(long_and_short_encodes_give_the_same_in_the_order_asked)
{
    static float one[40][DIM_MAX];
    if (!start("golden/tiny-bert"))
        return;
    char list[4096] = "";
    for (int i = 0; i < 40; i++) {
        char text[128] = "";
        for (int w = 0; w < i * 7 % 13 + 1; w++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%sw%d", w > 0 ? " " : "", i);
        take_vector(box_call(&b, "encode", "{'texts': ['%s']}", text), one[i]);
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s'%s'", i > 0 ? ", " : "", text);
    }
    const msgpack_object *r = box_call(&b, "encode", "{'texts': [%s]}", list);
    ck_assert_uint_eq(box_count(object_get(r, "embeddings")), 40);
    ck_assert_uint_eq(box_count(object_get(r, "tokens")), 40);
    for (size_t i = 0; i < 40; i++) {
        float vector[DIM_MAX];
        memcpy(vector, box_at(object_get(r, "embeddings"), i)->via.bin.ptr, dim * sizeof(float));
        for (size_t d = 0; d < dim; d++)
            ck_assert_double_eq_tol(vector[d], one[i][d], 1e-5);
    }
    box_stop(&b);
}
END_TEST

START_TEST(a_prompt_is_the_text_put_before)
{
    float asked[DIM_MAX], written[DIM_MAX], bare[DIM_MAX];
    char prompt[256];
    if (!start("golden/family-bert-cased-sqrt-f16-prompts"))
        return;
    const msgpack_object *plan = object_get(box_call(&b, "explain", "{'query': 'my card'}"), "plan");
    const msgpack_object *text = object_get(plan, "prompt");
    snprintf(prompt, sizeof prompt, "%.*s", (int)text->via.str.size, text->via.str.ptr);
    const msgpack_object *r = box_call(&b, "encode", "{'texts': ['my card'], 'prompt': 'query'}");
    uint64_t tokens = object_uint(box_at(object_get(r, "tokens"), 0), 0);
    take_vector(r, asked);
    /* Several texts take the other way through the daemon; the prompt is for each. */
    r = box_call(&b, "encode", "{'texts': ['my card', 'x'], 'prompt': 'query'}");
    take_vector(r, bare);
    for (size_t d = 0; d < dim; d++)
        ck_assert_double_eq_tol(asked[d], bare[d], 1e-5);
    take_vector(box_call(&b, "encode", "{'texts': ['my card'], 'prompt': 'document'}"), bare);
    ck_assert_mem_ne(asked, bare, dim * sizeof(float));
    /* This model has no default prompt: the same text written out is the same. */
    r = box_call(&b, "encode", "{'texts': ['%smy card']}", prompt);
    take_vector(r, written);
    ck_assert_uint_eq(object_uint(box_at(object_get(r, "tokens"), 0), 0), tokens);
    for (size_t d = 0; d < dim; d++)
        ck_assert_double_eq_tol(asked[d], written[d], 1e-5);
    box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['x'], 'prompt': 'nonesuch'}");
    box_stop(&b);
}
END_TEST

/* A copy of the model whose tokenizer puts nothing around a text. */
static bool start_without_special_tokens(void)
{
    sem_error error;
    char model[FILES_PATH_MAX], path[FILES_PATH_MAX];
    if (!box_create(&b, "golden/tiny-bert"))
        return false;
    ck_ok(files_join(model, &error, "%s/model", testing_folder()));
    ck_ok(files_copy_folder(strchr(b.model, '=') + 1, model, &error));
    ck_ok(files_join(path, &error, "%s/tokenizer.json", model));
    json_t *tokenizer = json_load_file(path, 0, NULL);
    ck_assert_int_eq(json_object_set_new(tokenizer, "post_processor", json_null()), 0);
    ck_assert_int_eq(json_dump_file(tokenizer, path, 0), 0);
    json_decref(tokenizer);
    snprintf(b.model, sizeof b.model, "model.path=%s", model);
    box_start(&b);
    return true;
}

START_TEST(a_text_of_no_tokens_is_refused_by_its_number)
{
    if (!start_without_special_tokens())
        return;
    box_call(&b, "encode", "{'texts': ['one', 'two']}");
    /* The short way through the daemon, and the long one. */
    const char *message = box_fails(&b, "INVALID_ARGUMENT", "encode", "{'texts': ['one', '']}");
    ck_assert_msg(strncmp(message, "texts[1]: ", 10) == 0, "%s", message);
    message = box_fails(&b, "INVALID_ARGUMENT", "encode",
                        "{'texts': ['a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', 'a', '', 'a']}");
    ck_assert_msg(strncmp(message, "texts[9]: ", 10) == 0, "%s", message);
    box_stop(&b);
}
END_TEST

START_TEST(a_query_or_document_of_no_tokens_is_refused_by_its_name)
{
    if (!start_without_special_tokens())
        return;
    static const char *const ways[] = {"search", "explain"};
    for (int i = 0; i < 2; i++) {
        const char *message = box_fails(&b, "INVALID_ARGUMENT", ways[i], "{'query': ''}");
        ck_assert_msg(strncmp(message, "query: no token", 15) == 0, "%s: %s", ways[i], message);
    }
    /* One document keeps its vector, and another is there twice: neither is encoded. */
    box_call(&b, "upsert", "{'docs': [{'id': 1, 'text': 'one'}]}");
    const char *message = box_fails(&b, "INVALID_ARGUMENT", "upsert",
                                    "{'docs': [{'id': 1, 'text': 'one'}, {'id': 2, 'text': 'a'},"
                                    " {'id': 2, 'text': 'two'}, {'id': 3, 'text': ''}]}");
    ck_assert_msg(strncmp(message, "docs[3]: no token", 17) == 0, "%s", message);
    box_call(&b, "collection.create", "{'name': 'cut', 'options': {'passage_tokens': 4}}");
    message = box_fails(&b, "INVALID_ARGUMENT", "upsert",
                        "{'collection': 'cut', 'docs': [{'id': 1, 'text': 'one two three four five six seven'},"
                        " {'id': 2, 'text': ''}]}");
    ck_assert_msg(strncmp(message, "docs[1]: no token", 17) == 0, "%s", message);
    box_stop(&b);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("encode");
    TCase *tests = tcase_create("encode");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, int8_is_127_times_the_vector_rounded);
    tcase_add_test(tests, binary_is_the_signs_most_significant_first);
    tcase_add_test(tests, arrays_hold_the_numbers_that_the_bin_would);
    tcase_add_test(tests, long_and_short_encodes_give_the_same_in_the_order_asked);
    tcase_add_test(tests, a_prompt_is_the_text_put_before);
    tcase_add_test(tests, a_text_of_no_tokens_is_refused_by_its_number);
    tcase_add_test(tests, a_query_or_document_of_no_tokens_is_refused_by_its_name);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
