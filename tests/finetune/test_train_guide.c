/* A guide's cosines and texts' frequencies, in runs over pairs in memory and over files. */
#include "tests/finetune/run_case.h"

#include "base/hash.h"
#include "finetune/mix_frequency.h"
#include "finetune/text_vectors.h"

#include <math.h>

enum { PAIRS = 12, STEPS = 3, DIM = 48 };

/* Three of the answers come twice. */
static void text_of(char text[64], bool question, size_t i)
{
    snprintf(text, 64, question ? "question number %zu" : "answer to %zu", question ? i : i % 9);
}

static const char *write_pairs(void)
{
    char all[PAIRS * 160], question[64], answer[64], *at = all;
    for (size_t i = 0; i < PAIRS; i++) {
        text_of(question, true, i);
        text_of(answer, false, i);
        at += sprintf(at, "[\"%s\", \"%s\"]\n", question, answer);
    }
    return data_file("pairs.jsonl", all);
}

/* Trains on the file and on its pairs in memory: the first loss of each. */
static void train_both(const train_config *config, double *from_file, double *in_memory)
{
    run_case c;
    char texts[PAIRS][2][64];
    train_pair pairs[PAIRS];
    train_report report;
    float *params;
    kept_vectors *guide = NULL;
    ck_assert(run_begin(&c, write_pairs(), PAIRS));
    for (size_t i = 0; i < PAIRS; i++) {
        text_of(texts[i][0], true, i);
        text_of(texts[i][1], false, i);
        pairs[i] = (train_pair){.query = texts[i][0],
                                .query_length = strlen(texts[i][0]),
                                .document = texts[i][1],
                                .document_length = strlen(texts[i][1]),
                                .query_key = 100 + i,
                                .document_key = 200 + i % 9,
                                .weight = 1};
    }
    const kept_options kept = {.model = config->guide, .threads = 1};
    if (config->guide[0] != '\0')
        ck_ok(kept_vectors_open(&guide, &kept, &error));
    const train_mix_options options = {
        .steps = STEPS, .lessons = &RANKING, .set_count = 1, .guide = guide, .folder = testing_folder()};
    ck_ok(train_on_mix(c.m, c.mix, &options, config, NULL, &params, &report, &error));
    *from_file = report.first_loss;
    free(params);
    ck_ok(train_mnrl(c.m, pairs, PAIRS, config, NULL, &params, &report, &error));
    *in_memory = report.first_loss;
    free(params);
    kept_vectors_close(guide);
    run_end(&c);
}

START_TEST(a_guide_and_frequencies_give_files_the_losses_of_pairs_in_memory)
{
    double plain, guided, counted, expected;
    train_config config = settings(PAIRS, STEPS);
    if (testing_shared("golden/tiny-bert") == NULL)
        return;
    train_both(&config, &plain, &expected);
    ck_assert_double_eq_tol(plain, expected, 1e-5);
    snprintf(config.guide, sizeof config.guide, "%s", testing_shared("golden/tiny-bert-max"));
    train_both(&config, &guided, &expected);
    ck_assert_double_eq_tol(guided, expected, 1e-5);
    ck_assert_double_lt(guided, plain); /* what is masked pushes no more */
    config.guide_margin = 2;            /* masks all */
    train_both(&config, &guided, &expected);
    ck_assert_double_eq_tol(guided, 0, 1e-6);
    ck_assert_double_eq_tol(expected, 0, 1e-6);
    config = settings(PAIRS, STEPS);
    config.frequency = true;
    train_both(&config, &counted, &expected);
    ck_assert_double_eq_tol(counted, expected, 1e-5);
    ck_assert_double_lt(counted, plain);
}
END_TEST

START_TEST(a_batch_has_the_guides_cosines_of_all_candidates)
{
    run_case c;
    mix_source *s;
    train_batch batch;
    kept_vectors *guide;
    float *vectors;
    model *m;
    if (!run_begin(&c,
                   data_file("mixed.jsonl", "[\"q0\", \"p0\"]\n[\"q1\", \"p1\", \"n1\"]\n[\"q2\", \"p2\", \"n2\"]\n"),
                   PAIRS))
        return;
    const kept_options kept = {.model = testing_shared("golden/tiny-bert-max"), .threads = 2};
    ck_ok(kept_vectors_open(&guide, &kept, &error));
    const mix_source_options options = {
        .lessons = &RANKING, .batch_size = PAIRS, .negatives = 1, .seed = 1, .guide = guide};
    ck_ok(mix_source_create(&s, c.m, c.mix, &options, &error));
    ck_ok(mix_source_next(s, &batch, &error));
    ck_assert_uint_eq(batch.about.texts, 8);
    static const char *const words[] = {"q0", "q1", "q2", "p0", "p1", "p2", "n1", "n2"};
    data_text texts[8];
    for (size_t i = 0; i < 8; i++)
        texts[i] = (data_text){words[i], 2};
    ck_ok(model_open(&m, testing_shared("golden/tiny-bert-max"), NULL, NULL, &error));
    ck_ok(text_vectors(m, texts, 8, false, 1, (niceness){0}, &vectors, &error));
    /* Which pair stands where goes by its key. */
    size_t place[8];
    for (size_t i = 0; i < 8; i++)
        for (place[i] = 0; batch.about.text[place[i]] != hash_text(words[i], 2); place[i]++)
            ck_assert_uint_lt(place[i], 7);
    for (size_t a = 0; a < 3; a++)
        for (size_t b = 3; b < 8; b++) {
            double cosine = 0;
            for (size_t k = 0; k < DIM; k++)
                cosine += (double)vectors[a * DIM + k] * vectors[b * DIM + k];
            ck_assert_double_eq_tol(batch.about.guide[place[a] * 5 + place[b] - 3], cosine, 1e-5);
        }
    free(vectors);
    model_close(m);
    mix_source_destroy(s);
    kept_vectors_close(guide);
    run_end(&c);
}
END_TEST

START_TEST(texts_are_counted_by_set_or_over_all_by_how_often_they_are_drawn)
{
    enum { SETS = 3 };
    static const char *const texts[SETS] = {"[\"a\", \"x\"]\n[\"a\", \"y\"]\n[\"b\", \"x\", \"y\", \"z\"]\n",
                                            "[\"a\", \"x\"]\n", "[\"c\", \"x\"]\n"};
    static const bool counted[SETS] = {true, true, false};
    static const double shares[SETS] = {0.5, 0.5, 0};
    const char *files[SETS];
    data_options data[SETS];
    mix_set sets[SETS];
    for (size_t i = 0; i < SETS; i++) {
        char name[32];
        snprintf(name, sizeof name, "set%zu.jsonl", i);
        files[i] = data_file(name, texts[i]);
        data[i] = data_options_defaults();
        data[i].name = "counted";
        data[i].files = &files[i];
        data[i].file_count = 1;
        sets[i] = (mix_set){.data = &data[i]};
    }
    for (size_t cross = 0; cross < 2; cross++) {
        mix_frequency *f;
        const mix_frequency_options o = {.sets = sets,
                                         .counted = counted,
                                         .shares = shares,
                                         .set_count = SETS,
                                         .cross_dataset = cross == 1,
                                         .folder = testing_folder()};
        ck_ok(mix_frequency_count(&f, &o, &error));
        const uint64_t a = hash_text("a", 1), x = hash_text("x", 1), y = hash_text("y", 1), z = hash_text("z", 1);
        /* 4 pairs, half of what is drawn is of the first 3: each counts 2/3, and the last one 2. */
        ck_assert_float_eq_tol(mix_frequency_anchor(f, 0, a), log(cross ? 2 * 2 / 3.0 + 2 : 2), 1e-6);
        ck_assert_float_eq_tol(mix_frequency_candidate(f, 0, x), log(cross ? 2 * 2 / 3.0 + 2 : 2), 1e-6);
        ck_assert_float_eq_tol(mix_frequency_candidate(f, 0, y), log(cross ? 2 * 2 / 3.0 : 2), 1e-6);
        ck_assert_float_eq_tol(mix_frequency_candidate(f, 0, z), log(cross ? 2 / 3.0 : 1), 1e-6);
        ck_assert_float_eq_tol(mix_frequency_candidate(f, 1, x), log(cross ? 2 * 2 / 3.0 + 2 : 1), 1e-6);
        ck_assert_float_eq(mix_frequency_anchor(f, 2, hash_text("c", 1)), 0); /* nobody asked for */
        mix_frequency_destroy(f);
    }
}
END_TEST

START_TEST(a_guide_that_is_missing_or_a_margin_without_one_is_refused)
{
    run_case c;
    train_config config = settings(PAIRS, STEPS);
    train_report report;
    float *params;
    train_pair pairs[2] = {
        {.query = "a", .query_length = 1, .document = "b", .document_length = 1, .query_key = 2, .weight = 1},
        {.query = "c", .query_length = 1, .document = "d", .document_length = 1, .query_key = 4, .weight = 1}};
    if (!run_begin(&c, write_pairs(), PAIRS))
        return;
    const train_mix_options options = {.steps = 1, .lessons = &RANKING, .set_count = 1};
    snprintf(config.guide, sizeof config.guide, "/nowhere");
    ck_fails(train_mnrl(c.m, pairs, 2, &config, NULL, &params, &report, &error), SEM_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "train.guide"));
    ck_fails(train_on_mix(c.m, c.mix, &options, &config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    config = settings(PAIRS, STEPS);
    config.guide_margin = 0.1;
    ck_fails(train_mnrl(c.m, pairs, 2, &config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    config = settings(PAIRS, STEPS);
    config.frequency = true;
    ck_fails(train_on_mix(c.m, c.mix, &options, &config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    run_end(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_guide");
    TCase *tests = tcase_create("guide");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, a_guide_and_frequencies_give_files_the_losses_of_pairs_in_memory);
    tcase_add_test(tests, a_batch_has_the_guides_cosines_of_all_candidates);
    tcase_add_test(tests, texts_are_counted_by_set_or_over_all_by_how_often_they_are_drawn);
    tcase_add_test(tests, a_guide_that_is_missing_or_a_margin_without_one_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
