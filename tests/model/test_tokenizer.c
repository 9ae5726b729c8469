#include "tests/common/testing.h"

#include "base/files.h"
#include "base/random.h"
#include "base/utf8.h"
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
static void open_small(const char *added, const char *normalizer, const char *processor)
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

#define UNCASED     "{\"type\":\"BertNormalizer\"}"
#define CASED       "{\"type\":\"BertNormalizer\",\"lowercase\":false,\"strip_accents\":null}"
#define MASK(flags) "[{\"id\":3,\"content\":\"[MASK]\",\"special\":true,\"normalized\":false" flags "}]"

static void expect_ids(const char *text, size_t length, const int32_t *ids, size_t count)
{
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, text, length, 1000, &batch, NULL, &error));
    for (size_t i = 0; i < count && i < batch.tokens; i++)
        ck_assert_msg(batch.ids[i] == ids[i], "\"%s\": token %zu is %d, expected %d", text, i, batch.ids[i], ids[i]);
    ck_assert_msg(batch.tokens == count, "\"%s\": %zu tokens, expected %zu", text, batch.tokens, count);
}

#define expect_text(text, ...)                                                                                         \
    expect_ids(text, sizeof(text) - 1, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)

/* --- equality with the reference */

static size_t golden_line(const char *line, const json_t *prompts, size_t max_tokens, const char *file, size_t number)
{
    json_error_t e;
    json_t *root = json_loads(line, JSON_ALLOW_NUL, &e);
    ck_assert_msg(root != NULL, "%s:%zu: %s", file, number, e.text);
    const json_t *text = json_object_get(root, "text"), *ids = json_object_get(root, "ids");
    const char *name = json_string_value(json_object_get(root, "prompt"));
    const char *prompt = name != NULL ? json_string_value(json_object_get(prompts, name)) : "";
    ck_assert_ptr_nonnull(prompt);
    size_t before = strlen(prompt), length = json_string_length(text);
    char *joined = malloc(before + length + 1);
    ck_assert_ptr_nonnull(joined);
    memcpy(joined, prompt, before);
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

static void golden_file(const char *model, const char *path, const json_t *prompts, size_t vocab, size_t max_tokens,
                        size_t lines)
{
    char *data;
    size_t size;
    ck_ok(tokenizer_open(&tok, model, vocab, &error));
    ck_ok(files_read(path, 64 << 20, &data, &size, &error));
    size_t number = 0, wrong = 0;
    char *rest = data;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        if (line[0] != '\0')
            wrong += golden_line(line, prompts, max_tokens, path, ++number);
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
        golden_file(model, golden, NULL, 30522, 256, 758);
}
END_TEST

static const struct {
    const char *name;
    size_t vocab;
    size_t max_tokens;
    size_t lines;
} FAMILIES[] = {
    {"tiny-bert", 1500, 64, 183},
    {"tiny-bert-cls", 1500, 64, 183},
    {"tiny-bert-max", 1500, 64, 183},
    {"tiny-distilbert", 1500, 64, 183},
    {"tiny-mpnet", 1500, 64, 183},
    {"family-bert-cased-sqrt-f16-prompts", 407, 48, 240},
    {"family-bert-layernorm-eps-nogelu", 385, 64, 160},
    {"family-distilbert-max-nonorm", 385, 64, 80},
    {"family-mpnet-weighted", 385, 64, 80},
    {"tiny-roberta", 1500, 64, 183},
    {"family-roberta-cls-mean-bf16", 652, 40, 80},
    {"family-roberta-lasttoken", 616, 64, 80},
    {"tiny-xlmr", 4002, 64, 183},
    {"family-xlmr-dense-tanh", 235, 32, 80},
};

START_TEST(family_ids_equal_the_reference)
{
    char name[256], model[FILES_PATH_MAX], path[FILES_PATH_MAX];
    json_error_t e;
    snprintf(name, sizeof name, "golden/%s", FAMILIES[_i].name);
    const char *shared = testing_shared(name);
    if (shared == NULL)
        return;
    ck_ok(files_join(model, &error, "%s", shared));
    ck_ok(files_join(path, &error, "%s/config_sentence_transformers.json", model));
    json_t *c = json_load_file(path, 0, &e);
    ck_assert_msg(c != NULL, "%s: %s", path, e.text);
    ck_ok(files_join(path, &error, "%s/expected.jsonl", model));
    golden_file(model, path, json_object_get(c, "prompts"), FAMILIES[_i].vocab, FAMILIES[_i].max_tokens,
                FAMILIES[_i].lines);
    json_decref(c);
}
END_TEST

/* --- each rule by itself */

START_TEST(words_are_cut_into_the_longest_pieces)
{
    open_small("[]", UNCASED, "null");
    expect_text("ab", 8);
    expect_text("aba", 8, 6);
    expect_text("abab", 8, 6, 7);
    expect_text("ababb", 8, 22);
    expect_text("AB a", 8, 4);
    expect_text("abx", 0);
    expect_text("aaaaaaaaaa", 4, 6, 6, 6, 6, 6, 6, 6, 6, 6);
    expect_text("aaaaaaaaaaa", 0);
    expect_text("a]b", 4, 10, 5);
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, "", 0, 10, &batch, NULL, &error));
    ck_assert_uint_eq(batch.tokens, 0);
    ck_assert_uint_eq(batch.texts, 1);
    ck_assert_uint_eq(batch.lengths[0], 0);
}
END_TEST

START_TEST(accents_case_controls_and_ideographs_follow_the_rules)
{
    open_small("[]", UNCASED, "null");
    expect_text("\xC3\x89", 12); /* E acute becomes e */
    expect_text("e\xCC\x81", 12);
    expect_text("a\xE2\x80\x8D"
                "b",
                8); /* a joiner is removed */
    expect_text("a\0b", 8);
    expect_text("a\tb\xC2\xA0"
                "a\xE3\x80\x80"
                "b",
                4, 5, 4, 5); /* white space of all kinds */
    expect_text("a\xE4\xB8\xAD"
                "b",
                4, 14, 5);           /* an ideograph stands alone */
    expect_text("a\xE2\x82\xAC", 0); /* the euro sign is no punctuation */
}
END_TEST

START_TEST(cased_text_keeps_case_and_accents)
{
    open_small("[]", CASED, "null");
    expect_text("A a", 15, 4);
    expect_text("\xC3\xA9", 16);
    expect_text("e\xCC\x81", 12, 19); /* not composed */
}
END_TEST

START_TEST(marks_that_stay_are_put_in_canonical_order)
{
    open_small("[]", "{\"type\":\"BertNormalizer\",\"lowercase\":false,\"strip_accents\":true}", "null");
    expect_text("a\xE3\x80\xAE", 4, 17);
    /* U+302E (class 224) and U+1BF2 (class 9) change places, whatever is removed between them */
    expect_text("\xE3\x80\xAE\xCC\x81\xE1\xAF\xB2", 0);
    /* a removed mark of class 0 keeps them apart */
    expect_text("a\xE3\x80\xAE\xCD\x8F", 4, 17);
}
END_TEST

START_TEST(special_tokens_are_found_in_the_raw_text)
{
    open_small(MASK(""), UNCASED, "null");
    expect_text("[MASK]", 3);
    expect_text("a[MASK]b", 4, 3, 5);
    expect_text("[MASK][MASK] [MASK]", 3, 3, 3);
    expect_text("[mask]", 9, 11, 10);
    expect_text("[[MASK]]", 9, 3, 10);
    expect_text("[MASK", 9, 11);
}
END_TEST

START_TEST(single_word_tokens_stand_between_no_word_characters)
{
    open_small("[{\"id\":21,\"content\":\"new\",\"single_word\":true}]", UNCASED, "null");
    expect_text("new", 21);
    expect_text("a new!b", 4, 21, 0, 5);
    expect_text("newa", 21, 6); /* from the vocabulary, where it is a word */
    expect_text("new_", 21, 0);
    expect_text("\xC3\xA9"
                "new",
                0);
}
END_TEST

START_TEST(stripping_tokens_take_white_space_along)
{
    open_small("[{\"id\":23,\"content\":\"<l>\",\"lstrip\":true},{\"id\":24,\"content\":\"<r>\",\"rstrip\":true},"
               "{\"id\":25,\"content\":\" x\",\"normalized\":true}]",
               CASED, "null");
    expect_text("a \xE2\x80\x83<l>b", 4, 23, 5);
    expect_text("a<r> \n b", 4, 24, 5);
    expect_text("<r>  <l>", 24, 23);
    expect_text("a x", 4, 25);
    expect_text("a<l> x", 4, 23, 25);
    expect_text("a<r> x", 4, 24, 0);
}
END_TEST

START_TEST(normalized_tokens_are_found_after_normalization)
{
    open_small("[{\"id\":23,\"content\":\"N\u00c9W\",\"normalized\":true},"
               "{\"id\":24,\"content\":\"ab b\",\"normalized\":true},"
               "{\"id\":25,\"content\":\"ab\\u4e2d\",\"normalized\":true}]",
               UNCASED, "null");
    expect_text("a new b", 4, 23, 5);
    expect_text("NE\xCC\x81W", 23);
    expect_text("aB\tb", 24);
    expect_text("ab\xE4\xB8\xAD", 25);
}
END_TEST

#define BERT_AROUND "{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]}"
#define TEMPLATE_AROUND                                                                                                \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}},"                \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"[SEP]\",\"type_id\":0}}],\"pair\":[],"    \
    "\"special_tokens\":{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":[1],\"tokens\":[\"[CLS]\"]},"                             \
    "\"[SEP]\":{\"id\":\"[SEP]\",\"ids\":[2],\"tokens\":[\"[SEP]\"]}}}"

START_TEST(a_text_is_put_between_special_tokens)
{
    open_small("[]", UNCASED, BERT_AROUND);
    expect_text("a", 1, 4, 2);
    expect_text("", 1, 2);
    close_all();
    open_small("[]", UNCASED, TEMPLATE_AROUND);
    expect_text("a", 1, 4, 2);
    close_all();
    open_small("[]", UNCASED, "{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\"}," TEMPLATE_AROUND "]}");
    expect_text("a", 1, 4, 2);
}
END_TEST

/* The file's own truncation (2) is not looked at. */
START_TEST(truncation_keeps_the_left_and_the_special_tokens)
{
    bool cut;
    open_small(MASK(""), UNCASED, BERT_AROUND);
    for (size_t max = 2; max < 9; max++) {
        static const int32_t WHOLE[] = {1, 8, 6, 3, 4, 5, 2};
        token_batch_clear(&batch);
        ck_ok(tokenizer_encode(tok, "aba[MASK]a b", 12, max, &batch, &cut, &error));
        ck_assert(cut == (max < 7));
        ck_assert_uint_eq(batch.tokens, max < 7 ? max : 7);
        for (size_t i = 0; i + 1 < batch.tokens; i++)
            ck_assert_int_eq(batch.ids[i], WHOLE[i]);
        ck_assert_int_eq(batch.ids[batch.tokens - 1], 2);
    }
    token_batch_clear(&batch);
    ck_fails(tokenizer_encode(tok, "a", 1, 1, &batch, &cut, &error), SEM_INVALID_ARGUMENT);
    ck_assert_uint_eq(batch.texts, 0);
    /* an unknown word whose first pieces fill the limit is unknown all the same */
    ck_ok(tokenizer_encode(tok, "ababx", 5, 4, &batch, &cut, &error));
    ck_assert(!cut && batch.tokens == 3 && batch.ids[1] == 0);
}
END_TEST

START_TEST(texts_lie_end_to_end)
{
    static const int32_t MORE[] = {7, 8};
    open_small("[]", UNCASED, BERT_AROUND);
    ck_ok(tokenizer_encode(tok, "a", 1, 9, &batch, NULL, &error));
    ck_ok(tokenizer_encode(tok, "", 0, 9, &batch, NULL, &error));
    ck_assert(token_batch_append(&batch, MORE, 2));
    ck_assert_uint_eq(batch.texts, 3);
    ck_assert_uint_eq(batch.tokens, 7);
    ck_assert(batch.lengths[0] == 3 && batch.lengths[1] == 2 && batch.lengths[2] == 2);
    ck_assert_mem_eq(batch.ids, ((const int32_t[]){1, 4, 2, 1, 2, 7, 8}), 28);
    ck_assert_str_eq(tokenizer_token(tok, 8), "ab");
    ck_assert_ptr_null(tokenizer_token(tok, 29));
    ck_assert_ptr_null(tokenizer_token(tok, 30));
    ck_assert_ptr_null(tokenizer_token(tok, -1));
}
END_TEST

/* --- hostile text */

static void ck_tokens_of_repeated(const char *unit, size_t bytes, size_t expected)
{
    size_t n = strlen(unit), count = bytes / n;
    char *text = malloc(count * n + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * n, unit, n);
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, text, count * n, SIZE_MAX, &batch, NULL, &error));
    ck_assert_msg(batch.tokens == expected, "%zu times \"%s\": %zu tokens, expected %zu", count, unit, batch.tokens,
                  expected);
    bool cut;
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, text, count * n, 4, &batch, &cut, &error));
    ck_assert_uint_eq(batch.tokens, expected < 4 ? expected : 4);
    free(text);
}

/* Anything that is not linear takes minutes here, and the time limit of the test ends it. */
START_TEST(hostile_text_takes_linear_time)
{
    open_small("[{\"id\":3,\"content\":\"[MASK]\"},{\"id\":23,\"content\":\" \",\"lstrip\":true,\"rstrip\":true},"
               "{\"id\":24,\"content\":\"\u3000z\",\"lstrip\":true,\"single_word\":true}]",
               UNCASED, BERT_AROUND);
    ck_tokens_of_repeated("a", 10 << 20, 3);
    ck_tokens_of_repeated("[MASK]", 6 << 20, (1 << 20) + 2);
    ck_tokens_of_repeated("[MAS", 8 << 20, 2 * (2 << 20) + 2);
    ck_tokens_of_repeated("\xCC\x81", 2 << 20, 2);                 /* a million marks that are removed */
    ck_tokens_of_repeated("\xE3\x80\xAE\xE1\xAF\xB2", 6 << 20, 3); /* two million that change places */
    ck_tokens_of_repeated("\xEA\xB0\x80", 3 << 20, 3);             /* one word of Hangul, decomposed */
    ck_tokens_of_repeated(" ", 1 << 20, (1 << 20) + 2);
    ck_tokens_of_repeated("\xE3\x80\x80", 3 << 20, 2);
    ck_tokens_of_repeated("[", 1 << 20, (1 << 20) + 2);
}
END_TEST

START_TEST(hostile_text_with_normalized_tokens_takes_linear_time)
{
    open_small("[{\"id\":23,\"content\":\"ab\\u302e\",\"normalized\":true}]", UNCASED, BERT_AROUND);
    ck_tokens_of_repeated("a", 4 << 20, 3);
    ck_tokens_of_repeated("\xE3\x80\xAE\xE1\xAF\xB2", 6 << 20, 3);
    ck_tokens_of_repeated("ab\xE3\x80\xAE", 5 << 20, (1 << 20) + 2);
}
END_TEST

/* Random valid UTF-8, with and without the two-step path: ids stay in the
 * vocabulary, and a lower limit gives the beginning of the longer sequence. */
START_TEST(any_text_gives_ids_of_the_vocabulary)
{
    random_state r;
    char text[400];
    random_seed(&r, testing_seed());
    open_small(_i == 0 ? MASK("") : "[{\"id\":23,\"content\":\"ab b\",\"normalized\":true,\"lstrip\":true}]", UNCASED,
               BERT_AROUND);
    for (size_t round = 0; round < 20000; round++) {
        size_t length = 0, chars = random_below(&r, 90);
        for (size_t i = 0; i < chars; i++) {
            uint64_t limit = random_below(&r, 4) == 0 ? 0x110000 : random_below(&r, 2) == 0 ? 0x400 : 0x80;
            uint32_t code = (uint32_t)random_below(&r, limit);
            length += utf8_encode(code >= 0xD800 && code < 0xE000 ? 'a' : code, text + length);
        }
        token_batch_clear(&batch);
        ck_ok(tokenizer_encode(tok, text, length, 500, &batch, NULL, &error));
        size_t max = 2 + random_below(&r, 20);
        ck_ok(tokenizer_encode(tok, text, length, max, &batch, NULL, &error));
        for (size_t i = 0; i < batch.tokens; i++)
            ck_assert(batch.ids[i] >= 0 && batch.ids[i] < 30);
        ck_assert_uint_eq(batch.lengths[1], batch.lengths[0] < max ? batch.lengths[0] : max);
        ck_assert_mem_eq(batch.ids, batch.ids + batch.lengths[0], (batch.lengths[1] - 1) * sizeof batch.ids[0]);
    }
}
END_TEST

static void *encode_many(void *arg)
{
    token_batch mine = {0};
    sem_error err;
    size_t wrong = 0;
    for (size_t i = 0; i < 2000; i++) {
        token_batch_clear(&mine);
        if (tokenizer_encode(tok, "aba \xC3\x89 [MASK]", 13, 100, &mine, NULL, &err) != SEM_OK || mine.tokens != 6)
            wrong++;
    }
    token_batch_free(&mine);
    *(size_t *)arg = wrong;
    return NULL;
}

START_TEST(threads_share_a_tokenizer)
{
    pthread_t threads[4];
    size_t wrong[4];
    open_small(MASK(""), UNCASED, BERT_AROUND);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, encode_many, &wrong[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_uint_eq(wrong[i], 0);
    }
}
END_TEST

/* --- hostile files */

static const struct {
    const char *json;
    const char *first, *second;
} REFUSED[] = {
    {"{", "not valid JSON", "line"},
    {"[]", "model", "nothing"},
    {"{\"model\":{\"type\":\"WordLevel\",\"vocab\":{}}}", "WordLevel", "WordPiece"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":[]}}", "model.vocab", "an array"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":30}}}", "[UNK]", "30 rows"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":-1}}}", "[UNK]", "-1"},
    {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":1.5}}}", "[UNK]", "a fraction"},
    {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0}}}",
     "ByteLevel", "not supported"},
    {"{\"normalizer\":{\"type\":\"Nmt\"},\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0}}}", "Nmt",
     "BertNormalizer"},
#define SOUND                                                                                                          \
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"[UNK]\":0,"      \
    "\"a\":1}}"
    {"{\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}",
     "unk_token", "[UNK]"},
    {"{\"added_tokens\":{}," SOUND "}", "added_tokens", "an object"},
    {"{\"added_tokens\":[1]," SOUND "}", "added_tokens", "an integer"},
    {"{\"added_tokens\":[{\"id\":2}]," SOUND "}", "added_tokens", "content"},
    {"{\"added_tokens\":[{\"id\":99,\"content\":\"x\"}]," SOUND "}", "\"x\"", "99"},
    {"{\"added_tokens\":[{\"id\":2,\"content\":\"a\"}]," SOUND "}", "\"a\"", "as in model.vocab"},
    {"{\"added_tokens\":[{\"id\":1,\"content\":\"x\"}]," SOUND "}", "\"x\"", "belongs to"},
    {"{\"post_processor\":{\"type\":\"Odd\"}," SOUND "}", "Odd", "not supported"},
    {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",77],\"sep\":[\"y\",1]}," SOUND "}", "77", "30"},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}," SOUND "}", "0 times", "once"},
    {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"q\"}}]}," SOUND "}",
     "\"q\"", "special_tokens"},
};

START_TEST(tokenizers_that_are_not_understood_are_refused_by_name)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/tokenizer.json", testing_folder()));
    ck_ok(files_write(path, REFUSED[_i].json, strlen(REFUSED[_i].json), &error));
    ck_fails(tokenizer_open(&tok, testing_folder(), 30, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(tok);
    ck_assert_msg(strstr(error.message, path) != NULL, "no file: %s", error.message);
    ck_assert_msg(strstr(error.message, REFUSED[_i].first) != NULL, "no \"%s\": %s", REFUSED[_i].first, error.message);
    ck_assert_msg(strstr(error.message, REFUSED[_i].second) != NULL, "no \"%s\": %s", REFUSED[_i].second,
                  error.message);
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
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_checked_fixture(rules, NULL, close_all);
    tcase_add_test(rules, words_are_cut_into_the_longest_pieces);
    tcase_add_test(rules, accents_case_controls_and_ideographs_follow_the_rules);
    tcase_add_test(rules, cased_text_keeps_case_and_accents);
    tcase_add_test(rules, marks_that_stay_are_put_in_canonical_order);
    tcase_add_test(rules, special_tokens_are_found_in_the_raw_text);
    tcase_add_test(rules, single_word_tokens_stand_between_no_word_characters);
    tcase_add_test(rules, stripping_tokens_take_white_space_along);
    tcase_add_test(rules, normalized_tokens_are_found_after_normalization);
    tcase_add_test(rules, a_text_is_put_between_special_tokens);
    tcase_add_test(rules, truncation_keeps_the_left_and_the_special_tokens);
    tcase_add_test(rules, texts_lie_end_to_end);
    tcase_add_test(rules, hostile_text_takes_linear_time);
    tcase_add_test(rules, hostile_text_with_normalized_tokens_takes_linear_time);
    tcase_add_loop_test(rules, any_text_gives_ids_of_the_vocabulary, 0, 2);
    tcase_add_test(rules, threads_share_a_tokenizer);
    tcase_add_loop_test(rules, tokenizers_that_are_not_understood_are_refused_by_name, 0,
                        sizeof REFUSED / sizeof REFUSED[0]);
    suite_add_tcase(s, rules);
    return s;
}

int main(void)
{
    return testing_run(suite());
}
