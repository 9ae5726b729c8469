#include "tests/common/testing.h"
#include "tests/model/golden.h"

#include "base/random.h"
#include "model/kernels.h"
#include "model/model.h"
#include "model/safetensors.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- a tiny random model */

typedef struct tiny {
    model_config config;
    param_layout layout;
    float *params;
    encoder_tape *tape;
} tiny;

static const int32_t IDS[] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4};
static const uint32_t LENGTHS[] = {5, 1, 18};
enum { TEXTS = 3, TOKENS = 24 };

static model_config bert_config(unsigned pooling, size_t parts)
{
    return (model_config){.family = FAMILY_BERT,
                          .vocab = 11,
                          .hidden = 12,
                          .layers = 2,
                          .heads = 3,
                          .intermediate = 20,
                          .positions = 20,
                          .types = 2,
                          .layer_norm_eps = 1e-5f,
                          .activation = ACT_GELU,
                          .pooling = pooling,
                          .dim = 12 * parts,
                          .max_tokens = 20};
}

/* Mean pooling; the ids hold RoBERTa's and MPNet's padding, which is 1. */
static model_config family_config(model_family family)
{
    model_config c = bert_config(POOL_MEAN, 1);
    c.family = family;
    if (family != FAMILY_BERT)
        c.types = family == FAMILY_ROBERTA ? 1 : 0;
    if (family == FAMILY_ROBERTA || family == FAMILY_MPNET) {
        c.position_start = 2;
        c.positions = 22;
    }
    if (family == FAMILY_MPNET)
        c.relative_buckets = 32;
    if (family == FAMILY_MODERNBERT || family == FAMILY_NOMIC) {
        c.rotary_theta = 50;
        c.gated = true;
        c.no_attention_bias = c.no_up_bias = c.no_down_bias = true;
    }
    if (family == FAMILY_NOMIC)
        c.types = 2;
    if (family == FAMILY_MODERNBERT) {
        c.prenorm = true;
        c.no_norm_bias = true;
        c.layers = 3;
        c.local[1] = true;
        c.window = 3;
        c.local_theta = 10;
    }
    return c;
}

/* The tape borrows the config, so *t must stay where it is. */
static void tiny_create_from(tiny *t, const model_config *config)
{
    sem_error error;
    *t = (tiny){.config = *config};
    ck_ok(param_layout_create(&t->layout, &t->config, &error));
    t->params = calloc(t->layout.total, sizeof *t->params); /* biases that there are not stay 0 */
    ck_assert_ptr_nonnull(t->params);
    random_state r;
    random_seed(&r, 5);
    for (size_t i = 0; i < t->layout.count; i++) {
        const param *p = &t->layout.items[i];
        bool scale = p->role == PARAM_NORM_WEIGHT || p->role == PARAM_NORM1_WEIGHT || p->role == PARAM_NORM2_WEIGHT ||
                     p->role == PARAM_LAST_NORM_WEIGHT;
        float centre = scale ? 1 : 0;
        for (size_t j = 0; j < p->rows * p->cols; j++)
            t->params[p->offset + j] = centre + (float)(random_unit(&r) - 0.5);
    }
    ck_ok(encoder_tape_create(&t->tape, &t->config, &t->layout, &gemm_portable, &error));
}

static void tiny_create(tiny *t, unsigned pooling, size_t parts)
{
    const model_config config = bert_config(pooling, parts);
    tiny_create_from(t, &config);
}

static void tiny_destroy(tiny *t)
{
    encoder_tape_destroy(t->tape);
    param_layout_free(&t->layout);
    free(t->params);
}

/* A loss that weighs every output differently. */
static float loss_weight(size_t i)
{
    return (float)(random_at(9, i) >> 40) / (float)(1 << 24) - 0.5f;
}

static double loss(tiny *t, const dropout *drop)
{
    sem_error error;
    float out[TEXTS * 12 * 6];
    ck_ok(encoder_train_forward(t->tape, t->params, IDS, LENGTHS, TEXTS, drop, out, &error));
    double sum = 0;
    for (size_t i = 0; i < TEXTS * t->config.dim; i++)
        sum += (double)out[i] * (double)loss_weight(i);
    return sum;
}

static float *gradient(tiny *t, const dropout *drop)
{
    sem_error error;
    float d_out[TEXTS * 12 * 6];
    for (size_t i = 0; i < TEXTS * t->config.dim; i++)
        d_out[i] = loss_weight(i);
    float *grads = calloc(t->layout.total, sizeof *grads);
    ck_assert_ptr_nonnull(grads);
    loss(t, drop);
    ck_ok(encoder_train_backward(t->tape, t->params, d_out, grads, &error));
    return grads;
}

static bool has_relu_head(const tiny *t)
{
    bool found = false;
    for (size_t i = 0; i < t->config.dense_count; i++)
        found = found || t->config.dense[i].activation == DENSE_RELU;
    return found;
}

/* Along a random direction over one tensor the loss must change as the gradient
 * says: a whole tensor's change stands far above the rounding of float32. */
static void check_tensor(tiny *t, const dropout *drop, const float *grads, const param *p)
{
    const size_t n = p->rows * p->cols;
    /* A maximum has kinks: there the step is small and rounding counts for more. */
    const bool kinks = (t->config.pooling & POOL_MAX) != 0 || t->config.activation == ACT_RELU || has_relu_head(t);
    const float step = kinks ? 2e-4f : 2e-3f;
    float *kept = malloc(n * sizeof *kept);
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, t->params + p->offset, n * sizeof *kept);
    for (uint64_t trial = 0; trial < 3; trial++) {
        double expected = 0, side[2];
        for (int s = 0; s < 2; s++) {
            for (size_t i = 0; i < n; i++) {
                float sign = random_at(trial, i) >> 63 ? 1 : -1;
                t->params[p->offset + i] = kept[i] + (s == 0 ? step : -step) * sign;
                expected += s == 0 ? (double)(sign * grads[p->offset + i]) : 0;
            }
            side[s] = loss(t, drop);
        }
        double measured = (side[0] - side[1]) / (2 * (double)step);
        double tolerance = 1e-3 * fabs(expected) + (kinks ? 2e-2 : 2e-3);
        ck_assert_msg(fabs(measured - expected) < tolerance, "%s: gradient %g, finite difference %g", p->name, expected,
                      measured);
    }
    memcpy(t->params + p->offset, kept, n * sizeof *kept);
    free(kept);
}

static void check_config_tensors(const model_config *config, const dropout *drop)
{
    tiny t;
    tiny_create_from(&t, config);
    float *grads = gradient(&t, drop);
    for (size_t i = 0; i < t.layout.count; i++)
        check_tensor(&t, drop, grads, &t.layout.items[i]);
    free(grads);
    tiny_destroy(&t);
}

static void check_all_tensors(unsigned pooling, size_t parts, const dropout *drop)
{
    const model_config config = bert_config(pooling, parts);
    check_config_tensors(&config, drop);
}

START_TEST(gradients_equal_finite_differences)
{
    check_all_tensors(POOL_MEAN, 1, NULL);
}
END_TEST

START_TEST(gradients_equal_finite_differences_under_dropout)
{
    const dropout drop = {.hidden = 0.1f, .attention = 0.2f, .seed = 77};
    check_all_tensors(POOL_MEAN, 1, &drop);
}
END_TEST

START_TEST(gradients_equal_finite_differences_for_every_pooling)
{
    static const unsigned poolings[] = {POOL_CLS, POOL_MAX, POOL_MEAN_SQRT_LEN, POOL_WEIGHTED_MEAN, POOL_LAST_TOKEN};
    for (size_t i = 0; i < sizeof poolings / sizeof *poolings; i++)
        check_all_tensors(poolings[i], 1, NULL);
    check_all_tensors(63, 6, NULL);
}
END_TEST

START_TEST(gradients_equal_finite_differences_for_every_family)
{
    const dropout drop = {.hidden = 0.1f, .attention = 0.2f, .seed = 5};
    const model_config config = family_config((model_family)_i);
    check_config_tensors(&config, NULL);
    check_config_tensors(&config, &drop);
}
END_TEST

/* Every bias that there may be, gates of another activation, and a layout with nothing missing. */
START_TEST(gradients_equal_finite_differences_for_rotary_families_with_biases)
{
    const dropout drop = {.hidden = 0.1f, .attention = 0.2f, .seed = 6};
    model_config config = family_config((model_family)_i);
    config.no_attention_bias = config.no_up_bias = config.no_down_bias = config.no_norm_bias = false;
    config.activation = ACT_SILU;
    check_config_tensors(&config, NULL);
    check_config_tensors(&config, &drop);
}
END_TEST

START_TEST(biases_that_a_model_does_not_have_get_no_gradient)
{
    tiny t;
    const model_config config = family_config((model_family)_i);
    tiny_create_from(&t, &config);
    float *grads = gradient(&t, NULL);
    ck_assert_uint_gt(t.layout.zeros_count, 0);
    for (size_t i = 0; i < t.layout.zeros_count; i++)
        ck_assert(grads[t.layout.zeros + i] == 0);
    free(grads);
    tiny_destroy(&t);
}
END_TEST

START_TEST(gradients_equal_finite_differences_for_every_activation)
{
    model_config config = family_config(FAMILY_BERT);
    config.activation = (model_activation)_i;
    check_config_tensors(&config, NULL);
}
END_TEST

/* Two Dense modules in a row behind two poolings, the second without a bias. */
static model_config dense_config(dense_activation activation)
{
    model_config c = bert_config(POOL_CLS | POOL_MEAN, 2);
    c.dense[0] = (model_dense){.folder = "2_Dense", .in = 24, .out = 30, .bias = true, .activation = activation};
    c.dense[1] = (model_dense){.folder = "3_Dense", .in = 30, .out = 7, .activation = DENSE_IDENTITY};
    c.dense_count = 2;
    c.dim = 7;
    return c;
}

START_TEST(gradients_equal_finite_differences_through_dense_modules)
{
    const model_config config = dense_config((dense_activation)_i);
    check_config_tensors(&config, NULL);
}
END_TEST

START_TEST(gradients_are_added_to_what_is_there)
{
    /* Arrange */
    sem_error error;
    tiny t;
    tiny_create(&t, POOL_MEAN, 1);
    float *once = gradient(&t, NULL), *twice = gradient(&t, NULL), d_out[TEXTS * 12];
    for (size_t i = 0; i < TEXTS * 12; i++)
        d_out[i] = loss_weight(i);

    /* Act */
    loss(&t, NULL);
    ck_ok(encoder_train_backward(t.tape, t.params, d_out, twice, &error));

    /* Assert */
    for (size_t i = 0; i < t.layout.total; i++)
        ck_assert_float_eq_tol(twice[i], 2 * once[i], 1e-5f + 1e-5f * fabsf(once[i]));
    free(once);
    free(twice);
    tiny_destroy(&t);
}
END_TEST

START_TEST(backward_without_a_forward_of_its_own_is_refused)
{
    sem_error error;
    tiny t;
    tiny_create(&t, POOL_MEAN, 1);
    float d_out[TEXTS * 12] = {0};
    float *grads = gradient(&t, NULL);
    ck_fails(encoder_train_backward(t.tape, t.params, d_out, grads, &error), SEM_FAILED_PRECONDITION);
    free(grads);
    tiny_destroy(&t);
}
END_TEST

START_TEST(dropout_masks_repeat_with_the_seed_and_change_with_it)
{
    tiny t;
    tiny_create(&t, POOL_MEAN, 1);
    const dropout first = {.hidden = 0.1f, .attention = 0.1f, .seed = 1};
    const dropout second = {.hidden = 0.1f, .attention = 0.1f, .seed = 2};
    double once = loss(&t, &first), again = loss(&t, &first), other = loss(&t, &second), none = loss(&t, NULL);
    ck_assert(once == again);
    ck_assert(once != other);
    ck_assert(once != none);
    tiny_destroy(&t);
}
END_TEST

START_TEST(dropout_of_one_or_more_is_refused)
{
    sem_error error;
    tiny t;
    tiny_create(&t, POOL_MEAN, 1);
    float out[TEXTS * 12];
    const dropout all = {.hidden = 1.0f};
    const dropout nothing = {.attention = NAN};
    ck_fails(encoder_train_forward(t.tape, t.params, IDS, LENGTHS, TEXTS, &all, out, &error), SEM_INVALID_ARGUMENT);
    ck_fails(encoder_train_forward(t.tape, t.params, IDS, LENGTHS, TEXTS, &nothing, out, &error), SEM_INVALID_ARGUMENT);
    tiny_destroy(&t);
}
END_TEST

START_TEST(weights_that_are_not_finite_fail_the_forward_pass)
{
    sem_error error;
    tiny t;
    tiny_create(&t, POOL_MEAN, 1);
    float out[TEXTS * 12];
    t.params[t.layout.items[7].offset] = NAN;
    ck_fails(encoder_train_forward(t.tape, t.params, IDS, LENGTHS, TEXTS, NULL, out, &error), SEM_INTERNAL);
    tiny_destroy(&t);
}
END_TEST

static void check_training_equals_serving(const model_config *config)
{
    /* Arrange */
    sem_error error;
    tiny t;
    tiny_create_from(&t, config);
    float *copy = malloc(t.layout.total * sizeof *copy);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, t.params, t.layout.total * sizeof *copy);
    encoder *e;
    encoder_scratch *s;
    ck_ok(encoder_create(&e, &t.config, copy, &gemm_portable, &error));
    ck_ok(encoder_scratch_create(&s, e, 1, &error));
    float trained[TEXTS * 72], served[TEXTS * 72];

    /* Act */
    ck_ok(encoder_train_forward(t.tape, t.params, IDS, LENGTHS, TEXTS, NULL, trained, &error));
    ck_ok(encoder_forward(e, s, IDS, LENGTHS, TEXTS, served, &error));

    /* Assert */
    for (size_t i = 0; i < TEXTS * config->dim; i++)
        ck_assert_float_eq_tol(trained[i], served[i], 1e-6f);
    encoder_scratch_destroy(s);
    encoder_destroy(e);
    tiny_destroy(&t);
}

START_TEST(training_forward_without_dropout_equals_serving)
{
    const model_config joined = bert_config(63, 6), dense = dense_config(DENSE_TANH);
    check_training_equals_serving(&joined);
    check_training_equals_serving(&dense);
    for (int family = FAMILY_BERT; family <= FAMILY_NOMIC; family++) {
        const model_config config = family_config((model_family)family);
        check_training_equals_serving(&config);
    }
}
END_TEST

/* --- against PyTorch: multiple negatives ranking loss at scale 20 on tiny-bert */

enum { PAIRS = 12, GOLDEN_WIDTH = 48 };

/* d[2 PAIRS, E] of the mean of -log softmax(20 a_i . p_j)[i]; e holds anchors, then positives. */
static double ranking_loss(const float *e, float *d)
{
    const double scale = 20;
    double sum = 0;
    memset(d, 0, 2 * PAIRS * GOLDEN_WIDTH * sizeof *d);
    for (size_t i = 0; i < PAIRS; i++) {
        double score[PAIRS], total = 0;
        for (size_t j = 0; j < PAIRS; j++) {
            score[j] = 0;
            for (size_t x = 0; x < GOLDEN_WIDTH; x++)
                score[j] += scale * (double)e[i * GOLDEN_WIDTH + x] * (double)e[(PAIRS + j) * GOLDEN_WIDTH + x];
            total += exp(score[j]);
        }
        sum += (log(total) - score[i]) / PAIRS;
        for (size_t j = 0; j < PAIRS; j++) {
            float slope = (float)(scale / PAIRS * (exp(score[j]) / total - (i == j)));
            for (size_t x = 0; x < GOLDEN_WIDTH; x++) {
                d[i * GOLDEN_WIDTH + x] += slope * e[(PAIRS + j) * GOLDEN_WIDTH + x];
                d[(PAIRS + j) * GOLDEN_WIDTH + x] += slope * e[i * GOLDEN_WIDTH + x];
            }
        }
    }
    return sum;
}

static void compare_gradients(const param_layout *layout, const float *grads, const char *path)
{
    sem_error error;
    safetensors *file;
    float *right = malloc(layout->total * sizeof *right);
    ck_assert_ptr_nonnull(right);
    ck_ok(safetensors_open(&file, path, &error));
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        const tensor_view *view = safetensors_find(file, p->name);
        ck_assert_msg(view != NULL && view->elements == p->rows * p->cols, "%s", p->name);
        ck_ok(tensor_read(view, 0, view->elements, right, &error));
        float largest = 0, worst = 0;
        for (size_t j = 0; j < view->elements; j++) {
            largest = fmaxf(largest, fabsf(right[j]));
            worst = fmaxf(worst, fabsf(right[j] - grads[p->offset + j]));
        }
        ck_assert_msg(worst <= fmaxf(1e-3f * largest, 1e-6f), "%s: off by %g of %g", p->name, (double)worst,
                      (double)largest);
    }
    free(right);
    safetensors_close(file);
}

START_TEST(gradients_equal_the_reference)
{
    /* Arrange */
    sem_error error;
    model *m;
    const char *found = testing_shared("golden/tiny-bert");
    if (found == NULL)
        return;
    ck_ok(model_open(&m, found, NULL, NULL, &error));
    const param_layout *layout = encoder_layout(model_get_encoder(m));
    float *params = malloc(layout->total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    ck_ok(encoder_read_params(model_get_encoder(m), params, &error));
    golden_lines lines = golden_read(testing_shared("golden/train_batch.jsonl"));
    ck_assert_uint_eq(lines.count, PAIRS);
    token_batch batch = {0};
    for (size_t i = 0; i < 2 * PAIRS; i++) {
        size_t length;
        const char *text = golden_text(lines.items[i % PAIRS], i < PAIRS ? "anchor" : "positive", &length);
        ck_ok(model_tokenize(m, NULL, text, length, &batch, NULL, &error));
    }
    encoder_tape *tape;
    float out[2 * PAIRS * GOLDEN_WIDTH], d_out[2 * PAIRS * GOLDEN_WIDTH];
    float *grads = calloc(layout->total, sizeof *grads);
    ck_assert_ptr_nonnull(grads);
    ck_ok(encoder_tape_create(&tape, model_get_config(m), layout, model_get_gemm(m), &error));

    /* Act */
    ck_ok(encoder_train_forward(tape, params, batch.ids, batch.lengths, batch.texts, NULL, out, &error));
    double loss_found = ranking_loss(out, d_out);
    ck_ok(encoder_train_backward(tape, params, d_out, grads, &error));

    /* Assert */
    ck_assert_double_eq_tol(loss_found, 2.397014856338501, 2.4e-4);
    compare_gradients(layout, grads, testing_shared("golden/grads_mnrl_scale20.safetensors"));
    free(grads);
    encoder_tape_destroy(tape);
    token_batch_free(&batch);
    golden_free(&lines);
    free(params);
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/backward");
    TCase *gradients = tcase_create("gradients");
    tcase_set_timeout(gradients, 120);
    tcase_add_test(gradients, gradients_equal_finite_differences);
    tcase_add_test(gradients, gradients_equal_finite_differences_under_dropout);
    tcase_add_test(gradients, gradients_equal_finite_differences_for_every_pooling);
    tcase_add_loop_test(gradients, gradients_equal_finite_differences_for_every_family, FAMILY_BERT, FAMILY_NOMIC + 1);
    tcase_add_loop_test(gradients, gradients_equal_finite_differences_for_rotary_families_with_biases,
                        FAMILY_MODERNBERT, FAMILY_NOMIC + 1);
    tcase_add_loop_test(gradients, biases_that_a_model_does_not_have_get_no_gradient, FAMILY_MODERNBERT,
                        FAMILY_NOMIC + 1);
    tcase_add_loop_test(gradients, gradients_equal_finite_differences_for_every_activation, ACT_GELU, ACT_SILU + 1);
    tcase_add_loop_test(gradients, gradients_equal_finite_differences_through_dense_modules, DENSE_TANH,
                        DENSE_SIGMOID + 1);
    tcase_add_test(gradients, gradients_equal_the_reference);
    tcase_add_test(gradients, gradients_are_added_to_what_is_there);
    tcase_add_test(gradients, backward_without_a_forward_of_its_own_is_refused);
    suite_add_tcase(suite, gradients);
    TCase *forward = tcase_create("forward");
    tcase_add_test(forward, dropout_masks_repeat_with_the_seed_and_change_with_it);
    tcase_add_test(forward, dropout_of_one_or_more_is_refused);
    tcase_add_test(forward, weights_that_are_not_finite_fail_the_forward_pass);
    tcase_add_test(forward, training_forward_without_dropout_equals_serving);
    suite_add_tcase(suite, forward);
    return testing_run(suite);
}
