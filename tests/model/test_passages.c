/* Cutting long texts into passages, with tokenizers of each family. */
#include "tests/common/testing.h"

#include "base/random.h"
#include "base/utf8.h"
#include "model/passages.h"
#include "model/sentences.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;
static tokenizer *tok;
static passage_cutter cutter;

static void close_all(void)
{
    passage_cutter_free(&cutter);
    tokenizer_close(tok);
    tok = NULL;
}

static bool open_tokenizer(const char *dir, size_t vocab)
{
    if (dir != NULL)
        ck_ok(tokenizer_open(&tok, dir, vocab, &error));
    return dir != NULL;
}

static bool open_kind(int kind)
{
    switch (kind) {
    case 0: return open_tokenizer(testing_minilm(), 30522);
    case 1: return open_tokenizer(testing_shared("golden/tiny-roberta"), 1500);
    default: return open_tokenizer(testing_shared("golden/tiny-xlmr"), 4002);
    }
}

/* --- sentences */

/* The text's sentences, each in brackets and without white space around it. */
static const char *sentences(const char *text)
{
    static char out[1024];
    char *p = out;
    size_t length = strlen(text);
    for (size_t from = 0; from < length;) {
        size_t end = sentence_end(text, length, from), to = end;
        ck_assert_uint_gt(end, from);
        from = sentence_trim(text, from, &to);
        if (to > from) {
            *p++ = '[';
            memcpy(p, text + from, to - from);
            p += to - from;
            *p++ = ']';
        }
        from = end;
    }
    *p = '\0';
    return out;
}

START_TEST(sentences_end_at_marks_of_any_script)
{
    ck_assert_str_eq(sentences("One. Two!  Three? Four"), "[One.][Two!][Three?][Four]");
    ck_assert_str_eq(sentences("He said \"Go.\" Then (really!) he left..."),
                     "[He said \"Go.\"][Then (really!) he left...]");
    ck_assert_str_eq(sentences("日本語です。次の文！「はい。」終わり"), "[日本語です。][次の文！][「はい。」][終わり]");
    ck_assert_str_eq(sentences("पहला वाक्य। दूसरा वाक्य।"), "[पहला वाक्य।][दूसरा वाक्य।]");
    ck_assert_str_eq(sentences("ما هذا؟ هذا بيت."), "[ما هذا؟][هذا بيت.]");
    ck_assert_str_eq(sentences("Es war Größe… Dann nicht‽ Ja."), "[Es war Größe…][Dann nicht‽][Ja.]");
}
END_TEST

START_TEST(full_stops_within_a_sentence_do_not_end_it)
{
    ck_assert_str_eq(sentences("Dr. J. Smith met Mrs. Jones. They spoke."),
                     "[Dr. J. Smith met Mrs. Jones.][They spoke.]");
    ck_assert_str_eq(sentences("It is 3.14 or example.org/a?b=c. Yes."), "[It is 3.14 or example.org/a?b=c.][Yes.]");
    ck_assert_str_eq(sentences("See fig. 3 and No. 7 of Lee et al. (2004). Say no. Then go."),
                     "[See fig. 3 and No. 7 of Lee et al. (2004).][Say no.][Then go.]");
    ck_assert_str_eq(sentences("Many (e.g. Bern) vs. few, i.e. ten. of many"),
                     "[Many (e.g. Bern) vs. few, i.e. ten. of many]");
}
END_TEST

START_TEST(texts_without_capital_letters_have_sentences)
{
    ck_assert_str_eq(sentences("flow past a plate . the results are shown . why ? unknown"),
                     "[flow past a plate .][the results are shown .][why ?][unknown]");
    ck_assert_str_eq(sentences("it works. \"so!\" he said"), "[it works.][\"so!\" he said]");
}
END_TEST

START_TEST(lines_end_sentences_unless_prose_goes_on)
{
    ck_assert_str_eq(sentences("A heading\nThe text is\nwrapped here.\n\nand a paragraph"),
                     "[A heading][The text is\nwrapped here.][and a paragraph]");
    ck_assert_str_eq(sentences(" \r\n- one\r\n- two\r\n"), "[- one][- two]");
    ck_assert_str_eq(sentences(" \n\t "), "");
    ck_assert_str_eq(sentences(""), "");
}
END_TEST

/* --- passages */

static void cut(const char *text, size_t length, size_t tokens, size_t overlap)
{
    passage_limits limits = {.tokens = tokens, .overlap = overlap, .max_tokens = 256};
    ck_ok(passages_cut(&cutter, tok, "", &limits, text, length, &error));
}

static size_t tokens_of(const char *prompt, const char *text, size_t length)
{
    token_batch b = {0};
    size_t before = strlen(prompt);
    char *joined = malloc(before + length + 1);
    ck_assert_ptr_nonnull(joined);
    memcpy(joined, prompt, before);
    memcpy(joined + before, text, length);
    ck_ok(tokenizer_encode(tok, joined, before + length, SIZE_MAX, &b, NULL, &error));
    size_t tokens = b.tokens;
    token_batch_free(&b);
    free(joined);
    return tokens;
}

static bool is_space(const char *text, size_t from, size_t to)
{
    return sentence_trim(text, from, &to) == to;
}

/* What holds of any text: everything but white space is in a passage, in order, whole
 * characters, within the limit. */
static void expect_good(const char *text, size_t length, size_t limit, const char *prompt)
{
    size_t covered = 0, special = tokens_of("", "", 0);
    ck_assert_uint_ge(cutter.count, 1);
    for (size_t i = 0; i < cutter.count; i++) {
        passage p = cutter.passages[i];
        ck_assert(p.from <= p.to && p.to <= length);
        ck_assert(utf8_valid(text + p.from, p.to - p.from));
        ck_assert_msg(p.from <= covered || is_space(text, covered, p.from), "bytes %zu to %u are in no passage",
                      covered, p.from);
        ck_assert(i == 0 || (p.from > cutter.passages[i - 1].from && p.to > cutter.passages[i - 1].to));
        size_t trimmed = p.to;
        ck_assert_uint_eq(sentence_trim(text, p.from, &trimmed), p.from);
        ck_assert_uint_eq(trimmed, p.to);
        ck_assert_uint_le(tokens_of(prompt, text + p.from, p.to - p.from), limit + special);
        covered = p.to;
    }
    ck_assert(is_space(text, covered, length));
}

START_TEST(passages_end_with_sentences_and_overlap)
{
    if (!open_kind(0))
        return;
    const char *text =
        "The first sentence is about cats. The second sentence is about dogs. A third one speaks of birds. "
        "The fourth sentence is about fish. The last sentence is about trees.";
    cut(text, strlen(text), 16, 8);
    ck_assert_uint_eq(cutter.count, 4);
    for (size_t i = 0; i < cutter.count; i++) {
        passage p = cutter.passages[i];
        ck_assert_int_eq(text[p.to - 1], '.');
        ck_assert(p.from == 0 || text[p.from - 2] == '.');
        ck_assert(i == 0 || p.from < cutter.passages[i - 1].to);
    }
    cut(text, strlen(text), 16, 0);
    ck_assert_uint_eq(cutter.count, 3);
    ck_assert_uint_ge(cutter.passages[1].from, cutter.passages[0].to);
    cut(text, strlen(text), 200, 20);
    ck_assert_uint_eq(cutter.count, 1);
    ck_assert_uint_eq(cutter.passages[0].to, strlen(text));
}
END_TEST

START_TEST(no_text_is_one_empty_passage)
{
    for (int kind = 0; kind < 3; kind++) {
        if (!open_kind(kind))
            continue;
        for (size_t length = 0; length < 2000; length += 999) {
            char spaces[2000];
            memset(spaces, ' ', sizeof spaces);
            cut(spaces, length, 32, 8);
            ck_assert_uint_eq(cutter.count, 1);
            ck_assert(cutter.passages[0].from == 0 && cutter.passages[0].to == 0);
        }
        close_all();
    }
}
END_TEST

static const char *const PIECES[] = {
    "word",
    "sentence",
    "The",
    "of",
    "a",
    "Dr.",
    ". ",
    ".",
    "! ",
    "? \"",
    ")",
    "\n",
    "\n\n",
    " ",
    "  ",
    "。",
    "語",
    "本日",
    "é",
    "e\xCC\x81",
    "👨‍👩‍👧",
    "…",
    "3.5",
    "-",
    "\xC2\xA0",
    "\xEF\xB7\xBA",
    "internationalization",
    "\t",
    "_",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
};

static size_t make_text(random_state *random, char *text, size_t most)
{
    size_t length = 0, count = 1 + random_below(random, 400),
           kinds = 1 + random_below(random, sizeof PIECES / sizeof PIECES[0]);
    for (size_t i = 0; i < count; i++) {
        const char *piece = PIECES[random_below(random, kinds)];
        if (length + strlen(piece) + 1 > most)
            break;
        memcpy(text + length, piece, strlen(piece));
        length += strlen(piece);
        if (random_below(random, 3) > 0)
            text[length++] = ' ';
    }
    return length;
}

START_TEST(every_text_is_covered_within_the_limits)
{
    static char text[32 << 10];
    if (!open_kind(_i))
        return;
    random_state random;
    random_seed(&random, testing_seed());
    for (int round = 0; round < 60; round++) {
        size_t length = make_text(&random, text, sizeof text), limit = 16 + random_below(&random, 100);
        cut(text, length, limit, random_below(&random, limit / 2));
        expect_good(text, length, limit, "");
    }
}
END_TEST

START_TEST(overlap_is_what_was_asked_at_most)
{
    static char text[32 << 10];
    if (!open_kind(_i))
        return;
    size_t length = 0, special = tokens_of("", "", 0), repeated = 0;
    for (int i = 0; i < 300; i++)
        length += (size_t)sprintf(text + length, "Number %d has %d words. ", i, i % 7);
    cut(text, length, 200, 80);
    expect_good(text, length, 200, "");
    for (size_t i = 1; i < cutter.count; i++) {
        uint32_t from = cutter.passages[i].from, before = cutter.passages[i - 1].to;
        ck_assert_uint_lt(from, before);
        size_t tokens = tokens_of("", text + from, before - from) - special;
        ck_assert_uint_le(tokens, 80 + 2); /* a sum may differ from the whole by the white space at its ends */
        repeated += tokens;
    }
    ck_assert_uint_ge(repeated / (cutter.count - 1), 40);
}
END_TEST

START_TEST(long_sentences_are_cut_between_words)
{
    static char text[32 << 10];
    if (!open_kind(_i))
        return;
    size_t length = 0;
    while (length < 8000)
        length += (size_t)sprintf(text + length, "word and ");
    cut(text, length, 32, 8);
    expect_good(text, length, 32, "");
    ck_assert_uint_gt(cutter.count, 10);
    for (size_t i = 0; i + 1 < cutter.count; i++) {
        ck_assert_int_eq(text[cutter.passages[i].to], ' ');
        ck_assert_uint_lt(cutter.passages[i + 1].from, cutter.passages[i].to);
    }
}
END_TEST

START_TEST(the_prompt_counts_towards_the_models_limit)
{
    static char text[32 << 10];
    if (!open_kind(_i))
        return;
    size_t length = 0, special = tokens_of("", "", 0);
    while (length < 8000)
        length += (size_t)sprintf(text + length, "A sentence of six words. ");
    passage_limits limits = {.tokens = 512, .overlap = 100, .max_tokens = 64};
    ck_ok(passages_cut(&cutter, tok, "passage: ", &limits, text, length, &error));
    expect_good(text, length, 64 - special, "passage: ");
    limits.max_tokens = 6;
    ck_fails(passages_cut(&cutter, tok, "passage: ", &limits, text, length, &error), SEM_FAILED_PRECONDITION);
}
END_TEST

START_TEST(the_same_text_is_cut_the_same)
{
    static char text[32 << 10];
    passage first[64];
    if (!open_kind(0))
        return;
    random_state random;
    random_seed(&random, testing_seed());
    size_t length = make_text(&random, text, sizeof text);
    cut(text, length, 32, 8);
    size_t count = cutter.count < 64 ? cutter.count : 64;
    memcpy(first, cutter.passages, count * sizeof *first);
    cut("Something else. Cut in between.", 31, 16, 4);
    cut(text, length, 32, 8);
    for (size_t i = 0; i < count; i++)
        ck_assert(first[i].from == cutter.passages[i].from && first[i].to == cutter.passages[i].to);
}
END_TEST

typedef struct pauses {
    size_t count, stop_at;
} pauses;

static bool pause_here(void *context)
{
    pauses *p = context;
    return ++p->count != p->stop_at;
}

/* Whoever cuts a megabyte lets others work meanwhile. */
START_TEST(a_long_text_is_cut_with_pauses_that_change_nothing)
{
    enum { LENGTH = 1 << 20 };
    static char text[LENGTH];
    if (!open_kind(0))
        return;
    size_t length = 0;
    for (unsigned i = 0; length + 64 < LENGTH; i++)
        length += (size_t)sprintf(text + length, "Sentence %u is of %u words or so. ", i, 5 + i % 3);
    cut(text, length, 128, 32);
    size_t count = cutter.count;
    passage *first = malloc(count * sizeof *first);
    ck_assert_ptr_nonnull(first);
    memcpy(first, cutter.passages, count * sizeof *first);
    pauses p = {0};
    passage_limits limits = {.tokens = 128, .overlap = 32, .max_tokens = 256, .between = pause_here, .context = &p};
    ck_ok(passages_cut(&cutter, tok, "", &limits, text, length, &error));
    ck_assert_uint_eq(cutter.count, count);
    ck_assert_mem_eq(cutter.passages, first, count * sizeof *first);
    ck_assert_uint_gt(p.count, LENGTH / (32 << 10));
    free(first);
    p = (pauses){.stop_at = 3};
    ck_fails(passages_cut(&cutter, tok, "", &limits, text, length, &error), SEM_CANCELLED);
    ck_assert_uint_eq(p.count, 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("passages");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, NULL, close_all);
    tcase_add_test(c, sentences_end_at_marks_of_any_script);
    tcase_add_test(c, full_stops_within_a_sentence_do_not_end_it);
    tcase_add_test(c, texts_without_capital_letters_have_sentences);
    tcase_add_test(c, lines_end_sentences_unless_prose_goes_on);
    tcase_add_test(c, passages_end_with_sentences_and_overlap);
    tcase_add_test(c, no_text_is_one_empty_passage);
    tcase_add_loop_test(c, every_text_is_covered_within_the_limits, 0, 3);
    tcase_add_loop_test(c, overlap_is_what_was_asked_at_most, 0, 3);
    tcase_add_loop_test(c, long_sentences_are_cut_between_words, 0, 3);
    tcase_add_loop_test(c, the_prompt_counts_towards_the_models_limit, 0, 3);
    tcase_add_test(c, the_same_text_is_cut_the_same);
    tcase_add_test(c, a_long_text_is_cut_with_pauses_that_change_nothing);
    suite_add_tcase(s, c);
    return testing_run(s);
}
