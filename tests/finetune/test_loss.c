#include "tests/common/testing.h"

#include "base/random.h"
#include "finetune/loss_mnrl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 5, C = 8, E = 6 };

/* The plainest product there is: what the loss computes is checked apart from
 * any kernel. */
static void multiply(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                     const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t p = 0; p < k; p++)
                sum += (double)(ta ? a[p * lda + i] : a[i * lda + p]) * (tb ? b[j * ldb + p] : b[p * ldb + j]);
            c[i * ldc + j] = (float)(alpha * sum) + (beta == 0 ? 0 : beta * c[i * ldc + j]);
        }
    }
}

static const gemm plain = {"plain", multiply};

typedef struct loss_case {
    float anchor[B * E], candidate[C * E], d_anchor[B * E], d_candidate[C * E], weight[B];
    uint64_t anchor_key[B], candidate_key[C];
    mnrl_batch batch;
    mnrl_scratch scratch;
} loss_case;

static sem_error error;

static void fill_unit_rows(random_state *r, float *rows, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        double norm = 0;
        for (size_t k = 0; k < E; k++) {
            rows[i * E + k] = (float)(random_unit(r) - 0.5);
            norm += (double)rows[i * E + k] * rows[i * E + k];
        }
        for (size_t k = 0; k < E; k++)
            rows[i * E + k] /= (float)sqrt(norm);
    }
}

/* Candidates beyond B are negatives; all keys differ. */
static void arrange(loss_case *t, size_t candidates)
{
    random_state r;
    random_seed(&r, testing_seed());
    memset(t, 0, sizeof *t);
    fill_unit_rows(&r, t->anchor, B);
    fill_unit_rows(&r, t->candidate, C);
    for (size_t i = 0; i < B; i++) {
        t->anchor_key[i] = 100 + i;
        t->weight[i] = (float)(0.25 + random_unit(&r));
    }
    for (size_t j = 0; j < C; j++)
        t->candidate_key[j] = 200 + j;
    t->batch = (mnrl_batch){.anchors = B,
                            .candidates = candidates,
                            .dim = E,
                            .anchor = t->anchor,
                            .candidate = t->candidate,
                            .candidate_key = t->candidate_key,
                            .anchor_key = t->anchor_key,
                            .weight = t->weight};
    ck_ok(mnrl_scratch_create(&t->scratch, B, candidates, &error));
}

static double loss_of(loss_case *t, const mnrl_options *o)
{
    return mnrl_loss(&plain, o, &t->batch, &t->scratch, t->d_anchor, t->d_candidate);
}

static void check_slope(loss_case *t, const mnrl_options *o, float *x, float gradient)
{
    const float h = 1e-3f;
    float kept = *x;
    *x = kept + h;
    double up = loss_of(t, o);
    *x = kept - h;
    double down = loss_of(t, o);
    *x = kept;
    double slope = (up - down) / (2 * (double)h);
    ck_assert_msg(fabs(slope - gradient) <= 2e-3 * fmax(1, fabs(slope)), "slope %g, gradient %g", slope,
                  (double)gradient);
}

static void check_gradients(loss_case *t, const mnrl_options *o)
{
    float d_anchor[B * E], d_candidate[C * E];
    loss_of(t, o);
    memcpy(d_anchor, t->d_anchor, sizeof d_anchor);
    memcpy(d_candidate, t->d_candidate, sizeof d_candidate);
    for (size_t i = 0; i < B * E; i++)
        check_slope(t, o, &t->anchor[i], d_anchor[i]);
    for (size_t i = 0; i < t->batch.candidates * E; i++)
        check_slope(t, o, &t->candidate[i], d_candidate[i]);
}

START_TEST(gradient_is_the_slope_of_the_loss)
{
    const mnrl_options options[] = {
        {.scale = 20}, {.scale = 1}, {.scale = 14, .margin = 0.3}, {.scale = 5, .margin = 0.2, .symmetric = true}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        loss_case t;
        arrange(&t, i % 2 == 0 ? B : C);
        t.candidate_key[3] = t.candidate_key[1];
        t.anchor_key[4] = t.anchor_key[0];
        check_gradients(&t, &options[i]);
        mnrl_scratch_free(&t.scratch);
    }
}
END_TEST

START_TEST(equal_documents_are_never_negatives_of_each_other)
{
    loss_case t;
    const mnrl_options o = {.scale = 20, .symmetric = true};
    arrange(&t, B);
    t.candidate_key[3] = t.candidate_key[1];
    memcpy(&t.candidate[3 * E], &t.candidate[1 * E], E * sizeof(float));

    ck_assert(mnrl_masked(&t.batch, 1, 3));
    ck_assert(mnrl_masked(&t.batch, 3, 1));
    ck_assert(!mnrl_masked(&t.batch, 1, 1));
    ck_assert(!mnrl_masked(&t.batch, 1, 2));
    loss_of(&t, &o);
    ck_assert(t.scratch.scores[1 * B + 3] == 0 && t.scratch.scores[3 * B + 1] == 0);
    mnrl_scratch_free(&t.scratch);
}
END_TEST

START_TEST(documents_of_one_query_are_never_negatives_of_it)
{
    loss_case t;
    const mnrl_options o = {.scale = 20};
    arrange(&t, C);
    t.anchor_key[2] = t.anchor_key[0];

    loss_of(&t, &o);
    ck_assert(t.scratch.scores[0 * C + 2] == 0 && t.scratch.scores[2 * C + 0] == 0);
    ck_assert(t.scratch.scores[0 * C + 1] != 0);
    mnrl_scratch_free(&t.scratch);
}
END_TEST

START_TEST(pair_without_negatives_has_loss_zero_and_no_gradient)
{
    loss_case t;
    const mnrl_options o = {.scale = 20, .symmetric = true};
    arrange(&t, B);
    for (size_t i = 0; i < B; i++)
        t.candidate_key[i] = 7;

    ck_assert_double_eq_tol(loss_of(&t, &o), 0, 1e-12);
    for (size_t i = 0; i < B * E; i++)
        ck_assert(fabsf(t.d_anchor[i]) < 1e-6f && fabsf(t.d_candidate[i]) < 1e-6f);
    mnrl_scratch_free(&t.scratch);
}
END_TEST

START_TEST(weight_two_counts_like_two_pairs)
{
    loss_case t;
    const mnrl_options o = {.scale = 20};
    double single[B], expected = 0, total = 0;
    arrange(&t, B);
    for (size_t i = 0; i < B; i++) {
        for (size_t k = 0; k < B; k++)
            t.weight[k] = k == i ? 1 : 1e-30f;
        single[i] = loss_of(&t, &o);
    }
    for (size_t i = 0; i < B; i++) {
        t.weight[i] = i == 2 ? 2 : 1;
        expected += t.weight[i] * single[i];
        total += t.weight[i];
    }
    ck_assert_double_eq_tol(loss_of(&t, &o), expected / total, 1e-6);
    mnrl_scratch_free(&t.scratch);
}
END_TEST

START_TEST(large_scale_does_not_overflow)
{
    loss_case t;
    const mnrl_options o = {.scale = 1000, .margin = 1};
    arrange(&t, C);
    ck_assert(isfinite(loss_of(&t, &o)));
    for (size_t i = 0; i < B * E; i++)
        ck_assert(isfinite(t.d_anchor[i]));
    mnrl_scratch_free(&t.scratch);
}
END_TEST

START_TEST(not_a_number_is_not_hidden)
{
    loss_case t;
    const mnrl_options o = {.scale = 20};
    for (size_t i = 0; i < B; i++) {
        arrange(&t, B);
        t.candidate[i * E] = NAN;
        ck_assert(isnan(loss_of(&t, &o)));
        mnrl_scratch_free(&t.scratch);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loss");
    TCase *tests = tcase_create("loss");
    tcase_add_test(tests, gradient_is_the_slope_of_the_loss);
    tcase_add_test(tests, equal_documents_are_never_negatives_of_each_other);
    tcase_add_test(tests, documents_of_one_query_are_never_negatives_of_it);
    tcase_add_test(tests, pair_without_negatives_has_loss_zero_and_no_gradient);
    tcase_add_test(tests, weight_two_counts_like_two_pairs);
    tcase_add_test(tests, large_scale_does_not_overflow);
    tcase_add_test(tests, not_a_number_is_not_hidden);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
