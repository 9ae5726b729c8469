/* `semtrain extend-vocab`, from texts to a model that serves, for both kinds of vocabulary. */
#include "tests/tools/semtrain_run.h"

#include "model/model.h"
#include "finetune/bulk_encode.h"

#include <sys/stat.h>

static const char *const MODELS[] = {"golden/tiny-bert", "golden/tiny-xlmr"};

#define MARK "\xe2\x96\x81" /* U+2581 */

enum { SENTENCES = 400, VECTOR_MOST = 256 };

static const char *const WORDS[] = {
    "die",      "Überweisung", "Straßenbahn", "fährt",        "morgens",       "zwischen",     "Bahnhof",
    "und",      "Krankenhaus", "Geschäft",    "geöffnet",     "Wissenschaft",  "Gesellschaft", "Freundschaft",
    "möglich",  "freundlich",  "natürlich",   "täglich",      "Entwicklung",   "Versicherung", "Regierung",
    "Zeitung",  "Erfahrung",   "schließlich", "Kindergarten", "Schmetterling", "Eichhörnchen", "nicht",
    "eine",     "der",         "Größe",       "zurück",       "Schlüssel",     "verloren",     "Rechnung",
    "bezahlen", "Bankkonto",   "eröffnen",    "Kreditkarte",  "gesperrt",
};
enum { WORD_COUNT = sizeof WORDS / sizeof *WORDS };

static const char *write_german(void)
{
    static char text[SENTENCES * 160];
    size_t used = 0;
    random_state r;
    random_seed(&r, 11);
    for (size_t i = 0; i < SENTENCES; i++) {
        for (size_t k = 0; k < 8; k++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", k > 0 ? " " : "",
                                     WORDS[random_below(&r, WORD_COUNT)]);
        used += (size_t)snprintf(text + used, sizeof text - used, ".\n");
    }
    return write_file("german.txt", text);
}

/* The model of MODELS with German pieces, and as it was; false: it is missing. */
static bool extend(size_t which, model **before, model **after)
{
    char line[3 * PATH];
    const char *dir = testing_shared(MODELS[which]);
    if (dir == NULL)
        return false;
    ck_ok(model_open(before, dir, NULL, NULL, &error));
    snprintf(line, sizeof line, "extend-vocab %s %s --pieces 300 --text %s", dir, testing_path("longer"),
             write_german());
    ck_assert_msg(run(line) == 0, "%s", output);
    ck_prints("400 lines");
    ck_ok(model_open(after, testing_path("longer"), NULL, NULL, &error));
    return true;
}

static token_batch encode(const model *m, const char *text)
{
    token_batch b = {0};
    ck_ok(model_tokenize(m, NULL, text, strlen(text), &b, NULL, &error));
    return b;
}

static size_t count_new(const token_batch *b, size_t first)
{
    size_t found = 0;
    for (size_t i = 0; i < b->tokens; i++)
        found += (size_t)b->ids[i] >= first;
    return found;
}

static void embed(const model *m, const char *text, float *out)
{
    const bulk_text one = {text, strlen(text)};
    const bulk_job job = {.model = m, .prompt = "", .texts = &one, .count = 1, .threads = 1, .out = out};
    ck_assert_uint_le(model_get_config(m)->dim, VECTOR_MOST);
    ck_ok(bulk_encode(&job, &error));
}

START_TEST(texts_of_the_new_language_are_cut_into_fewer_pieces)
{
    model *before, *after;
    size_t old = 0, new = 0, longer = 0;
    if (!extend((size_t)_i, &before, &after))
        return;
    const size_t rows = model_get_config(before)->vocab;
    ck_assert_uint_gt(model_get_config(after)->vocab, rows);
    for (size_t i = 0; i < WORD_COUNT; i++) {
        token_batch a = encode(before, WORDS[i]), b = encode(after, WORDS[i]);
        old += a.tokens;
        new += b.tokens;
        longer += count_new(&b, rows);
        token_batch_free(&a);
        token_batch_free(&b);
    }
    ck_assert_uint_gt(longer, WORD_COUNT / 2);
    ck_assert_uint_lt(new, old);
    ck_ok(model_try(after, &error));
    model_close(before);
    model_close(after);
}
END_TEST

START_TEST(texts_without_new_pieces_keep_ids_and_embeddings)
{
    static const char *const texts[] = {
        "where is my card", "how do I top up?", "I was at the bank", "12 + 30 = 42", "a", "Exchange rates, please!"};
    model *before, *after;
    float x[VECTOR_MOST], y[VECTOR_MOST];
    size_t kept = 0;
    if (!extend((size_t)_i, &before, &after))
        return;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        token_batch a = encode(before, texts[i]), b = encode(after, texts[i]);
        if (count_new(&b, model_get_config(before)->vocab) == 0) {
            ck_assert_uint_eq(a.tokens, b.tokens);
            ck_assert(memcmp(a.ids, b.ids, a.tokens * sizeof *a.ids) == 0);
            embed(before, texts[i], x);
            embed(after, texts[i], y);
            ck_assert(memcmp(x, y, model_get_config(before)->dim * sizeof *x) == 0);
            kept++;
        }
        token_batch_free(&a);
        token_batch_free(&b);
    }
    ck_assert_uint_ge(kept, 3);
    model_close(before);
    model_close(after);
}
END_TEST

static const float *rows_of(const model *m, float **params)
{
    const param_layout *layout = encoder_layout(model_get_encoder(m));
    *params = malloc(layout->total * sizeof **params);
    ck_assert_ptr_nonnull(*params);
    ck_ok(encoder_read_params(model_get_encoder(m), *params, &error));
    for (size_t i = 0; i < layout->count; i++)
        if (layout->items[i].rows_sparse)
            return *params + layout->items[i].offset;
    ck_abort_msg("the model has no token table");
}

START_TEST(a_new_vector_is_the_mean_of_those_that_stood_for_it)
{
    model *before, *after;
    float *old, *new;
    size_t checked = 0;
    if (!extend((size_t)_i, &before, &after))
        return;
    const size_t rows = model_get_config(before)->vocab, cols = model_get_config(before)->hidden;
    const float *x = rows_of(before, &old), *y = rows_of(after, &new);
    ck_assert(memcmp(x, y, rows * cols * sizeof *x) == 0);
    /* Of those that begin a word: that is a text, which the old pieces stood for. */
    for (size_t id = rows; id < model_get_config(after)->vocab; id++) {
        const char *piece = tokenizer_token(model_get_tokenizer(after), (int32_t)id);
        const char *word = _i == 0 ? piece : piece + strlen(MARK);
        if (_i == 0 ? piece[0] == '#' : strncmp(piece, MARK, strlen(MARK)) != 0 || word[0] == '\0')
            continue;
        token_batch a = encode(before, word);
        for (size_t c = 0; c < cols; c++) {
            double mean = 0;
            for (size_t k = 1; k + 1 < a.tokens; k++)
                mean += x[(size_t)a.ids[k] * cols + c] / (double)(a.tokens - 2);
            ck_assert_double_eq_tol(y[id * cols + c], mean, 1e-6);
        }
        token_batch_free(&a);
        checked++;
    }
    ck_assert_uint_ge(checked, 5);
    free(old);
    free(new);
    model_close(before);
    model_close(after);
}
END_TEST

START_TEST(python_reads_the_same_ids)
{
    model *before, *after;
    char line[FILES_PATH_MAX + 3 * PATH], text[PATH], python[FILES_PATH_MAX];
    if (!find_python(python, "tokenizers") || !extend((size_t)_i, &before, &after))
        return;
    FILE *out = fopen(testing_path("ids.txt"), "w");
    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < WORD_COUNT; i++) {
        snprintf(text, sizeof text, "%s ist %s-%sq, my %s!", WORDS[i], WORDS[(7 * i + 3) % WORD_COUNT],
                 WORDS[(3 * i + 1) % WORD_COUNT], WORDS[(5 * i + 2) % WORD_COUNT]);
        token_batch b = encode(after, text);
        for (size_t k = 0; k < b.tokens; k++)
            fprintf(out, "%s%d", k > 0 ? " " : "", b.ids[k]);
        fprintf(out, "\t%s\n", text);
        token_batch_free(&b);
    }
    ck_assert_int_eq(fclose(out), 0);
    snprintf(line, sizeof line, "'%s' tests/python/same_ids.py %s %s", python, testing_path("longer"),
             testing_path("ids.txt"));
    ck_assert_msg(system(line) == 0, "%s", line);
    model_close(before);
    model_close(after);
}
END_TEST

START_TEST(what_goes_wrong_is_said)
{
    char line[3 * PATH];
    const char *dir = testing_shared(MODELS[0]), *roberta;
    if (dir == NULL)
        return;
    ck_assert_int_eq(run("extend-vocab a"), 2);
    ck_assert_int_eq(run("extend-vocab a b"), 1);
    ck_prints("--text FILE");
    ck_assert_int_eq(run("--text x eval recipe.ini"), 2);
    ck_assert_int_eq(run("extend-vocab a b --pieces 3 --text x"), 2);
    snprintf(line, sizeof line, "extend-vocab %s %s --text /nowhere/text", dir, testing_path("longer"));
    ck_assert_int_eq(run(line), 1);
    ck_prints("/nowhere/text");
    /* Without the child's program, and with one that fails. */
    snprintf(line, sizeof line, "extend-vocab %s %s --text %s", dir, testing_path("longer"), write_german());
    char path[4096], *kept = strdup(getenv("PATH"));
    ck_assert_int_eq(setenv("PATH", testing_path("bin"), 1), 0);
    ck_assert_int_eq(mkdir(testing_path("bin"), 0700), 0);
    ck_assert_int_eq(run(line), 1);
    ck_prints("package sentencepiece");
    write_file("bin/spm_train", "#!/bin/sh\necho no pieces today >&2\nexit 3\n");
    ck_assert_int_eq(chmod(testing_path("bin/spm_train"), 0700), 0);
    ck_assert_int_eq(run(line), 1);
    ck_prints("status 3");
    ck_prints("no pieces today");
    snprintf(path, sizeof path, "%s", kept);
    ck_assert_int_eq(setenv("PATH", path, 1), 0);
    free(kept);
    ck_assert_int_ne(access(testing_path("longer"), F_OK), 0);
    ck_assert_int_ne(access(testing_path("longer.tmp-pieces"), F_OK), 0);
    if ((roberta = testing_shared("golden/tiny-roberta")) == NULL)
        return;
    snprintf(line, sizeof line, "extend-vocab %s %s --text %s", roberta, testing_path("longer"),
             testing_path("german.txt"));
    ck_assert_int_eq(run(line), 1);
    ck_prints("BPE");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("semtrain_extend");
    TCase *tests = tcase_create("extend");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, texts_of_the_new_language_are_cut_into_fewer_pieces, 0, 2);
    tcase_add_loop_test(tests, texts_without_new_pieces_keep_ids_and_embeddings, 0, 2);
    tcase_add_loop_test(tests, a_new_vector_is_the_mean_of_those_that_stood_for_it, 0, 2);
    tcase_add_loop_test(tests, python_reads_the_same_ids, 0, 2);
    tcase_add_test(tests, what_goes_wrong_is_said);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
