/* New pieces in a vocabulary: which are added, and for what they stand. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "model/json.h"
#include "model/tokenizer.h"
#include "model/vocab_extend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

/* The vocabulary of a directory of shared/golden, extended; and as a tokenizer of its own. */
typedef struct extended {
    char dir[FILES_PATH_MAX];
    tokenizer *before, *after;
    vocab_extension e;
    size_t rows;
} extended;

enum { ROWS_MOST = 20000 };

/* False: the directory is missing. */
static bool extend(extended *x, const char *golden, const char *const *texts, size_t count)
{
    char path[FILES_PATH_MAX];
    json_t *root;
    vocab_piece pieces[32];
    *x = (extended){.rows = ROWS_MOST};
    snprintf(path, sizeof path, "golden/%s", golden);
    const char *dir = testing_shared(path);
    if (dir == NULL)
        return false;
    ck_ok(tokenizer_open(&x->before, dir, ROWS_MOST, &error));
    ck_ok(files_join(path, &error, "%s/tokenizer.json", dir));
    ck_ok(json_load_path(&root, path, 64 << 20, &error));
    for (size_t i = 0; i < count; i++)
        pieces[i] = (vocab_piece){(char *)(uintptr_t)texts[i], -9.0 - (double)i};
    ck_ok(vocab_extend(root, pieces, count, path, &x->e, &error));
    snprintf(x->dir, sizeof x->dir, "%s", testing_folder());
    ck_ok(files_join(path, &error, "%s/tokenizer.json", x->dir));
    ck_assert_int_eq(json_dump_file(root, path, 0), 0);
    json_decref(root);
    ck_ok(tokenizer_open(&x->after, x->dir, ROWS_MOST, &error));
    return true;
}

static void extended_free(extended *x)
{
    vocab_extension_free(&x->e);
    tokenizer_close(x->before);
    tokenizer_close(x->after);
}

static token_batch encode(const tokenizer *t, const char *text)
{
    token_batch b = {0};
    ck_ok(tokenizer_encode(t, text, strlen(text), 128, &b, NULL, &error));
    return b;
}

static bool same(const token_batch *a, const token_batch *b)
{
    return a->tokens == b->tokens && memcmp(a->ids, b->ids, a->tokens * sizeof *a->ids) == 0;
}

/* The number of new pieces in a text, whose ids are those that it had where there are none. */
static size_t new_pieces(const extended *x, const char *text)
{
    token_batch before = encode(x->before, text), after = encode(x->after, text);
    size_t found = 0;
    for (size_t i = 0; i < after.tokens; i++)
        found += (size_t)after.ids[i] >= x->e.first;
    ck_assert_msg(found > 0 || same(&before, &after), "\"%s\" has other ids", text);
    token_batch_free(&before);
    token_batch_free(&after);
    return found;
}

/* That the sources of the new piece of this text are what its text was cut into. */
static void check_sources(const extended *x, const char *piece, const char *word)
{
    token_batch before = encode(x->before, word);
    for (size_t i = 0; i < x->e.count; i++) {
        if (strcmp(tokenizer_token(x->after, (int32_t)(x->e.first + i)), piece) != 0)
            continue;
        const size_t from = x->e.starts[i], count = x->e.starts[i + 1] - from;
        ck_assert_uint_eq(count, before.tokens - 2); /* without what stands around a text */
        ck_assert(memcmp(x->e.sources + from, before.ids + 1, count * sizeof *before.ids) == 0);
        token_batch_free(&before);
        return;
    }
    ck_abort_msg("there is no new piece %s", piece);
}

#define MARK "\xe2\x96\x81"

START_TEST(a_wordpiece_vocabulary_gets_words_and_their_insides)
{
    static const char *const texts[] = {MARK "zwiebelkuchen", "schaftlich", MARK "the", MARK, MARK "zwiebelkuchen"};
    extended x;
    if (!extend(&x, "tiny-bert", texts, 5))
        return;
    ck_assert_uint_eq(x.e.first, 1500);
    ck_assert_uint_ge(x.e.count, 2);
    ck_assert_str_eq(tokenizer_token(x.after, 1500), "zwiebelkuchen");
    ck_assert_str_eq(tokenizer_token(x.after, 1501), "##schaftlich");
    check_sources(&x, "zwiebelkuchen", "zwiebelkuchen");
    ck_assert_uint_eq(new_pieces(&x, "zwiebelkuchen"), 1);
    ck_assert_uint_ge(new_pieces(&x, "Zwiebelkuchen!"), 1);
    /* What begins as a new piece does can be finished. */
    ck_assert_uint_ge(new_pieces(&x, "zwiebelkuchenq"), 1);
    token_batch b = encode(x.after, "zwiebelkuchenq");
    ck_assert_uint_ge(b.tokens, 4);
    token_batch_free(&b);
    ck_assert_uint_eq(new_pieces(&x, "where is the card"), 0);
    extended_free(&x);
}
END_TEST

START_TEST(a_unigram_vocabulary_gets_pieces_that_are_better_than_what_was_there)
{
    static const char *const texts[] = {MARK "zwiebelkuchen", "schaftlich", MARK "the", MARK "zwiebelkuchen"};
    extended x;
    if (!extend(&x, "tiny-xlmr", texts, 4))
        return;
    ck_assert_uint_eq(x.e.first, 4002);
    ck_assert_uint_eq(x.e.count, 2);
    ck_assert_uint_eq(x.e.known, 2);
    check_sources(&x, MARK "zwiebelkuchen", "zwiebelkuchen");
    ck_assert_uint_eq(new_pieces(&x, "zwiebelkuchen"), 1);
    ck_assert_uint_eq(new_pieces(&x, "where is the card"), 0);
    extended_free(&x);
}
END_TEST

START_TEST(other_vocabularies_are_refused)
{
    char path[FILES_PATH_MAX];
    json_t *root;
    vocab_extension e;
    const vocab_piece piece = {(char *)(uintptr_t) "abc", -9};
    const char *dir = testing_shared("golden/tiny-roberta");
    if (dir == NULL)
        return;
    ck_ok(files_join(path, &error, "%s/tokenizer.json", dir));
    ck_ok(json_load_path(&root, path, 64 << 20, &error));
    ck_fails(vocab_extend(root, &piece, 1, path, &e, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, "BPE") != NULL, "%s", error.message);
    vocab_extension_free(&e);
    json_decref(root);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vocab_extend");
    TCase *tests = tcase_create("vocab_extend");
    tcase_add_test(tests, a_wordpiece_vocabulary_gets_words_and_their_insides);
    tcase_add_test(tests, a_unigram_vocabulary_gets_pieces_that_are_better_than_what_was_there);
    tcase_add_test(tests, other_vocabularies_are_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
