/* Hard negatives of pairs in memory: which of them come into a batch, and what they do there. */
#include "tests/finetune/run_case.h"

#include "finetune/pair_guide.h"
#include "finetune/pair_negatives.h"

#include <math.h>

enum { PAIRS = 12 };

typedef struct lesson {
    char texts[3][PAIRS][64];
    train_pair pairs[PAIRS];
    train_negative negatives[PAIRS];
} lesson;

/* Every third pair has no negative. */
static void make(lesson *l)
{
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(l->texts[0][i], 64, "question number %zu", i);
        snprintf(l->texts[1][i], 64, "answer to %zu", i);
        snprintf(l->texts[2][i], 64, "what is wrong with %zu", i);
        l->negatives[i] = (train_negative){.text = l->texts[2][i], .length = strlen(l->texts[2][i]), .key = 300 + i};
        l->pairs[i] = (train_pair){.query = l->texts[0][i],
                                   .query_length = strlen(l->texts[0][i]),
                                   .document = l->texts[1][i],
                                   .document_length = strlen(l->texts[1][i]),
                                   .query_key = 100 + i,
                                   .document_key = 200 + i,
                                   .weight = 1,
                                   .negatives = &l->negatives[i],
                                   .negative_count = i % 3 != 0};
    }
}

/* The first step's loss; params may be NULL, else the caller's. */
static double first_loss(const model *m, const train_pair *pairs, size_t count, const train_config *config,
                         float **params)
{
    train_report report;
    float *trained;
    ck_ok(train_mnrl(m, pairs, count, config, NULL, &trained, &report, &error));
    if (params != NULL)
        *params = trained;
    else
        free(trained);
    return report.first_loss;
}

static double loss_from_file(const lesson *l, const train_config *config)
{
    char all[PAIRS * 240], *at = all;
    for (size_t i = 0; i < PAIRS; i++) {
        const char *rest = l->pairs[i].negative_count > 0 ? l->texts[2][i] : NULL;
        at += sprintf(at, rest != NULL ? "[\"%s\", \"%s\", \"%s\"]\n" : "[\"%s\", \"%s\"]\n", l->texts[0][i],
                      l->texts[1][i], rest);
    }
    const train_mix_options how = {
        .steps = 2, .lessons = &RANKING, .set_count = 1, .negatives = 1, .folder = testing_folder()};
    run_case c;
    train_report report;
    float *params;
    ck_assert(run_begin(&c, data_file("negatives.jsonl", all), PAIRS));
    ck_ok(train_on_mix(c.m, c.mix, &how, config, NULL, &params, &report, &error));
    free(params);
    run_end(&c);
    return report.first_loss;
}

START_TEST(negatives_give_pairs_in_memory_the_loss_of_files)
{
    lesson l;
    const train_config config = settings(PAIRS, 2);
    model *m = open_tiny();
    if (m == NULL)
        return;
    make(&l);
    const double with = first_loss(m, l.pairs, PAIRS, &config, NULL);
    ck_assert_double_eq_tol(with, loss_from_file(&l, &config), 1e-5);
    for (size_t i = 0; i < PAIRS; i++)
        l.pairs[i].negative_count = 0;
    ck_assert_double_lt(first_loss(m, l.pairs, PAIRS, &config, NULL), with);
    model_close(m);
}
END_TEST

START_TEST(a_right_document_of_the_query_is_no_negative_of_it)
{
    lesson l;
    const train_config config = settings(PAIRS, 2);
    model *m = open_tiny();
    if (m == NULL)
        return;
    make(&l);
    const double with = first_loss(m, l.pairs, 2, &config, NULL); /* the second has one */
    l.negatives[1].key = l.pairs[1].document_key;
    const double own = first_loss(m, l.pairs, 2, &config, NULL); /* a negative of the first query only */
    l.pairs[1].negative_count = 0;
    const double none = first_loss(m, l.pairs, 2, &config, NULL);
    ck_assert(none < own && own < with);
    model_close(m);
}
END_TEST

START_TEST(a_guide_leaves_out_what_it_likes_as_well_as_the_right_document)
{
    lesson l;
    pair_negatives list;
    pair_guide *guide;
    train_config config = settings(PAIRS, 2);
    model *m = open_tiny();
    if (m == NULL)
        return;
    make(&l);
    /* As the right document by the guide, though of another key: one that would be right as well. */
    strcpy(l.texts[2][1], l.texts[1][1]);
    l.negatives[1].length = l.pairs[1].document_length;
    snprintf(config.guide, sizeof config.guide, "%s", testing_shared("golden/tiny-bert-max"));
    ck_ok(pair_negatives_list(&list, l.pairs, PAIRS, &error));
    ck_assert(list.count == 8 && list.from[1] == 0 && list.items[0] == &l.negatives[1]);
    ck_ok(pair_guide_create(&guide, l.pairs, PAIRS, &list, &config, model_get_gemm(m), NULL, &error));
    ck_assert(list.count < 8 && list.from[2] == 0); /* that of pair 1 is gone */
    /* Each that was kept is at most 0.95 times as close as its pair's document. */
    for (uint32_t i = 0; i < PAIRS; i++) {
        const size_t own = list.from[i + 1] - list.from[i];
        const float *cosines = pair_guide_cosines(guide, &i, 1);
        for (size_t k = 0; k < own; k++)
            ck_assert_float_le(cosines[1 + k], 0.95f * cosines[0] + 1e-5f);
    }
    pair_guide_destroy(guide);
    pair_negatives_free(&list);

    config.negative_ratio = 10;
    ck_ok(pair_negatives_list(&list, l.pairs, PAIRS, &error));
    ck_ok(pair_guide_create(&guide, l.pairs, PAIRS, &list, &config, model_get_gemm(m), NULL, &error));
    ck_assert_uint_eq(list.count, 8);
    static const uint32_t members[3] = {4, 0, 1};
    const float *cosines = pair_guide_cosines(guide, members, 3); /* [3, 3 documents and 2 negatives] */
    ck_assert_float_eq_tol(cosines[2 * 5 + 2], cosines[2 * 5 + 4], 1e-5);
    pair_guide_destroy(guide);
    pair_negatives_free(&list);
    ck_assert_double_gt(first_loss(m, l.pairs, PAIRS, &config, NULL), 0);
    model_close(m);
}
END_TEST

START_TEST(training_goes_on_from_a_checkpoint_to_the_same_weights)
{
    lesson l;
    char path[512];
    train_config config = settings(PAIRS, 2);
    model *m = open_tiny();
    float *whole, *resumed;
    if (m == NULL)
        return;
    make(&l);
    config.batch_size = 4;
    config.epochs = 1;
    (void)first_loss(m, l.pairs, PAIRS, &config, &whole);
    snprintf(path, sizeof path, "%s/checkpoint", testing_folder());
    config.checkpoint = path;
    config.checkpoint_every = 2;
    (void)first_loss(m, l.pairs, PAIRS, &config, NULL);
    (void)first_loss(m, l.pairs, PAIRS, &config, &resumed);
    ck_assert_mem_eq(whole, resumed, encoder_layout(model_get_encoder(m))->total * sizeof *whole);
    free(whole);
    free(resumed);
    /* Other negatives are another run. */
    train_report report;
    l.negatives[1].key++;
    ck_fails(train_mnrl(m, l.pairs, PAIRS, &config, NULL, &resumed, &report, &error), SEM_FAILED_PRECONDITION);
    model_close(m);
}
END_TEST

START_TEST(a_negative_that_is_not_text_is_refused)
{
    lesson l;
    const train_config config = settings(PAIRS, 2);
    train_report report;
    float *params;
    model *m = open_tiny();
    if (m == NULL)
        return;
    make(&l);
    l.negatives[2] = (train_negative){.text = "\xff", .length = 1, .key = 7};
    ck_fails(train_mnrl(m, l.pairs, PAIRS, &config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "negative 0 of training pair 2"));
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_negatives");
    TCase *tests = tcase_create("train_negatives");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, negatives_give_pairs_in_memory_the_loss_of_files);
    tcase_add_test(tests, a_right_document_of_the_query_is_no_negative_of_it);
    tcase_add_test(tests, a_guide_leaves_out_what_it_likes_as_well_as_the_right_document);
    tcase_add_test(tests, training_goes_on_from_a_checkpoint_to_the_same_weights);
    tcase_add_test(tests, a_negative_that_is_not_text_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
