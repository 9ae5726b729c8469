#include "tests/model/attention_inputs.h"

#include "base/random.h"
#include "model/attention_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- inputs and what must come out */

static double score(const attention_shape *s, const float *qkv, size_t i, size_t j, size_t head)
{
    const float *q = qkv + i * 3 * s->hidden + head * s->width, *k = qkv + (j * 3 + 1) * s->hidden + head * s->width;
    double sum = 0;
    for (size_t d = 0; d < s->width; d++)
        sum += (double)q[d] * k[d];
    sum /= sqrt((double)s->width);
    if (s->bias != NULL)
        sum += (double)s->bias[s->buckets[j + s->reach - 1 - i] * s->heads + head];
    return sum;
}

/* One row of softmax(q k^T / sqrt(D) + bias) v, as it is written. */
static void reference_row(const attention_shape *s, const float *qkv, size_t n, size_t i, size_t head, double *out)
{
    size_t first = s->window > 0 && i > s->window ? i - s->window : 0;
    size_t end = s->window > 0 && i + s->window + 1 < n ? i + s->window + 1 : n;
    double top = -INFINITY, sum = 0;
    for (size_t j = first; j < end; j++)
        top = fmax(top, score(s, qkv, i, j, head));
    memset(out, 0, s->width * sizeof *out);
    for (size_t j = first; j < end; j++) {
        double p = exp(score(s, qkv, i, j, head) - top);
        sum += p;
        for (size_t d = 0; d < s->width; d++)
            out[d] += p * (double)qkv[(j * 3 + 2) * s->hidden + head * s->width + d];
    }
    for (size_t d = 0; d < s->width; d++)
        out[d] /= sum;
}

/* --- training's attention */

enum { TRAIN_TOKENS = 23 };

static float *train_forward(const attention_shape *s, const float *qkv)
{
    static const dropout_site none;
    float *space = floats(attention_forward_space(s, TRAIN_TOKENS)), *out = floats(TRAIN_TOKENS * s->hidden);
    attention_forward(&kernels_generic, s, qkv, TRAIN_TOKENS, &none, 0, out, space);
    free(space);
    return out;
}

START_TEST(training_sees_no_key_outside_of_the_window)
{
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t window = 0; window <= TRAIN_TOKENS; window += 1 + window) {
        const attention_shape s = shape_of(2, 6, window);
        float *qkv = random_floats(TRAIN_TOKENS * 3 * s.hidden, &r, 2), *out = train_forward(&s, qkv);
        for (size_t i = 0; i < TRAIN_TOKENS; i++) {
            for (size_t head = 0; head < s.heads; head++) {
                double right[6];
                reference_row(&s, qkv, TRAIN_TOKENS, i, head, right);
                for (size_t d = 0; d < s.width; d++)
                    ck_assert_double_eq_tol((double)out[i * s.hidden + head * s.width + d], right[d], 1e-5);
            }
        }
        free(qkv);
        free(out);
    }
}
END_TEST

static double weighted(const float *out, const float *weights, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)out[i] * weights[i];
    return sum;
}

START_TEST(gradients_of_a_window_equal_finite_differences_and_give_the_context_again)
{
    static const dropout_site none;
    random_state r;
    random_seed(&r, testing_seed());
    const attention_shape s = shape_of(2, 6, 3);
    const size_t n = TRAIN_TOKENS * s.hidden;
    float *qkv = random_floats(3 * n, &r, 1), *weights = random_floats(n, &r, 1), *grad = floats(3 * n);
    float *space = floats(attention_backward_space(&s, TRAIN_TOKENS)), *context = floats(n),
          *out = train_forward(&s, qkv);
    memcpy(context, weights, n * sizeof *context);
    attention_backward(&kernels_generic, &s, qkv, context, TRAIN_TOKENS, &none, 0, grad, NULL, space);
    for (size_t i = 0; i < n; i++)
        ck_assert_float_eq_tol(context[i], out[i], 1e-6f);
    for (size_t i = 0; i < 3 * n; i += 7) {
        const float at = qkv[i], step = 1e-2f;
        qkv[i] = at + step;
        float *up = train_forward(&s, qkv);
        qkv[i] = at - step;
        float *down = train_forward(&s, qkv);
        qkv[i] = at;
        double slope = (weighted(up, weights, n) - weighted(down, weights, n)) / (2 * (double)step);
        ck_assert_double_eq_tol((double)grad[i], slope, 2e-3);
        free(up);
        free(down);
    }
    free(qkv);
    free(weights);
    free(grad);
    free(context);
    free(out);
    free(space);
}
END_TEST

/* --- serving's attention */

/* Number i of the kernels that this machine runs, or NULL. */
static const attention_level *level(size_t i)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    size_t at = 0;
    for (size_t k = 0; levels[k] != NULL; k++) {
        const attention_level *exact = attention_choose(levels[k]->name, PACKED_FLOAT32);
        const attention_level *fast = attention_of_bfloat16(levels[k]->name);
        if (at++ == i)
            return exact;
        if (fast != exact && at++ == i)
            return fast;
    }
    return NULL;
}

enum { GUARD = 64 };
static const float GUARD_VALUE = 12345;

/* The context [n, H] of heads [first, end), GUARD_VALUE elsewhere. Fails where the
 * working space is left. */
static float *serve(const attention_level *l, const attention_shape *s, const float *qkv, size_t n, size_t first,
                    size_t end)
{
    size_t count = attention_space(l, s, n);
    float *space = floats(count + GUARD), *out = floats(n * s->hidden + GUARD);
    for (size_t i = 0; i < count + GUARD; i++)
        space[i] = i < count ? NAN : GUARD_VALUE;
    for (size_t i = 0; i < n * s->hidden + GUARD; i++)
        out[i] = GUARD_VALUE;
    attention_serve(l, s, qkv, n, first, end, out, space);
    for (size_t i = 0; i < GUARD; i++)
        ck_assert_msg(space[count + i] == GUARD_VALUE && out[n * s->hidden + i] == GUARD_VALUE,
                      "%s writes behind its buffers with %zu tokens of width %zu", l->name, n, s->width);
    free(space);
    return out;
}

/* Every step-th row of every level's context against double precision. */
static void check_rows(const attention_shape *s, const float *qkv, size_t n, size_t step, double exact, double fast)
{
    double *right = calloc(s->width, sizeof *right);
    ck_assert_ptr_nonnull(right);
    for (size_t l = 0; level(l) != NULL; l++) {
        float *out = serve(level(l), s, qkv, n, 0, s->heads);
        const double tolerance = level(l)->group == 1 ? exact : fast;
        for (size_t i = 0; i < n; i += i + step < n || i + 1 == n ? step : n - 1 - i) {
            for (size_t head = 0; head < s->heads; head++) {
                reference_row(s, qkv, n, i, head, right);
                for (size_t d = 0; d < s->width; d++) {
                    double found = (double)out[i * s->hidden + head * s->width + d];
                    ck_assert_msg(fabs(found - right[d]) <= tolerance,
                                  "%s, %zu tokens of width %zu, window %zu, row %zu: %g, expected %g", level(l)->name,
                                  n, s->width, s->window, i, found, right[d]);
                }
            }
        }
        free(out);
    }
    free(right);
}

static const size_t WIDTHS[] = {8, 16, 17, 24, 32, 40, 64, 80, 128};
enum { WIDTH_COUNT = sizeof WIDTHS / sizeof *WIDTHS };

/* Values between -1 and 1 that give scores of a few units at any width. */
static float *some_qkv(const attention_shape *s, size_t n, random_state *r)
{
    float *qkv = random_floats(n * 3 * s->hidden, r, 1);
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < 2 * s->hidden; d++)
            qkv[i * 3 * s->hidden + d] *= 2;
    return qkv;
}

static const double EXACT = 3e-6, FAST = 0.015;

START_TEST(every_level_comes_near_double_precision)
{
    random_state r;
    random_seed(&r, testing_seed());
    const attention_shape s = shape_of(WIDTHS[_i] < 64 ? 2 : 1, WIDTHS[_i], 0);
    for (size_t n = 1; n <= 70; n++) {
        float *qkv = some_qkv(&s, n, &r);
        check_rows(&s, qkv, n, 1, EXACT, FAST);
        free(qkv);
    }
}
END_TEST

START_TEST(long_texts_come_near_double_precision)
{
    static const size_t lengths[] = {255, 256, 257, 511, 512, 513, 1025, 2000, 8192};
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const attention_shape s = shape_of(1, 32, 0);
        float *qkv = some_qkv(&s, lengths[i], &r);
        check_rows(&s, qkv, lengths[i], 1 + lengths[i] / 40, EXACT, FAST);
        free(qkv);
    }
}
END_TEST

START_TEST(no_key_outside_of_the_window_is_seen)
{
    static const size_t lengths[] = {1, 14, 31, 64, 130, 700, 1300}, windows[] = {1, 5, 16, 64, 600};
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        for (size_t w = 0; w < sizeof windows / sizeof *windows; w++) {
            const attention_shape s = shape_of(1, w % 2 == 0 ? 32 : 24, windows[w]);
            float *qkv = some_qkv(&s, lengths[i], &r);
            check_rows(&s, qkv, lengths[i], 1 + lengths[i] / 100, EXACT, FAST);
            free(qkv);
        }
    }
}
END_TEST

START_TEST(biases_by_distance_are_added)
{
    enum { REACH = 600, BUCKETS = 5, HEADS = 2 };
    static const size_t lengths[] = {1, 7, 33, 64, 300, REACH};
    static uint8_t buckets[2 * REACH - 1];
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t i = 0; i < sizeof buckets; i++)
        buckets[i] = (uint8_t)random_below(&r, BUCKETS);
    float *bias = random_floats(BUCKETS * HEADS, &r, 3);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        attention_shape s = shape_of(HEADS, 32, i % 2 == 0 ? 0 : 20);
        s.bias = bias;
        s.buckets = buckets;
        s.reach = REACH;
        float *qkv = some_qkv(&s, lengths[i], &r);
        check_rows(&s, qkv, lengths[i], 1 + lengths[i] / 50, 2 * EXACT, 2 * FAST);
        free(qkv);
    }
    free(bias);
}
END_TEST

/* Queries and keys of one direction each, so that scores are far from 0 and near to
 * each other: what the weights of a softmax that takes no maximum off cannot hold. */
START_TEST(scores_far_from_zero_give_the_same_as_near_ones)
{
    static const float offsets[] = {-3000, -150, -60, 60, 150, 3000};
    random_state r;
    random_seed(&r, testing_seed());
    for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++) {
        attention_shape s = shape_of(2, 32, 0);
        const size_t n = 77;
        float *qkv = some_qkv(&s, n, &r), *near[8];
        for (size_t i = 0; i < n * 2; i++) /* the last number of each query and key */
            qkv[i / 2 * 3 * s.hidden + i % 2 * s.hidden + 63] = 0;
        for (size_t l = 0; level(l) != NULL; l++)
            near[l] = serve(level(l), &s, qkv, n, 0, 2);
        for (size_t i = 0; i < n; i++) {
            qkv[i * 3 * s.hidden + 63] = 1;
            qkv[i * 3 * s.hidden + s.hidden + 63] = offsets[o] * 5.65625f; /* sqrt(32) as bfloat16 has it */
        }
        for (size_t l = 0; level(l) != NULL; l++) {
            float *far = serve(level(l), &s, qkv, n, 0, 2);
            const double tolerance = level(l)->group == 1 ? 1e-6 * fabs((double)offsets[o]) + EXACT : FAST;
            for (size_t i = 0; i < n * s.hidden; i++)
                ck_assert_msg(fabs((double)far[i] - (double)near[l][i]) <= tolerance, "%s, %g: %g, expected %g",
                              level(l)->name, (double)offsets[o], (double)far[i], (double)near[l][i]);
            free(far);
            free(near[l]);
        }
        free(qkv);
    }
}
END_TEST

START_TEST(the_largest_of_extreme_scores_takes_all)
{
    const attention_shape s = shape_of(1, 16, 0);
    const size_t n = 40;
    for (size_t l = 0; level(l) != NULL; l++) {
        float *qkv = floats(n * 48);
        for (size_t i = 0; i < n; i++) {
            qkv[i * 48] = 200;
            qkv[i * 48 + 16] = i == 17 ? 200 : -200; /* scores of 1e4 and -1e4 */
            qkv[i * 48 + 32] = (float)i;
        }
        float *out = serve(level(l), &s, qkv, n, 0, 1);
        for (size_t i = 0; i < n; i++)
            ck_assert_double_eq_tol((double)out[i * 16], 17, 1e-5);
        free(out);
        free(qkv);
    }
}
END_TEST

START_TEST(equal_scores_give_the_mean)
{
    static const float sizes[] = {0, 1, 200};
    const attention_shape s = shape_of(1, 16, 0);
    const size_t n = 45;
    for (size_t l = 0; level(l) != NULL; l++) {
        for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++) {
            float *qkv = floats(n * 48);
            for (size_t i = 0; i < n; i++) {
                qkv[i * 48] = sizes[z];
                qkv[i * 48 + 16] = -sizes[z];
                qkv[i * 48 + 32] = (float)i;
            }
            float *out = serve(level(l), &s, qkv, n, 0, 1);
            for (size_t i = 0; i < n; i++)
                ck_assert_double_eq_tol((double)out[i * 16], 22, 1e-4);
            free(out);
            free(qkv);
        }
    }
}
END_TEST

START_TEST(what_is_no_number_stays_none)
{
    const attention_shape s = shape_of(2, 16, 0);
    for (size_t l = 0; level(l) != NULL; l++) {
        float *qkv = floats(20 * 96);
        for (size_t d = 0; d < 3; d++)
            qkv[4 * 96 + d * 32] = NAN;
        float *out = serve(level(l), &s, qkv, 20, 0, 2);
        ck_assert(isnan(out[4 * 32]) && isnan(out[0]));
        ck_assert(out[4 * 32 + 16] == 0); /* the other head */
        free(out);
        free(qkv);
    }
}
END_TEST

START_TEST(heads_may_be_computed_apart)
{
    random_state r;
    random_seed(&r, testing_seed());
    const attention_shape s = shape_of(5, 24, 0);
    for (size_t n = 9; n < 100; n += 30) {
        float *qkv = some_qkv(&s, n, &r);
        for (size_t l = 0; level(l) != NULL; l++) {
            float *whole = serve(level(l), &s, qkv, n, 0, 5);
            float *low = serve(level(l), &s, qkv, n, 0, 2), *high = serve(level(l), &s, qkv, n, 2, 5);
            for (size_t i = 0; i < n * s.hidden; i++) {
                bool first = i % s.hidden < 2 * s.width;
                ck_assert(whole[i] == (first ? low[i] : high[i]));
                ck_assert((first ? high[i] : low[i]) == GUARD_VALUE);
            }
            free(whole);
            free(low);
            free(high);
        }
        free(qkv);
    }
}
END_TEST

START_TEST(working_space_grows_with_the_text_and_not_with_its_square)
{
    const attention_shape s = shape_of(12, 32, 0);
    for (size_t l = 0; level(l) != NULL; l++)
        ck_assert_uint_le(attention_space(level(l), &s, 8192), 16 * attention_space(level(l), &s, 512));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/attention");
    TCase *training = tcase_create("training");
    tcase_set_timeout(training, 60);
    tcase_add_test(training, training_sees_no_key_outside_of_the_window);
    tcase_add_test(training, gradients_of_a_window_equal_finite_differences_and_give_the_context_again);
    suite_add_tcase(suite, training);
    TCase *serving = tcase_create("serving");
    tcase_set_timeout(serving, 120);
    tcase_add_loop_test(serving, every_level_comes_near_double_precision, 0, WIDTH_COUNT);
    tcase_add_test(serving, long_texts_come_near_double_precision);
    tcase_add_test(serving, no_key_outside_of_the_window_is_seen);
    tcase_add_test(serving, biases_by_distance_are_added);
    tcase_add_test(serving, scores_far_from_zero_give_the_same_as_near_ones);
    tcase_add_test(serving, the_largest_of_extreme_scores_takes_all);
    tcase_add_test(serving, equal_scores_give_the_mean);
    tcase_add_test(serving, what_is_no_number_stays_none);
    tcase_add_test(serving, heads_may_be_computed_apart);
    tcase_add_test(serving, working_space_grows_with_the_text_and_not_with_its_square);
    suite_add_tcase(suite, serving);
    return testing_run(suite);
}
