#include "tests/common/testing.h"
#include "tests/model/golden.h"

#include "base/random.h"
#include "model/model.h"
#include "model/precision.h"
#include "model/precision_mix.h"

#include <string.h>

enum { TEXTS = 30, TOKENS_MAX = 12, WIDTH = 64 };

static const model_config SMALL = {.family = FAMILY_BERT,
                                   .family_name = "bert",
                                   .vocab = 50,
                                   .hidden = WIDTH,
                                   .layers = 4,
                                   .heads = 2,
                                   .intermediate = 128,
                                   .positions = 90,
                                   .types = 2,
                                   .layer_norm_eps = 1e-12f,
                                   .activation = ACT_GELU,
                                   .pooling = POOL_MEAN,
                                   .dim = WIDTH,
                                   .max_tokens = 80};

static sem_error error;

static encoder *make_encoder(void)
{
    param_layout layout;
    encoder *e;
    random_state r;
    ck_ok(param_layout_create(&layout, &SMALL, &error));
    float *params = malloc(layout.total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    random_seed(&r, 3);
    for (size_t i = 0; i < layout.total; i++)
        params[i] = 0.5f * (float)(random_unit(&r) - 0.4);
    param_layout_free(&layout);
    ck_ok(encoder_create(&e, &SMALL, params, &gemm_portable, &error));
    return e;
}

static token_batch make_texts(void)
{
    token_batch batch = {0};
    random_state r;
    int32_t ids[TOKENS_MAX];
    random_seed(&r, 4);
    for (size_t i = 0; i < TEXTS; i++) {
        size_t length = 1 + random_below(&r, TOKENS_MAX);
        for (size_t t = 0; t < length; t++)
            ids[t] = (int32_t)random_below(&r, SMALL.vocab);
        ck_assert(token_batch_append(&batch, ids, length));
    }
    return batch;
}

static double least_cosine(const float *x, const float *y, size_t texts, size_t width)
{
    double least = 1;
    for (size_t i = 0; i < texts; i++) {
        double cosine = 0;
        for (size_t j = 0; j < width; j++)
            cosine += (double)x[i * width + j] * y[i * width + j];
        least = cosine < least ? cosine : least;
    }
    return least;
}

/* All in int8 and measured, then mixed until target is reached or nothing helps. */
static double mix(double target, encoder_precisions *table, double *all_int8, float *out)
{
    static float right[TEXTS * WIDTH];
    token_batch batch = make_texts();
    encoder *e = make_encoder();
    const encoder_precisions int8 = encoder_all_in(e, PACKED_INT8);
    const agreement a = {.batch = &batch, .right = right, .found = out};
    double least;
    ck_ok(encoder_record(e, &error));
    ck_ok(agreement_embed(e, &batch, right, &error));
    ck_ok(encoder_pack(e, &int8, &error));
    ck_ok(agreement_measure(e, &a, &least, &error));
    *all_int8 = least;
    ck_ok(precision_mix(e, &a, PACKED_FLOAT32, target, table, &least, &error));
    encoder_forget(e);
    ck_ok(agreement_embed(e, &batch, out, &error));
    ck_assert_double_eq(least, least_cosine(out, right, TEXTS, WIDTH));
    encoder_destroy(e);
    token_batch_free(&batch);
    return least;
}

static size_t count_letters(const char *text, char letter)
{
    size_t count = 0;
    for (; *text != 0; text++)
        count += *text == letter;
    return count;
}

START_TEST(a_mix_reaches_what_int8_alone_does_not_with_few_matrices)
{
    static float out[TEXTS * WIDTH];
    encoder_precisions table;
    double int8, half;
    mix(0, &table, &int8, out);
    ck_assert_str_eq(table.letters, "iiiiiiiiiiiiiiii");
    half = 1 - (1 - int8) * 0.75;
    ck_assert_double_ge(mix(half, &table, &int8, out), half);
    ck_assert_uint_ge(count_letters(table.letters, 'f'), 1);
    ck_assert_uint_ge(count_letters(table.letters, 'i'), 8);
}
END_TEST

START_TEST(a_mix_that_cannot_reach_what_is_asked_for_is_better_than_int8_and_mostly_int8)
{
    static float out[TEXTS * WIDTH];
    encoder_precisions table;
    double int8, found = mix(1, &table, &int8, out);
    size_t wide = 0, all = 0;
    encoder *e = make_encoder();
    for (size_t i = 0; i < encoder_matrices(e); i++) {
        all += encoder_matrix_size(e, i);
        wide += table.letters[i] == 'f' ? encoder_matrix_size(e, i) : 0;
    }
    encoder_destroy(e);
    ck_assert_double_gt(found, int8);
    ck_assert_double_lt(found, 1);
    ck_assert_uint_le(2 * wide, all);
}
END_TEST

START_TEST(the_same_mix_is_found_every_time)
{
    static float out[2][TEXTS * WIDTH];
    encoder_precisions tables[2];
    double int8;
    for (size_t i = 0; i < 2; i++)
        mix(1, &tables[i], &int8, out[i]);
    ck_assert_str_eq(tables[0].letters, tables[1].letters);
    ck_assert_mem_eq(out[0], out[1], sizeof out[0]);
}
END_TEST

START_TEST(what_was_tried_leaves_no_trace)
{
    static float before[TEXTS * WIDTH], during[TEXTS * WIDTH], after[TEXTS * WIDTH];
    token_batch batch = make_texts();
    encoder *e = make_encoder();
    ck_ok(agreement_embed(e, &batch, before, &error));
    ck_ok(encoder_try(e, 3, PACKED_INT8, &error));
    ck_ok(encoder_try(e, 5, PACKED_INT8, &error)); /* instead of the other */
    ck_ok(agreement_embed(e, &batch, during, &error));
    encoder_untry(e);
    encoder_untry(e);
    ck_ok(agreement_embed(e, &batch, after, &error));
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_int_ne(memcmp(before, during, sizeof before), 0);
    ck_ok(encoder_try(e, 0, PACKED_INT8, &error)); /* and is freed with the encoder */
    encoder_destroy(e);
    token_batch_free(&batch);
}
END_TEST

START_TEST(a_table_that_does_not_fit_is_refused)
{
    encoder *e = make_encoder();
    encoder_precisions table = encoder_all_in(e, PACKED_FLOAT32);
    table.letters[15] = 0;
    ck_fails(encoder_pack(e, &table, &error), SEM_INVALID_ARGUMENT);
    table.letters[15] = 'x';
    ck_fails(encoder_pack(e, &table, &error), SEM_INVALID_ARGUMENT);
    encoder_destroy(e);
}
END_TEST

static float *embed_golden(const model *m, const golden_lines *lines)
{
    token_batch batch = {0};
    float *out = malloc(lines->count * model_get_config(m)->dim * sizeof *out);
    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < lines->count; i++) {
        size_t length;
        const char *text = golden_text(lines->items[i], "text", &length);
        ck_ok(model_tokenize(m, NULL, text, length, &batch, NULL, &error));
    }
    ck_ok(agreement_embed(model_get_encoder(m), &batch, out, &error));
    token_batch_free(&batch);
    return out;
}

/* Not by how it was measured, but on texts that it was not chosen by. */
START_TEST(auto_serves_minilm_in_int8_and_agrees_with_float32_on_other_texts)
{
    const char *path = testing_shared("golden/minilm_embed_texts.jsonl"), *dir = testing_minilm();
    double cosine;
    model *m;
    if (path == NULL || dir == NULL)
        return;
    golden_lines lines = golden_read(path);
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    float *right = embed_golden(m, &lines);
    ck_ok(model_set_precision(m, "auto", 0.999, NULL, &error));
    float *found = embed_golden(m, &lines);
    const char *reason = model_precision_reason(m, &cosine);
    if (encoder_is_fast(model_get_encoder(m), PACKED_INT8))
        ck_assert_msg(strcmp(model_precision(m), "int8") == 0, "%s: %s", model_precision(m), reason);
    ck_assert_double_ge(cosine, 0.999);
    ck_assert_double_ge(least_cosine(found, right, lines.count, model_get_config(m)->dim), 0.999);
    free(right);
    free(found);
    model_close(m);
    golden_free(&lines);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/precision");
    TCase *c = tcase_create("precision");
    tcase_set_timeout(c, 300);
    tcase_add_test(c, a_mix_reaches_what_int8_alone_does_not_with_few_matrices);
    tcase_add_test(c, a_mix_that_cannot_reach_what_is_asked_for_is_better_than_int8_and_mostly_int8);
    tcase_add_test(c, the_same_mix_is_found_every_time);
    tcase_add_test(c, what_was_tried_leaves_no_trace);
    tcase_add_test(c, a_table_that_does_not_fit_is_refused);
    tcase_add_test(c, auto_serves_minilm_in_int8_and_agrees_with_float32_on_other_texts);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
