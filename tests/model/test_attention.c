#include "tests/common/testing.h"

#include "base/random.h"
#include "model/attention.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- inputs and what must come out */

static float *floats(size_t n)
{
    float *out = calloc(n, sizeof *out);
    ck_assert_ptr_nonnull(out);
    return out;
}

static float *random_floats(size_t n, random_state *r, float width)
{
    float *out = floats(n);
    for (size_t i = 0; i < n; i++)
        out[i] = width * 2 * (float)(random_unit(r) - 0.5);
    return out;
}

static attention_shape shape_of(size_t heads, size_t width, size_t window)
{
    return (attention_shape){.hidden = heads * width, .heads = heads, .width = width, .window = window};
}

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

START_TEST(gradients_of_a_window_equal_finite_differences)
{
    static const dropout_site none;
    random_state r;
    random_seed(&r, testing_seed());
    const attention_shape s = shape_of(2, 6, 3);
    const size_t n = TRAIN_TOKENS * s.hidden;
    float *qkv = random_floats(3 * n, &r, 1), *weights = random_floats(n, &r, 1), *grad = floats(3 * n);
    float *space = floats(attention_backward_space(&s, TRAIN_TOKENS));
    attention_backward(&kernels_generic, &s, qkv, weights, TRAIN_TOKENS, &none, 0, grad, NULL, space);
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
    free(space);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/attention");
    TCase *training = tcase_create("training");
    tcase_set_timeout(training, 60);
    tcase_add_test(training, training_sees_no_key_outside_of_the_window);
    tcase_add_test(training, gradients_of_a_window_equal_finite_differences);
    suite_add_tcase(suite, training);
    return testing_run(suite);
}
