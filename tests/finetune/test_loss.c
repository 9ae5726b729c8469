#include "tests/finetune/loss_case.h"

#include "finetune/loss_mask.h"
#include "finetune/loss_mnrl.h"

static loss *make(const mnrl_options *o)
{
    loss *l = NULL;
    ck_ok(loss_mnrl_create(&l, o, &plain, B, N, &error));
    return l;
}

/* Masks of the batch; mask(i, j) is of anchor i and candidate j. */
static uint8_t masks[B * C];

static unsigned mask(const loss_case *t, size_t i, size_t j)
{
    return masks[i * (t->batch.texts - B) + j];
}

static void mask_batch(const loss_case *t, double guide_margin)
{
    loss_masks(&t->batch, guide_margin, masks);
    for (size_t i = 0; i < B; i++)
        ck_assert_uint_eq(mask(t, i, i), 0);
}

enum { BOTH = LOSS_MASK_ROW | LOSS_MASK_COLUMN };

static size_t masked_cells(const loss_case *t)
{
    size_t count = 0;
    for (size_t i = 0; i < B * (t->batch.texts - B); i++)
        count += masks[i] != 0;
    return count;
}

START_TEST(gradient_is_the_slope_of_the_loss)
{
    const mnrl_options options[] = {
        {.scale = 20},
        {.scale = 1},
        {.scale = 14, .margin = 0.3},
        {.scale = 5, .margin = 0.2, .symmetric = true},
        {.scale_kind = MNRL_SCALE_LEARNED, .scale = 6, .margin = 0.1},
        {.scale_kind = MNRL_SCALE_LEARNED, .scale = 3, .symmetric = true},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        loss_case t;
        loss *l = make(&options[i]);
        arrange(&t, i % 2 == 0 ? 2 * B : N);
        t.id[B + 3] = t.id[B + 1];
        t.id[4] = t.id[0];
        check_gradients(&t, l);
        t.batch.frequency = t.frequency;
        check_gradients(&t, l);
        loss_destroy(l);
    }
}
END_TEST

START_TEST(gradient_is_the_slope_of_the_loss_under_every_mask)
{
    const mnrl_options o = {.scale = 8, .symmetric = true, .guide_margin = 0.1};
    loss_case t;
    loss *l = make(&o);
    random_state r;
    arrange(&t, N);
    random_seed(&r, testing_seed() + 1);
    for (size_t i = 0; i < B * C; i++)
        t.guide[i] = (float)random_unit(&r);
    t.batch.guide = t.guide;
    t.batch.text = t.text;
    t.batch.label = t.label;
    t.text[B + 6] = t.text[B + 2];
    t.label[B + 7] = t.label[1];
    check_gradients(&t, l);
    loss_destroy(l);
}
END_TEST

START_TEST(equal_documents_are_never_negatives_of_each_other)
{
    loss_case t;
    arrange(&t, N);
    t.id[B + 3] = t.id[B + 1];
    t.id[B + 6] = t.id[B + 2];
    mask_batch(&t, 0);
    ck_assert_uint_eq(mask(&t, 1, 3), BOTH);
    ck_assert_uint_eq(mask(&t, 3, 1), BOTH);
    ck_assert_uint_eq(mask(&t, 2, 6), BOTH);
    ck_assert_uint_eq(masked_cells(&t), 3);
}
END_TEST

START_TEST(documents_of_one_query_are_never_negatives_of_it)
{
    loss_case t;
    arrange(&t, N);
    t.id[2] = t.id[0];
    t.id[B + 7] = t.id[B + 2]; /* another's negative is the other answer of query 0 */
    mask_batch(&t, 0);
    ck_assert_uint_eq(mask(&t, 0, 2), BOTH);
    ck_assert_uint_eq(mask(&t, 2, 0), BOTH);
    ck_assert_uint_eq(mask(&t, 0, 7), BOTH);
    ck_assert_uint_eq(mask(&t, 2, 7), BOTH);
    ck_assert_uint_eq(masked_cells(&t), 4);
}
END_TEST

START_TEST(equal_texts_are_never_negatives)
{
    loss_case t;
    arrange(&t, N);
    t.batch.text = t.text;
    t.text[B + 5] = t.text[B + 0]; /* the same document as a negative */
    t.text[B + 4] = t.text[1];     /* the anchor itself is another's document */
    t.text[3] = t.text[2];         /* the same query twice */
    mask_batch(&t, 0);
    ck_assert_uint_eq(mask(&t, 0, 5), BOTH);
    ck_assert_uint_eq(mask(&t, 1, 4), BOTH);
    ck_assert_uint_eq(mask(&t, 2, 3), BOTH);
    ck_assert_uint_eq(mask(&t, 3, 2), BOTH);
    ck_assert_uint_eq(masked_cells(&t), 4);
}
END_TEST

START_TEST(equal_labels_are_never_negatives_and_no_label_is_equal_to_none)
{
    loss_case t;
    arrange(&t, N);
    t.batch.label = t.label;
    t.label[0] = t.label[B + 0] = 7;
    t.label[3] = t.label[B + 3] = 7;
    t.label[B + 6] = 7;
    t.label[1] = t.label[2] = t.label[B + 2] = t.label[B + 5] = LOSS_NO_KEY;
    mask_batch(&t, 0);
    ck_assert_uint_eq(mask(&t, 0, 3), BOTH);
    ck_assert_uint_eq(mask(&t, 3, 0), BOTH);
    ck_assert_uint_eq(mask(&t, 0, 6), BOTH);
    ck_assert_uint_eq(mask(&t, 3, 6), BOTH);
    ck_assert_uint_eq(masked_cells(&t), 4);
}
END_TEST

START_TEST(guide_masks_what_is_closer_than_the_positive_less_the_margin)
{
    loss_case t;
    arrange(&t, N);
    t.batch.guide = t.guide;
    for (size_t i = 0; i < B; i++)
        t.guide[i * C + i] = 0.6f + 0.05f * (float)i;
    t.guide[0 * C + 2] = 0.62f; /* closer than 0's positive (0.6), not than 2's anchor (0.7) */
    t.guide[4 * C + 1] = 0.7f;  /* not as close as 4's (0.8), closer than 1's (0.65) */
    t.guide[3 * C + 7] = 0.74f; /* 3's positive has 0.75 */
    mask_batch(&t, 0);
    ck_assert_uint_eq(mask(&t, 0, 2), LOSS_MASK_ROW);
    ck_assert_uint_eq(mask(&t, 4, 1), LOSS_MASK_COLUMN);
    ck_assert_uint_eq(masked_cells(&t), 2);
    mask_batch(&t, 0.05);
    ck_assert_uint_eq(mask(&t, 3, 7), LOSS_MASK_ROW);
    ck_assert_uint_eq(masked_cells(&t), 3);
}
END_TEST

START_TEST(masked_candidates_change_nothing)
{
    const mnrl_options o = {.scale = 20, .symmetric = true};
    loss_case t;
    loss *l = make(&o);
    arrange(&t, N);
    t.batch.label = t.label;
    for (size_t j = B; j < C; j++)
        t.label[B + j] = 5;
    for (size_t i = 0; i < B; i++)
        t.label[i] = 5;
    double with = loss_of(&t, l);
    float d[2 * B * E];
    memcpy(d, t.d, sizeof d);
    for (size_t k = 2 * B * E; k < N * E; k++)
        ck_assert(t.d[k] == 0);
    t.batch.texts = 2 * B;
    ck_assert_double_eq_tol(loss_of(&t, l), with, 1e-12);
    for (size_t k = 0; k < 2 * B * E; k++)
        ck_assert_float_eq_tol(t.d[k], d[k], 1e-6f);
    loss_destroy(l);
}
END_TEST

START_TEST(pair_without_negatives_has_loss_zero_and_no_gradient)
{
    loss_case t;
    const mnrl_options o = {.scale = 20, .symmetric = true};
    loss *l = make(&o);
    arrange(&t, 2 * B);
    for (size_t i = 0; i < B; i++)
        t.id[B + i] = 7;
    ck_assert_double_eq_tol(loss_of(&t, l), 0, 1e-12);
    for (size_t i = 0; i < 2 * B * E; i++)
        ck_assert(fabsf(t.d[i]) < 1e-6f);
    loss_destroy(l);
}
END_TEST

START_TEST(weight_two_counts_like_two_pairs)
{
    loss_case t;
    const mnrl_options o = {.scale = 20};
    loss *l = make(&o);
    double single[B], expected = 0, total = 0;
    arrange(&t, 2 * B);
    for (size_t i = 0; i < B; i++) {
        for (size_t k = 0; k < B; k++)
            t.weight[k] = k == i ? 1 : 1e-30f;
        single[i] = loss_of(&t, l);
    }
    for (size_t i = 0; i < B; i++) {
        t.weight[i] = i == 2 ? 2 : 1;
        expected += t.weight[i] * single[i];
        total += t.weight[i];
    }
    ck_assert_double_eq_tol(loss_of(&t, l), expected / total, 1e-6);
    loss_destroy(l);
}
END_TEST

/* A negative that is there three times pushes as once where its frequency says so. */
START_TEST(frequency_undoes_repetition)
{
    loss_case t;
    const mnrl_options o = {.scale = 6};
    loss *l = make(&o);
    arrange(&t, 2 * B + 1);
    double once = loss_of(&t, l);
    t.batch.texts = 2 * B + 3;
    for (size_t copy = 1; copy < 3; copy++)
        memcpy(t.rows + (2 * B + copy) * E, t.rows + 2 * B * E, E * sizeof(float));
    ck_assert(loss_of(&t, l) > once + 1e-3);
    memset(t.frequency, 0, sizeof t.frequency);
    for (size_t copy = 0; copy < 3; copy++)
        t.frequency[2 * B + copy] = logf(3);
    t.batch.frequency = t.frequency;
    ck_assert_double_eq_tol(loss_of(&t, l), once, 1e-6);
    loss_destroy(l);
}
END_TEST

START_TEST(scheduled_scale_rises_from_1_to_23_in_ten_thousand_steps_or_the_run)
{
    const mnrl_options o = {.scale_kind = MNRL_SCALE_SCHEDULED};
    loss *l = make(&o);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(0, 100), 1, 1e-12);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(99, 100), 23, 1e-12);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(33, 100), 1 + 22 / 3.0, 1e-12);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(9999, 50000), 23, 1e-12);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(40000, 50000), 23, 1e-12);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(0, 50000), 1, 1e-12);
    ck_assert_double_eq_tol(mnrl_scheduled_scale(0, 1), 23, 1e-12);
    loss_begin(l, 33, 100);
    ck_assert_double_eq_tol(loss_mnrl_scale(l), 1 + 22 / 3.0, 1e-12);
    loss_destroy(l);
}
END_TEST

START_TEST(scheduled_and_learned_scales_give_the_loss_of_a_fixed_one)
{
    const mnrl_options fixed = {.scale = 23}, scheduled = {.scale_kind = MNRL_SCALE_SCHEDULED},
                       learned = {.scale_kind = MNRL_SCALE_LEARNED, .scale = 23};
    loss_case t;
    loss *l[] = {make(&fixed), make(&scheduled), make(&learned)};
    double found[3];
    arrange(&t, N);
    for (size_t i = 0; i < 3; i++) {
        loss_begin(l[i], 9, 10);
        found[i] = loss_of(&t, l[i]);
        loss_destroy(l[i]);
    }
    ck_assert_double_eq_tol(found[1], found[0], 1e-12);
    ck_assert_double_eq_tol(found[2], found[0], 1e-5);
}
END_TEST

START_TEST(learned_scale_begins_at_a_hundred_at_most)
{
    const mnrl_options o = {.scale_kind = MNRL_SCALE_LEARNED, .scale = 500};
    loss *l = make(&o);
    ck_assert_double_eq_tol(loss_mnrl_scale(l), 100, 1e-4);
    ck_assert_float_eq(l->learned->value, l->learned->most);
    loss_destroy(l);
}
END_TEST

START_TEST(large_scale_does_not_overflow)
{
    loss_case t;
    const mnrl_options o = {.scale = 1000, .margin = 1};
    loss *l = make(&o);
    arrange(&t, N);
    ck_assert(isfinite(loss_of(&t, l)));
    for (size_t i = 0; i < N * E; i++)
        ck_assert(isfinite(t.d[i]));
    loss_destroy(l);
}
END_TEST

START_TEST(not_a_number_is_not_hidden)
{
    loss_case t;
    const mnrl_options o = {.scale = 20};
    loss *l = make(&o);
    for (size_t i = 0; i < B; i++) {
        arrange(&t, 2 * B);
        t.rows[(B + i) * E] = NAN;
        ck_assert(isnan(loss_of(&t, l)));
    }
    loss_destroy(l);
}
END_TEST

START_TEST(unusable_sizes_and_scales_are_refused)
{
    loss_case t;
    loss *l = NULL;
    const mnrl_options good = {.scale = 20}, zero = {.scale = 0}, nan = {.scale = NAN};
    ck_fails(loss_mnrl_create(&l, &zero, &plain, B, N, &error), SEM_INVALID_ARGUMENT);
    ck_fails(loss_mnrl_create(&l, &nan, &plain, B, N, &error), SEM_INVALID_ARGUMENT);
    ck_fails(loss_mnrl_create(&l, &good, &plain, B, 2 * B - 1, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(l);
    arrange(&t, N);
    ck_ok(loss_mnrl_create(&l, &good, &plain, B, N - 1, &error));
    ck_fails(loss_check(l, &t.batch, &error), SEM_INVALID_ARGUMENT);
    t.batch.texts = 2 * B - 1;
    ck_fails(loss_check(l, &t.batch, &error), SEM_INVALID_ARGUMENT);
    t.batch.pairs = 0;
    ck_fails(loss_check(l, &t.batch, &error), SEM_INVALID_ARGUMENT);
    loss_destroy(l);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loss");
    TCase *tests = tcase_create("loss");
    tcase_add_test(tests, gradient_is_the_slope_of_the_loss);
    tcase_add_test(tests, gradient_is_the_slope_of_the_loss_under_every_mask);
    tcase_add_test(tests, equal_documents_are_never_negatives_of_each_other);
    tcase_add_test(tests, documents_of_one_query_are_never_negatives_of_it);
    tcase_add_test(tests, equal_texts_are_never_negatives);
    tcase_add_test(tests, equal_labels_are_never_negatives_and_no_label_is_equal_to_none);
    tcase_add_test(tests, guide_masks_what_is_closer_than_the_positive_less_the_margin);
    tcase_add_test(tests, masked_candidates_change_nothing);
    tcase_add_test(tests, pair_without_negatives_has_loss_zero_and_no_gradient);
    tcase_add_test(tests, weight_two_counts_like_two_pairs);
    tcase_add_test(tests, frequency_undoes_repetition);
    tcase_add_test(tests, scheduled_scale_rises_from_1_to_23_in_ten_thousand_steps_or_the_run);
    tcase_add_test(tests, scheduled_and_learned_scales_give_the_loss_of_a_fixed_one);
    tcase_add_test(tests, learned_scale_begins_at_a_hundred_at_most);
    tcase_add_test(tests, large_scale_does_not_overflow);
    tcase_add_test(tests, not_a_number_is_not_hidden);
    tcase_add_test(tests, unusable_sizes_and_scales_are_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
