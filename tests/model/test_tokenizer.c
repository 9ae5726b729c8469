#include "tests/common/testing.h"

#include "base/files.h"
#include "model/tokenizer.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;
static tokenizer *tok;
static token_batch batch;

static void close_all(void)
{
    tokenizer_close(tok);
    tok = NULL;
    token_batch_free(&batch);
}

/* A small uncased vocabulary; the parts that tests vary are given as JSON. */
__attribute__((unused)) static void open_small(const char *added, const char *normalizer, const char *processor)
{
    const char *dir = testing_folder();
    char path[FILES_PATH_MAX], json[8192];
    int n = snprintf(json, sizeof json,
                     "{\"version\":\"1.0\",\"truncation\":{\"max_length\":2},\"padding\":null,\"added_tokens\":%s,"
                     "\"normalizer\":%s,\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"post_processor\":%s,"
                     "\"decoder\":null,\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\","
                     "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":10,\"vocab\":{"
                     "\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"[MASK]\":3,\"a\":4,\"b\":5,\"##a\":6,\"##b\":7,\"ab\":8,"
                     "\"[\":9,\"]\":10,\"mask\":11,\"e\":12,\"##e\":13,\"\\u4e2d\":14,\"A\":15,\"\\u00e9\":16,"
                     "\"##\\u302e\":17,\"##\\u0327\":18,\"##\\u0301\":19,\"e\\u0327\":20,\"new\":21,\"##abb\":22}}}",
                     added, normalizer, processor);
    ck_assert_int_lt(n, (int)sizeof json);
    ck_ok(files_join(path, &error, "%s/tokenizer.json", dir));
    ck_ok(files_write(path, json, strlen(json), &error));
    ck_ok(tokenizer_open(&tok, dir, 30, &error));
}

#define UNCASED "{\"type\":\"BertNormalizer\"}"
#define CASED "{\"type\":\"BertNormalizer\",\"lowercase\":false,\"strip_accents\":null}"
#define MASK(flags) "[{\"id\":3,\"content\":\"[MASK]\",\"special\":true,\"normalized\":false" flags "}]"

__attribute__((unused)) static void expect(const char *text, size_t length, const int32_t *ids, size_t count)
{
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, text, length, 1000, &batch, NULL, &error));
    for (size_t i = 0; i < count && i < batch.tokens; i++)
        ck_assert_msg(batch.ids[i] == ids[i], "\"%s\": token %zu is %d, expected %d", text, i, batch.ids[i], ids[i]);
    ck_assert_msg(batch.tokens == count, "\"%s\": %zu tokens, expected %zu", text, batch.tokens, count);
}

#define EXPECT(text, ...) expect(text, sizeof(text) - 1, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

/* --- equality with the reference */

static size_t golden_line(const char *line, size_t max_tokens, const char *file, size_t number)
{
    json_error_t e;
    json_t *root = json_loads(line, JSON_ALLOW_NUL, &e);
    ck_assert_msg(root != NULL, "%s:%zu: %s", file, number, e.text);
    const json_t *text = json_object_get(root, "text"), *prompt = json_object_get(root, "prompt");
    const json_t *ids = json_object_get(root, "ids");
    size_t before = json_string_length(prompt), length = json_string_length(text);
    char *joined = malloc(before + length + 1);
    ck_assert_ptr_nonnull(joined);
    if (before > 0)
        memcpy(joined, json_string_value(prompt), before);
    memcpy(joined + before, json_string_value(text), length);
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, joined, before + length, max_tokens, &batch, NULL, &error));
    bool equal = batch.tokens == json_array_size(ids);
    for (size_t i = 0; equal && i < batch.tokens; i++)
        equal = batch.ids[i] == json_integer_value(json_array_get(ids, i));
    if (!equal)
        printf("%s:%zu differs\n", file, number);
    free(joined);
    json_decref(root);
    return equal ? 0 : 1;
}

static void golden_file(const char *model, const char *path, size_t vocab, size_t max_tokens, size_t lines)
{
    char *data;
    size_t size;
    ck_ok(tokenizer_open(&tok, model, vocab, &error));
    ck_ok(files_read(path, 64 << 20, &data, &size, &error));
    size_t number = 0, wrong = 0;
    char *rest = data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        if (line[0] != '\0')
            wrong += golden_line(line, max_tokens, path, ++number);
    free(data);
    close_all();
    ck_assert_uint_eq(wrong, 0);
    ck_assert_uint_eq(number, lines);
}

START_TEST(minilm_ids_equal_the_reference)
{
    char golden[FILES_PATH_MAX];
    const char *shared = testing_shared("golden/minilm_tokens.jsonl");
    if (shared == NULL)
        return;
    ck_ok(files_join(golden, &error, "%s", shared));
    const char *model = testing_minilm();
    if (model != NULL)
        golden_file(model, golden, 30522, 256, 758);
}
END_TEST

static const struct {
    const char *name;
    size_t vocab;
    size_t max_tokens;
} FAMILIES[] = {
    {"tiny-bert", 1500, 64},       {"tiny-bert-cls", 1500, 64},
    {"tiny-bert-max", 1500, 64},   {"tiny-distilbert", 1500, 64},
    {"tiny-mpnet", 1500, 64},      {"family-bert-cased-sqrt-f16-prompts", 407, 48},
};

START_TEST(family_ids_equal_the_reference)
{
    char name[256], model[FILES_PATH_MAX], golden[FILES_PATH_MAX];
    ck_ok(files_join(model, &error, "golden/%s", FAMILIES[_i].name));
    snprintf(name, sizeof name, "golden/%s", FAMILIES[_i].name);
    const char *shared = testing_shared(name);
    if (shared == NULL)
        return;
    ck_ok(files_join(model, &error, "%s", shared));
    ck_ok(files_join(golden, &error, "%s/expected.jsonl", shared));
    golden_file(model, golden, FAMILIES[_i].vocab, FAMILIES[_i].max_tokens, 183);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer");
    TCase *golden = tcase_create("golden");
    tcase_set_timeout(golden, 60);
    tcase_add_unchecked_fixture(golden, NULL, close_all);
    tcase_add_test(golden, minilm_ids_equal_the_reference);
    tcase_add_loop_test(golden, family_ids_equal_the_reference, 0, sizeof FAMILIES / sizeof FAMILIES[0]);
    suite_add_tcase(s, golden);
    return s;
}

int main(void)
{
    return testing_run(suite());
}
