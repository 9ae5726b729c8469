/* The steps of tokenizer.json one by one: what Hugging Face's tokenizers 0.23 make
 * of the same text. tests/python/compare_tokenizers.py compares many more, whole. */
#include "tests/common/testing.h"

#include "base/buffer.h"
#include "model/normalizer.h"
#include "model/splitter.h"

#include <jansson.h>

#include <stdlib.h>
#include <string.h>

static sem_error error;
static normalizer normal;
static splitter split;
static buffer out;
static text_scratch scratch;
static json_t *object;

static void free_all(void)
{
    normalizer_free(&normal);
    splitter_free(&split);
    buffer_free(&out);
    text_scratch_free(&scratch);
    json_decref(object);
    object = NULL;
}

static const json_t *parse(const char *text)
{
    json_error_t e;
    object = json_loads(text, 0, &e);
    ck_assert_msg(object != NULL, "%s: %s", text, e.text);
    return object;
}

typedef struct normal_case {
    const char *json;
    const char *text;
    size_t length;
    const char *expected;
    size_t expected_length;
} normal_case;

typedef struct split_case {
    const char *json;
    const char *text;
    const char *expected; /* a bar between words */
} split_case;

/* clang-format off */
static const normal_case NORMAL[] = {
    {"{\"type\":\"NFC\"}", "e\314\201 a\314\243\314\207 \341\204\200\341\205\241\341\206\250 \340\247\207\340\246\276 \340\245\230 \342\204\253", 34, "\303\251 \341\272\241\314\207 \352\260\201 \340\247\213 \340\244\225\340\244\274 \303\205", 26},
    {"{\"type\":\"NFC\"}", "a\314\207\314\243 \314\201x \352\260\200\341\206\250 q\314\207\314\243", 22, "\341\272\241\314\207 \314\201x \352\260\201 q\314\243\314\207", 19},
    {"{\"type\":\"NFD\"}", "\341\271\251 \352\260\201 \340\245\230 \360\221\244\270", 16, "s\314\243\314\207 \341\204\200\341\205\241\341\206\250 \340\244\225\340\244\274 \360\221\244\270", 27},
    {"{\"type\":\"NFKC\"}", "\357\254\201\302\275\342\205\247\342\204\246\357\267\272 \343\213\277", 18, "fi1\342\201\2042VIII\316\251\330\265\331\204\331\211 \330\247\331\204\331\204\331\207 \330\271\331\204\331\212\331\207 \331\210\330\263\331\204\331\205 \343\213\277", 50},
    {"{\"type\":\"NFKD\"}", "\357\254\203 \302\250 \357\274\241 \341\272\233\314\243", 16, "ffi  \314\210 A s\314\243\314\207", 15},
    {"{\"type\":\"Lowercase\"}", "\303\211\304\260\316\243\341\272\236A", 10, "\303\251i\314\207\317\203\303\237a", 10},
    {"{\"type\":\"StripAccents\"}", "e\314\201\342\203\235n\314\203", 9, "en", 2},
    {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false}", " \343\200\200a b \012", 9, "a b \012", 5},
    {"{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}", "\011 a\302\240", 5, "a", 1},
    {"{\"type\":\"Replace\",\"pattern\":{\"String\":\"``\"},\"content\":\"\\\"\"}", "``a```", 6, "\"a\"`", 4},
    {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"[0-9]+\"},\"content\":\"#\"}", "a12b3\331\241", 7, "a#b#\331\241", 6},
    {"{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\"\\u2581\"}", "a  b c   ", 9, "a\342\226\201b c\342\226\201", 10},
    {"{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}", "ab", 2, "\342\226\201ab", 5},
    {"{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"},{\"type\":\"Lowercase\"}]}", "\303\211t\303\251 \341\271\251", 9, "ete s", 5},
    {"{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true}", "\303\211\344\270\255\000\011x", 8, "e \344\270\255  x", 8},
};

static const split_case SPLIT[] = {
    {"{\"type\":\"BertPreTokenizer\"}", "it's a $5 co-op\343\200\202 x", "it|'|s|a|$|5|co|-|op|\343\200\202|x"},
    {"{\"type\":\"Whitespace\"}", "it's \340\244\271\340\244\277 a_b  --1.5", "it|'|s|\340\244\271\340\244\277|a_b|--|1|.|5"},
    {"{\"type\":\"WhitespaceSplit\"}", " a\343\200\200b\011c. ", "a|b|c."},
    {"{\"type\":\"Digits\",\"individual_digits\":true}", "a12 b3", "a|1|2| b|3"},
    {"{\"type\":\"Digits\",\"individual_digits\":false}", "a12\302\275b3", "a|12\302\275|b|3"},
    {"{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"}", "a,,b.", "a|,|,|b|."},
    {"{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}", "a,,b.", "a|,,|b|."},
    {"{\"type\":\"Punctuation\",\"behavior\":\"MergedWithPrevious\"}", "a,,b. .", "a,|,|b.| ."},
    {"{\"type\":\"Punctuation\",\"behavior\":\"MergedWithNext\"}", ",,a,,b.", ",|,a|,|,b|."},
    {"{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}", "a,,b.", "a|b"},
    {"{\"type\":\"CharDelimiterSplit\",\"delimiter\":\"x\"}", "axxb x", "a|b "},
    {"{\"type\":\"Split\",\"pattern\":{\"String\":\"ab\"},\"behavior\":\"Isolated\",\"invert\":false}", "aabab", "a|ab|ab"},
    {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"behavior\":\"MergedWithPrevious\",\"invert\":false}", "a b  c", "a |b  |c"},
    {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[^\\\\p{L}\\\\p{N}]+\"},\"behavior\":\"Removed\",\"invert\":true}", "a, b1", ", "},
    {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false}", "It'S 12345 a\012\012  b  c!!\015\012 x'\305\277 $y ", "It|'S| |123|45| a|\012\012| | b| | c|!!\015\012| x|'\305\277| $|y| "},
    {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false}", "123  \012 x", "1|2|3|  \012| x"},
    {"{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\",\"split\":true}", "a  b\342\226\201c ", "\342\226\201a|\342\226\201|\342\226\201b|\342\226\201c|\342\226\201"},
    {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\",\"split\":true}", "a b_c", "a|_b|_c"},
    {"{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\",\"split\":false}", "a b", "\342\226\201a\342\226\201b"},
    {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\",\"split\":true}]}", "a b", "\342\226\201a|b"},
};
/* clang-format on */

START_TEST(normalizers_equal_the_reference)
{
    const normal_case *c = &NORMAL[_i];
    ck_ok(normalizer_create(&normal, parse(c->json), "file", &error));
    ck_ok(normalizer_apply(&normal, c->text, c->length, &scratch, &out, NULL, &error));
    ck_assert_msg(out.size == c->expected_length && memcmp(out.data, c->expected, out.size) == 0,
                  "%s of \"%s\": \"%.*s\", expected \"%s\"", c->json, c->text, (int)out.size, (const char *)out.data,
                  c->expected);
}
END_TEST

static bool collect(void *context, const char *word, size_t length)
{
    buffer *words = context;
    return (words->size == 0 || buffer_append(words, "|", 1)) && buffer_append(words, word, length);
}

START_TEST(pre_tokenizers_equal_the_reference)
{
    const split_case *c = &SPLIT[_i];
    const token_sink sink = {.limit = 10, .scratch = &scratch};
    ck_ok(splitter_create(&split, parse(c->json), "file", &error));
    ck_assert(splitter_run(&split, c->text, strlen(c->text), true, &sink, collect, &out));
    ck_assert_msg(out.size == strlen(c->expected) && memcmp(out.data, c->expected, out.size) == 0,
                  "%s of \"%s\": \"%.*s\", expected \"%s\"", c->json, c->text, (int)out.size, (const char *)out.data,
                  c->expected);
}
END_TEST

static const struct {
    bool splits;
    const char *json, *found;
} REFUSED[] = {
    {false, "{\"type\":\"Nmt\"}", "Nmt"},
    {false, "{}", "type"},
    {false, "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"ByteLevel\"}]}", "ByteLevel"},
    {false, "{\"type\":\"Sequence\"}", "normalizers"},
    {false, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a|b\"},\"content\":\"\"}", "a|b"},
    {false, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", "Replace"},
    {false, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"}}", "content"},
    {true, "{\"type\":\"UnicodeScripts\"}", "UnicodeScripts"},
    {true, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a)\"},\"behavior\":\"Isolated\"}", "(a)"},
    {true, "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a&&b]\"},\"behavior\":\"Isolated\"}", "[a&&b]"},
    {true, "{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}", "empty"},
    {true, "{\"type\":\"Punctuation\",\"behavior\":\"Odd\"}", "Odd"},
    {true, "{\"type\":\"Metaspace\",\"prepend_scheme\":\"odd\"}", "odd"},
    {true, "{\"type\":\"Metaspace\",\"replacement\":\"\"}", "replacement"},
    {true, "{\"type\":\"CharDelimiterSplit\"}", "delimiter"},
    {true, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Whitespace\"}]}",
     "ByteLevel"},
};

START_TEST(steps_that_are_not_understood_are_refused_by_name)
{
    const json_t *step = parse(REFUSED[_i].json);
    if (REFUSED[_i].splits)
        ck_fails(splitter_create(&split, step, "file", &error), SEM_INVALID_ARGUMENT);
    else
        ck_fails(normalizer_create(&normal, step, "file", &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, REFUSED[_i].found) != NULL, "no \"%s\": %s", REFUSED[_i].found, error.message);
    ck_assert_msg(strstr(error.message, "file") != NULL, "no file: %s", error.message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("text_steps");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, NULL, free_all);
    tcase_add_loop_test(c, normalizers_equal_the_reference, 0, sizeof NORMAL / sizeof NORMAL[0]);
    tcase_add_loop_test(c, pre_tokenizers_equal_the_reference, 0, sizeof SPLIT / sizeof SPLIT[0]);
    tcase_add_loop_test(c, steps_that_are_not_understood_are_refused_by_name, 0, sizeof REFUSED / sizeof REFUSED[0]);
    suite_add_tcase(s, c);
    return testing_run(s);
}
