/* Byte-level BPE and Unigram: hostile texts and hostile files. That their ids
 * equal the reference is checked in test_tokenizer.c. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "base/random.h"
#include "base/utf8.h"
#include "model/tokenizer.h"

#include <jansson.h>

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

static bool open_golden(const char *name, size_t vocab)
{
    const char *dir = testing_shared(name);
    if (dir == NULL)
        return false;
    ck_ok(tokenizer_open(&tok, dir, vocab, &error));
    return true;
}

static void put(const char *json)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/tokenizer.json", testing_folder()));
    ck_ok(files_write(path, json, strlen(json), &error));
}

static size_t tokens_of_repeated(const char *unit, size_t count, size_t limit, bool *cut)
{
    size_t n = strlen(unit);
    char *text = malloc(count * n + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * n, unit, n);
    token_batch_clear(&batch);
    ck_ok(tokenizer_encode(tok, text, count * n, limit, &batch, cut, &error));
    free(text);
    return batch.tokens;
}

/* As many tokens as a thousandth of the text has, a thousand times; or a word that is one token
 * however long it is, with marks around it. */
static void ck_tokens_grow_with(const char *unit, size_t bytes)
{
    enum { PART = 1000, AROUND = 2 };
    bool cut;
    size_t part = bytes / strlen(unit) / PART;
    size_t whole = tokens_of_repeated(unit, part * PART, SIZE_MAX, &cut);
    ck_assert(!cut);
    size_t few = tokens_of_repeated(unit, part, SIZE_MAX, &cut);
    ck_assert_double_eq_tol((double)(whole - AROUND), (double)(few - AROUND) * PART, 0.01 * (double)whole + 2 * PART);
    size_t limited = tokens_of_repeated(unit, part * PART, 4, &cut);
    ck_assert(cut == (whole > 4) && limited == (whole < 4 ? whole : 4));
}

static const struct {
    const char *name;
    size_t vocab;
} MODELS[] = {{"golden/tiny-roberta", 1500}, {"golden/tiny-xlmr", 4002}};

/* Anything that is not linear takes minutes here, and the time limit of the test ends it. */
START_TEST(hostile_text_takes_linear_time)
{
    if (!open_golden(MODELS[_i].name, MODELS[_i].vocab))
        return;
    ck_tokens_grow_with("a", 4 << 20);
    ck_tokens_grow_with("etaoinshrdlu", 2 << 20);
    ck_tokens_grow_with("\xCC\x81", 2 << 20);
    ck_tokens_grow_with("\xE3\x80\xAE\xE1\xAF\xB2", 2 << 20);
    ck_tokens_grow_with(" ", 4 << 20);
    ck_tokens_grow_with("<mask>", 4 << 20);
    ck_tokens_grow_with("<mas", 2 << 20);
    ck_tokens_grow_with("\xE2\x96\x81", 2 << 20);
    ck_tokens_grow_with("\xF0\x9F\x91\xA8\xE2\x80\x8D", 2 << 20); /* one grapheme cluster */
}
END_TEST

START_TEST(any_text_gives_ids_of_the_vocabulary)
{
    random_state r;
    char text[400];
    random_seed(&r, testing_seed());
    if (!open_golden(MODELS[_i].name, MODELS[_i].vocab))
        return;
    for (size_t round = 0; round < 10000; round++) {
        size_t length = 0, chars = random_below(&r, 90);
        for (size_t i = 0; i < chars; i++) {
            uint64_t limit = random_below(&r, 4) == 0 ? 0x110000 : random_below(&r, 2) == 0 ? 0x400 : 0x80;
            uint32_t code = (uint32_t)random_below(&r, limit);
            length += utf8_encode(code >= 0xD800 && code < 0xE000 ? 'a' : code, text + length);
        }
        size_t max = 2 + random_below(&r, 20);
        token_batch_clear(&batch);
        ck_ok(tokenizer_encode(tok, text, length, 1000, &batch, NULL, &error));
        ck_ok(tokenizer_encode(tok, text, length, max, &batch, NULL, &error));
        for (size_t i = 0; i < batch.tokens; i++)
            ck_assert(batch.ids[i] >= 0 && (size_t)batch.ids[i] < MODELS[_i].vocab);
        ck_assert_uint_eq(batch.lengths[1], batch.lengths[0] < max ? batch.lengths[0] : max);
        ck_assert_mem_eq(batch.ids, batch.ids + batch.lengths[0], (batch.lengths[1] - 1) * sizeof batch.ids[0]);
    }
}
END_TEST

/* An added token that is looked for in normalized text lets a text be normalized as one. */
static void open_whole(tokenizer **out, const char *name, size_t vocab)
{
    json_error_t e;
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/tokenizer.json", testing_shared(name)));
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &e);
    ck_assert_msg(root != NULL, "%s", e.text);
    json_array_append_new(json_object_get(root, "added_tokens"),
                          json_pack("{s:i, s:s, s:b}", "id", (int)vocab, "content", "~never there~", "normalized", 1));
    ck_ok(files_join(path, &error, "%s/tokenizer.json", testing_folder()));
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    json_decref(root);
    ck_ok(tokenizer_open(out, testing_folder(), vocab + 1, &error));
}

static size_t random_words(random_state *r, char *text, size_t bytes)
{
    static const char *const others[] = {" ",
                                         "  ",
                                         "\n",
                                         "'s",
                                         "\xCC\x81",
                                         "\xCC\xA7",
                                         "1",
                                         "\xC3\xA9",
                                         "\xE3\x80\x80",
                                         "\xE2\x96\x81",
                                         "\xD8\x80",
                                         "\xE2\x80\x8D",
                                         "\xEF\xBC\xA1",
                                         "\xF0\x9F\x91\xA8",
                                         "\r\n",
                                         ".",
                                         "\t"};
    size_t n = 0;
    while (n + 40 < bytes) {
        for (size_t i = random_below(r, 9); i > 0; i--)
            text[n++] = (char)((random_below(r, 5) == 0 ? 'A' : 'a') + (int)random_below(r, 26));
        const char *other = random_below(r, 2) == 0 ? " " : others[random_below(r, sizeof others / sizeof others[0])];
        memcpy(text + n, other, strlen(other));
        n += strlen(other);
    }
    return n;
}

START_TEST(long_text_in_pieces_gives_the_ids_of_the_whole)
{
    enum { BYTES = 100000 };
    random_state r;
    random_seed(&r, testing_seed());
    if (!open_golden(MODELS[_i].name, MODELS[_i].vocab))
        return;
    tokenizer *whole = NULL;
    open_whole(&whole, MODELS[_i].name, MODELS[_i].vocab);
    char *text = malloc(BYTES);
    ck_assert_ptr_nonnull(text);
    for (size_t round = 0; round < 40; round++) {
        size_t length = random_words(&r, text, BYTES), max = round % 2 == 0 ? SIZE_MAX : 2 + random_below(&r, 40000);
        bool cut, whole_cut;
        token_batch_clear(&batch);
        ck_ok(tokenizer_encode(tok, text, length, max, &batch, &cut, &error));
        ck_ok(tokenizer_encode(whole, text, length, max, &batch, &whole_cut, &error));
        ck_assert_uint_eq(batch.lengths[0], batch.lengths[1]);
        ck_assert_mem_eq(batch.ids, batch.ids + batch.lengths[0], batch.lengths[0] * sizeof *batch.ids);
        ck_assert(cut == whole_cut);
    }
    free(text);
    tokenizer_close(whole);
}
END_TEST

#define UNIGRAM(normalizer, pre, more)                                                                                 \
    "{\"normalizer\":" normalizer ",\"pre_tokenizer\":" pre ",\"model\":{\"type\":\"Unigram\"," more "}}"
#define VOCAB       "\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"\\u2581a\",-1],[\"b\",-2],[\"\\u2581\",-3.5],[\"bb\",-3.9]]"
#define META        "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\"}"
#define MAP(base64) "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"" base64 "\"}"
#define LEVEL       "{\"type\":\"ByteLevel\"}"
#define BPE(more)   "{\"pre_tokenizer\":" LEVEL ",\"model\":{\"type\":\"BPE\"," more "}}"

START_TEST(the_best_scored_pieces_are_taken)
{
    put(UNIGRAM("null", META, VOCAB));
    ck_ok(tokenizer_open(&tok, testing_folder(), 5, &error));
    /* "bb" (-3.9) beats "b" "b" (-4); unknown neighbours are one token */
    ck_ok(tokenizer_encode(tok, "abb xyz b", 9, 100, &batch, NULL, &error));
    ck_assert_uint_eq(batch.tokens, 6);
    ck_assert_mem_eq(batch.ids, ((const int32_t[]){1, 4, 3, 0, 3, 2}), 24);
}
END_TEST

static const struct {
    const char *json;
    const char *first, *second;
} REFUSED[] = {
    {UNIGRAM("null", META, "\"vocab\":{}"), "model.vocab", "an array"},
    {UNIGRAM("null", META, "\"unk_id\":0,\"vocab\":[[\"a\",0],[\"b\"]]"), "vocab[1]", "[piece, score]"},
    {UNIGRAM("null", META, "\"unk_id\":0,\"vocab\":[[\"a\",0],7]"), "vocab[1]", "[piece, score]"},
    {UNIGRAM("null", META, "\"unk_id\":0,\"vocab\":[]"), "unk_id", "unk_id"},
    {UNIGRAM("null", META, "\"unk_id\":9,\"vocab\":[[\"a\",0]]"), "unk_id", "9"},
    {UNIGRAM("null", META, "\"unk_id\":null,\"vocab\":[[\"a\",0]]"), "unk_id", "missing"},
    {UNIGRAM("null", META, "\"byte_fallback\":true," VOCAB), "byte_fallback", "not supported"},
    {UNIGRAM("null", META, "\"vocab\":[[1,1],[1,1],[1,1],[1,1],[1,1],[1,1],[1,1]]"), "7 tokens", "5 rows"},
    {UNIGRAM("null", LEVEL, VOCAB), "ByteLevel", "not supported"},
    {UNIGRAM("{\"type\":\"Prepend\",\"prepend\":\"a\"}",
             "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\","
             "\"prepend_scheme\":\"first\"}]}",
             VOCAB),
     "first", "not supported"},
    {UNIGRAM("{\"type\":\"Nmt\"}", META, VOCAB), "Nmt", "Precompiled"},
    {UNIGRAM("{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a*\"},\"content\":\"\"}", META, VOCAB), "a*", " {2,}"},
    {UNIGRAM(MAP("*"), META, VOCAB), "precompiled_charsmap", "not base64"},
    {UNIGRAM(MAP(""), META, VOCAB), "0 bytes", "fits"},
    {UNIGRAM(MAP("/////wAAAAA="), META, VOCAB), "8 bytes", "4294967295"},
    {UNIGRAM(MAP("AAAAAAAAAAA="), META, VOCAB), "8 bytes", "claims 0"},
    {UNIGRAM(MAP("BAAAAAAAAAD/"), META, VOCAB), "precompiled_charsmap", "UTF-8"},
    {BPE("\"vocab\":{\"a\":0},\"merges\":[]"), "byte 0", "byte-level"},
    {BPE("\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1"), "dropout", "0.1"},
    {BPE("\"vocab\":{\"a\":0},\"merges\":[],\"byte_fallback\":true"), "byte_fallback", "not supported"},
    {BPE("\"vocab\":{\"a\":0},\"merges\":[],\"end_of_word_suffix\":\"</w>\""), "end_of_word_suffix", "</w>"},
    {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", "ByteLevel", "BPE"},
    {BPE("\"vocab\":[],\"merges\":[]"), "model.vocab", "an array"},
};

START_TEST(files_that_are_not_understood_are_refused_by_name)
{
    put(REFUSED[_i].json);
    ck_fails(tokenizer_open(&tok, testing_folder(), 5, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, testing_folder()) != NULL, "no file: %s", error.message);
    ck_assert_msg(strstr(error.message, REFUSED[_i].first) != NULL, "no \"%s\": %s", REFUSED[_i].first, error.message);
    ck_assert_msg(strstr(error.message, REFUSED[_i].second) != NULL, "no \"%s\": %s", REFUSED[_i].second,
                  error.message);
}
END_TEST

/* A map of one unit whose children lie far outside is walked nowhere. */
START_TEST(character_map_with_wild_offsets_is_harmless)
{
    put(UNIGRAM(MAP("BAAAAAD8//8AAA=="), META, VOCAB));
    ck_ok(tokenizer_open(&tok, testing_folder(), 5, &error));
    ck_ok(tokenizer_encode(tok, "a \xC3\xA9\xCC\x81", 6, 100, &batch, NULL, &error));
    ck_assert_int_eq(batch.ids[0], 1);
}
END_TEST

/* A vocabulary with the 256 bytes, ids in byte order, and these merges. */
static void put_bytes_vocabulary(const char *more_vocab, const char *merges)
{
    static char json[1 << 16];
    char *p = json;
    uint32_t spare = 0x100;
    p += sprintf(p, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"vocab\":{");
    for (uint32_t byte = 0; byte < 256; byte++) {
        bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
        p += sprintf(p, "%s\"\\u%04x\":%u", byte > 0 ? "," : "", printable ? byte : spare++, byte);
    }
    sprintf(p, "%s},\"merges\":%s}}", more_vocab, merges);
    put(json);
}

START_TEST(the_first_learnt_pair_is_merged_first)
{
    put_bytes_vocabulary(",\"bc\":256,\"ab\":257,\"abc\":258,\"aa\":259", "[\"b c\",[\"a\",\"b\"],\"a bc\",\"a a\"]");
    ck_ok(tokenizer_open(&tok, testing_folder(), 260, &error));
    ck_ok(tokenizer_encode(tok, "abc", 3, 100, &batch, NULL, &error));
    ck_ok(tokenizer_encode(tok, "abab", 4, 100, &batch, NULL, &error));
    ck_ok(tokenizer_encode(tok, "aaa", 3, 100, &batch, NULL, &error)); /* the leftmost of equal pairs */
    ck_assert_uint_eq(batch.tokens, 5);
    ck_assert_mem_eq(batch.ids, ((const int32_t[]){258, 257, 257, 259, 'a'}), 20);
    token_batch_clear(&batch);
    char text[200];
    memset(text, 'a', sizeof text); /* a word too long for the short way */
    ck_ok(tokenizer_encode(tok, text, 199, 1000, &batch, NULL, &error));
    ck_assert_uint_eq(batch.tokens, 100);
    for (size_t i = 0; i < 99; i++)
        ck_assert_int_eq(batch.ids[i], 259);
    ck_assert_int_eq(batch.ids[99], 'a');
}
END_TEST

START_TEST(merges_of_unknown_tokens_are_refused)
{
    put_bytes_vocabulary("", "[\"a b\"]");
    ck_fails(tokenizer_open(&tok, testing_folder(), 256, &error), SEM_INVALID_ARGUMENT);
    ck_assert(strstr(error.message, "merge 0") != NULL && strstr(error.message, "\"ab\"") != NULL);
    put_bytes_vocabulary("", "[\"ab\"]");
    ck_fails(tokenizer_open(&tok, testing_folder(), 256, &error), SEM_INVALID_ARGUMENT);
    put_bytes_vocabulary("", "[[\"a\"]]");
    ck_fails(tokenizer_open(&tok, testing_folder(), 256, &error), SEM_INVALID_ARGUMENT);
    put_bytes_vocabulary("", "{}");
    ck_fails(tokenizer_open(&tok, testing_folder(), 256, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("tokenizer_kinds");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 120);
    tcase_add_checked_fixture(c, NULL, close_all);
    tcase_add_loop_test(c, hostile_text_takes_linear_time, 0, 2);
    tcase_add_loop_test(c, long_text_in_pieces_gives_the_ids_of_the_whole, 0, 2);
    tcase_add_loop_test(c, any_text_gives_ids_of_the_vocabulary, 0, 2);
    tcase_add_test(c, the_best_scored_pieces_are_taken);
    tcase_add_loop_test(c, files_that_are_not_understood_are_refused_by_name, 0, sizeof REFUSED / sizeof REFUSED[0]);
    tcase_add_test(c, character_map_with_wild_offsets_is_harmless);
    tcase_add_test(c, the_first_learnt_pair_is_merged_first);
    tcase_add_test(c, merges_of_unknown_tokens_are_refused);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return testing_run(suite());
}
