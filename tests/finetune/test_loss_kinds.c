/* Losses other than ranking by negatives, and Matryoshka around all of them. */
#include "tests/finetune/loss_case.h"

#include "finetune/loss_anchor.h"
#include "finetune/loss_choice.h"
#include "finetune/loss_cosent.h"
#include "finetune/loss_matryoshka.h"
#include "finetune/loss_mnrl.h"
#include "finetune/loss_mse.h"

enum { KIND_MNRL, KIND_LEARNED, KIND_MSE, KIND_COSENT, KINDS };

static loss *make(int kind)
{
    loss *l = NULL;
    const mnrl_options fixed = {.scale = 6, .symmetric = true},
                       learned = {.scale_kind = MNRL_SCALE_LEARNED, .scale = 4};
    if (kind == KIND_MSE)
        ck_ok(loss_mse_create(&l, B, &error));
    else if (kind == KIND_COSENT)
        ck_ok(loss_cosent_create(&l, 3, B, &error));
    else
        ck_ok(loss_mnrl_create(&l, kind == KIND_MNRL ? &fixed : &learned, &plain, B, N, &error));
    return l;
}

static size_t texts_of(int kind)
{
    return kind == KIND_MNRL || kind == KIND_LEARNED ? N : 2 * B;
}

START_TEST(gradient_is_the_slope_of_the_loss)
{
    loss_case t;
    loss *l = make(_i);
    arrange(&t, texts_of(_i));
    check_gradients(&t, l);
    t.batch.weight = NULL;
    check_gradients(&t, l);
    loss_destroy(l);
}
END_TEST

static loss *wrap(loss *inner, size_t count)
{
    static const size_t dims[] = {1, 3, E};
    static const double weights[] = {0.5, 2, 1};
    loss *l = NULL;
    ck_ok(loss_matryoshka_create(&l, inner, dims, weights, count, E, &error));
    return l;
}

START_TEST(gradient_is_the_slope_of_the_loss_under_matryoshka)
{
    loss_case t;
    loss *l = wrap(make(_i), 3);
    arrange(&t, texts_of(_i));
    /* One dimension alone is 1 or -1 after normalising: no slope but a cliff. Keep off it. */
    for (size_t i = 0; i < N; i++)
        t.rows[i * E] += t.rows[i * E] < 0 ? -0.1f : 0.1f;
    check_gradients(&t, l);
    loss_destroy(l);
}
END_TEST

START_TEST(matryoshka_of_the_full_width_alone_is_the_inner_loss)
{
    static const size_t dims[] = {E};
    static const double weights[] = {1};
    loss_case t;
    loss *inner = make(_i), *outer = NULL;
    float d[N * E];
    arrange(&t, texts_of(_i));
    double expected = loss_of(&t, inner);
    memcpy(d, t.d, sizeof d);
    ck_ok(loss_matryoshka_create(&outer, inner, dims, weights, 1, E, &error));
    ck_assert_double_eq_tol(loss_of(&t, outer), expected, 1e-5);
    /* A unit vector cannot become longer: what points along it has no effect. */
    for (size_t i = 0; i < t.batch.texts; i++) {
        double along = 0;
        for (size_t k = 0; k < E; k++)
            along += (double)d[i * E + k] * t.rows[i * E + k];
        for (size_t k = 0; k < E; k++)
            ck_assert_double_eq_tol(t.d[i * E + k], d[i * E + k] - along * t.rows[i * E + k], 1e-5);
    }
    loss_destroy(outer);
}
END_TEST

START_TEST(matryoshka_is_the_weighted_sum_of_the_losses_of_the_cut_vectors)
{
    static const size_t dims[] = {2, 4};
    static const double weights[] = {1, 0.25};
    loss_case t, cut;
    loss *inner = make(KIND_MNRL), *outer = NULL;
    double expected = 0;
    arrange(&t, N);
    for (size_t m = 0; m < 2; m++) {
        cut = t;
        cut.batch = t.batch;
        cut.batch.embeddings = cut.rows;
        for (size_t i = 0; i < N; i++) {
            double norm = 0;
            for (size_t k = 0; k < E; k++) {
                cut.rows[i * E + k] = k < dims[m] ? t.rows[i * E + k] : 0;
                norm += (double)cut.rows[i * E + k] * cut.rows[i * E + k];
            }
            for (size_t k = 0; k < E; k++)
                cut.rows[i * E + k] /= (float)sqrt(norm);
        }
        expected += weights[m] * loss_of(&cut, inner);
    }
    ck_ok(loss_matryoshka_create(&outer, inner, dims, weights, 2, E, &error));
    ck_assert_double_eq_tol(loss_of(&t, outer), expected, 1e-5);
    loss_destroy(outer);
}
END_TEST

static loss *anchor(loss *inner, double weight)
{
    loss *l = NULL;
    ck_ok(loss_anchor_create(&l, inner, weight, &error));
    return l;
}

START_TEST(gradient_is_the_slope_of_the_loss_under_an_anchor)
{
    loss_case t;
    loss *l = anchor(_i < KINDS ? make(_i) : wrap(make(_i - KINDS), 3), 0.7);
    arrange(&t, texts_of(_i % KINDS));
    for (size_t i = 0; i < N; i++)
        t.rows[i * E] += t.rows[i * E] < 0 ? -0.1f : 0.1f; /* off the cliff of one dimension */
    check_gradients(&t, l);
    loss_destroy(l);
}
END_TEST

START_TEST(an_anchor_adds_the_mean_distance_of_candidates_and_nothing_where_they_have_stayed)
{
    loss_case t;
    loss *alone = make(KIND_MNRL), *l = anchor(make(KIND_MNRL), 0.5);
    float d[N * E];
    double apart = 0;
    arrange(&t, N);
    const double expected = loss_of(&t, alone);
    memcpy(d, t.d, sizeof d);
    for (size_t i = 0; i < C * E; i++)
        apart -= 2 * (double)t.rows[B * E + i] * t.anchor[i]; /* of unit vectors 2 - 2 cos */
    ck_assert_double_eq_tol(loss_of(&t, l), expected + 0.5 * (2 * C + apart) / C, 1e-5);
    ck_assert_mem_eq(t.d, d, B * E * sizeof *d); /* anchors of pairs are free */
    memcpy(t.anchor, t.rows + B * E, sizeof t.anchor);
    ck_assert_double_eq(loss_of(&t, l), expected);
    ck_assert_mem_eq(t.d, d, sizeof d);
    loss_destroy(alone);
    loss_destroy(l);
}
END_TEST

START_TEST(an_anchor_without_weight_or_vectors_is_refused)
{
    static const double bad[] = {0, -1, NAN, INFINITY};
    loss_case t;
    loss *l = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_fails(loss_anchor_create(&l, make(KIND_MNRL), bad[i], &error), SEM_INVALID_ARGUMENT);
        ck_assert_ptr_null(l);
    }
    l = anchor(make(KIND_MSE), 1);
    arrange(&t, 2 * B);
    t.batch.anchor = NULL;
    ck_fails(loss_check(l, &t.batch, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "anchor_weight"));
    t.batch.anchor = t.anchor;
    t.batch.teacher = NULL; /* what the inner one needs */
    ck_fails(loss_check(l, &t.batch, &error), SEM_INVALID_ARGUMENT);
    loss_destroy(l);
}
END_TEST

START_TEST(vectors_of_the_teacher_have_loss_zero)
{
    loss_case t;
    loss *l = make(KIND_MSE), *wrapped = wrap(make(KIND_MSE), 3);
    arrange(&t, 2 * B);
    memcpy(t.rows, t.teacher, sizeof t.teacher);
    ck_assert(loss_of(&t, l) == 0);
    ck_assert_double_eq_tol(loss_of(&t, wrapped), 0, 1e-12);
    loss_destroy(l);
    loss_destroy(wrapped);
}
END_TEST

/* The formula, written down once more. */
START_TEST(cosent_is_the_formula_of_its_paper)
{
    loss_case t;
    loss *l = make(KIND_COSENT);
    double cosine[B] = {0}, sum = 1;
    arrange(&t, 2 * B);
    t.batch.weight = NULL;
    for (size_t i = 0; i < B; i++)
        for (size_t k = 0; k < E; k++)
            cosine[i] += (double)t.rows[i * E + k] * t.rows[(B + i) * E + k];
    for (size_t i = 0; i < B; i++)
        for (size_t j = 0; j < B; j++)
            sum += t.score[i] > t.score[j] ? exp(3 * (cosine[j] - cosine[i])) : 0;
    ck_assert_double_eq_tol(loss_of(&t, l), log(sum), 1e-9);
    loss_destroy(l);
}
END_TEST

START_TEST(cosent_knows_only_the_order_of_the_scores)
{
    loss_case t;
    loss *l = make(KIND_COSENT);
    arrange(&t, 2 * B);
    double before = loss_of(&t, l);
    for (size_t i = 0; i < B; i++)
        t.score[i] = expf(t.score[i]) * 10;
    ck_assert(loss_of(&t, l) == before);
    for (size_t i = 0; i < B; i++)
        t.score[i] = 1;
    ck_assert(loss_of(&t, l) == 0);
    loss_destroy(l);
}
END_TEST

START_TEST(cosent_with_a_large_scale_does_not_overflow)
{
    loss_case t;
    loss *l = NULL;
    ck_ok(loss_cosent_create(&l, 5000, B, &error));
    arrange(&t, 2 * B);
    ck_assert(isfinite(loss_of(&t, l)));
    for (size_t i = 0; i < 2 * B * E; i++)
        ck_assert(isfinite(t.d[i]));
    loss_destroy(l);
}
END_TEST

START_TEST(batches_without_what_the_loss_reads_are_refused)
{
    loss_case t;
    loss *mse = make(KIND_MSE), *cosent = make(KIND_COSENT), *wrapped = wrap(make(KIND_MSE), 2);
    arrange(&t, 2 * B);
    t.batch.teacher = NULL;
    t.batch.score = NULL;
    ck_fails(loss_check(mse, &t.batch, &error), SEM_INVALID_ARGUMENT);
    ck_fails(loss_check(wrapped, &t.batch, &error), SEM_INVALID_ARGUMENT);
    ck_fails(loss_check(cosent, &t.batch, &error), SEM_INVALID_ARGUMENT);
    arrange(&t, 2 * B + 1);
    ck_fails(loss_check(mse, &t.batch, &error), SEM_INVALID_ARGUMENT);
    loss_destroy(mse);
    loss_destroy(wrapped);
    loss_destroy(cosent);
}
END_TEST

START_TEST(unusable_dimensions_are_refused)
{
    static const struct {
        size_t dims[2];
        double weights[2];
        size_t count;
    } bad[] = {{{0}, {1}, 0},           {{0, 2}, {1, 1}, 2}, {{3, 3}, {1, 1}, 2},  {{4, 2}, {1, 1}, 2},
               {{2, E + 1}, {1, 1}, 2}, {{2, 3}, {1, 0}, 2}, {{2, 3}, {NAN, 1}, 2}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        loss *l = NULL;
        ck_fails(loss_matryoshka_create(&l, make(KIND_MSE), bad[i].dims, bad[i].weights, bad[i].count, E, &error),
                 SEM_INVALID_ARGUMENT);
        ck_assert_ptr_null(l);
    }
}
END_TEST

START_TEST(each_batch_of_a_choice_has_the_loss_that_it_names)
{
    static const int kinds[LOSS_NAMES] = {
        [LOSS_MNRL] = KIND_LEARNED, [LOSS_COSENT] = KIND_COSENT, [LOSS_MSE] = KIND_MSE};
    loss_case t;
    loss *members[LOSS_NAMES], *choice = NULL;
    float d[N * E];
    for (size_t i = 0; i < LOSS_NAMES; i++)
        members[i] = make(kinds[i]);
    ck_ok(loss_choice_create(&choice, members, &error));
    ck_assert_uint_eq(choice->max_pairs, B);
    ck_assert_uint_eq(choice->max_texts, N);
    for (size_t i = 0; i < LOSS_NAMES; i++) {
        loss *alone = make(kinds[i]);
        arrange(&t, texts_of(kinds[i]));
        const double expected = loss_of(&t, alone);
        memcpy(d, t.d, sizeof d);
        t.batch.which = i;
        ck_assert_double_eq(loss_of(&t, choice), expected);
        ck_assert_mem_eq(t.d, d, t.batch.texts * E * sizeof *d);
        ck_assert(choice->learned == members[LOSS_MNRL]->learned);
        ck_assert_float_eq(choice->learned->gradient, alone->learned != NULL ? alone->learned->gradient : 0);
        check_gradients(&t, choice);
        loss_destroy(alone);
    }
    loss_destroy(choice);
}
END_TEST

START_TEST(a_batch_for_a_loss_that_the_choice_lacks_is_refused)
{
    loss_case t;
    loss *members[LOSS_NAMES] = {[LOSS_MSE] = make(KIND_MSE)}, *none[LOSS_NAMES] = {0}, *choice = NULL;
    ck_ok(loss_choice_create(&choice, members, &error));
    arrange(&t, 2 * B);
    t.batch.which = LOSS_MSE;
    ck_ok(loss_check(choice, &t.batch, &error));
    t.batch.which = LOSS_COSENT;
    ck_fails(loss_check(choice, &t.batch, &error), SEM_INVALID_ARGUMENT);
    t.batch.which = LOSS_NAMES;
    ck_fails(loss_check(choice, &t.batch, &error), SEM_INVALID_ARGUMENT);
    t.batch.which = LOSS_MSE;
    t.batch.teacher = NULL;
    ck_fails(loss_check(choice, &t.batch, &error), SEM_INVALID_ARGUMENT);
    loss_destroy(choice);
    ck_fails(loss_choice_create(&choice, none, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_null(choice);
}
END_TEST

START_TEST(losses_go_by_their_names)
{
    loss_name found;
    for (size_t i = 0; i < LOSS_NAMES; i++) {
        ck_assert(loss_name_parse(loss_name_text((loss_name)i), &found));
        ck_assert_int_eq(found, (int)i);
    }
    ck_assert(!loss_name_parse("auto", &found));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loss_kinds");
    TCase *tests = tcase_create("loss_kinds");
    tcase_add_loop_test(tests, gradient_is_the_slope_of_the_loss, 0, KINDS);
    tcase_add_loop_test(tests, gradient_is_the_slope_of_the_loss_under_matryoshka, 0, KINDS);
    tcase_add_loop_test(tests, matryoshka_of_the_full_width_alone_is_the_inner_loss, 0, KINDS);
    tcase_add_test(tests, matryoshka_is_the_weighted_sum_of_the_losses_of_the_cut_vectors);
    tcase_add_loop_test(tests, gradient_is_the_slope_of_the_loss_under_an_anchor, 0, 2 * KINDS);
    tcase_add_test(tests, an_anchor_adds_the_mean_distance_of_candidates_and_nothing_where_they_have_stayed);
    tcase_add_test(tests, an_anchor_without_weight_or_vectors_is_refused);
    tcase_add_test(tests, vectors_of_the_teacher_have_loss_zero);
    tcase_add_test(tests, cosent_is_the_formula_of_its_paper);
    tcase_add_test(tests, cosent_knows_only_the_order_of_the_scores);
    tcase_add_test(tests, cosent_with_a_large_scale_does_not_overflow);
    tcase_add_test(tests, batches_without_what_the_loss_reads_are_refused);
    tcase_add_test(tests, unusable_dimensions_are_refused);
    tcase_add_test(tests, each_batch_of_a_choice_has_the_loss_that_it_names);
    tcase_add_test(tests, a_batch_for_a_loss_that_the_choice_lacks_is_refused);
    tcase_add_test(tests, losses_go_by_their_names);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
