/* The gradient of the ranking loss by finite differences, for every tensor of a model
 * of every family that the encoder serves: those of shared/golden, and made ones
 * for families that are not there. */
#include "tests/common/testing.h"
#include "tests/model/golden.h"

#include "base/random.h"
#include "model/model.h"
#include "finetune/loss_mnrl.h"
#include "finetune/train_step_internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 4, TEXTS = 2 * PAIRS + 3 /* as many hard negatives */, MAX_TOKENS = 24 };

static sem_error error;

/* What is checked: parameters, and the batch that the loss is of. */
typedef struct subject {
    const char *name;
    const model_config *config;
    const param_layout *layout;
    float *params;
    token_batch tokens;
    train_text texts[TEXTS];
    loss *loss;
    encoder_tape *tape;
} subject;

static void set_texts(subject *s)
{
    const int32_t *ids = s->tokens.ids;
    ck_assert_uint_eq(s->tokens.texts, TEXTS);
    for (size_t i = 0; i < TEXTS; i++) {
        s->texts[i] = (train_text){.ids = ids, .length = s->tokens.lengths[i]};
        ids += s->tokens.lengths[i];
    }
}

static train_batch batch_of(const subject *s)
{
    static const float weight[PAIRS] = {1, 0.5f, 2, 1};
    return (train_batch){.texts = s->texts, .about = {.pairs = PAIRS, .texts = TEXTS, .weight = weight}};
}

static double loss_now(const subject *s)
{
    float *out = malloc(2 * TEXTS * s->config->dim * sizeof *out);
    ck_assert_ptr_nonnull(out);
    loss_batch about = batch_of(s).about;
    ck_ok(encoder_train_forward(s->tape, s->params, s->tokens.ids, s->tokens.lengths, TEXTS, NULL, out, &error));
    about.embeddings = out;
    about.dim = s->config->dim;
    double found = loss_run(s->loss, &about, out + TEXTS * s->config->dim);
    free(out);
    return found;
}

/* By a step's helpers, each with pieces of one text; the caller frees. */
static float *gradient(const subject *s)
{
    train_step *step = NULL;
    const train_batch batch = batch_of(s);
    const train_step_options o = {.config = s->config,
                                  .layout = s->layout,
                                  .g = &gemm_portable,
                                  .loss = s->loss,
                                  .groups = {.layer_decay = 1},
                                  .optimiser = adamw_defaults(),
                                  .max_tokens = MAX_TOKENS,
                                  .max_steps = 1,
                                  .tape_bytes = 1,
                                  .threads = 2};
    float *sum = calloc(s->layout->total, sizeof *sum);
    ck_assert_ptr_nonnull(sum);
    ck_ok(train_step_create(&step, &o, s->params, &error));
    ck_ok(train_step_add(step, &batch, &error));
    for (unsigned h = 0; h < step->helper_count; h++) {
        for (size_t i = 0; i < s->layout->total; i++)
            sum[i] += step->helpers[h].grads[i];
    }
    train_step_destroy(step);
    return sum;
}

/* A maximum has kinks: there a difference is less like a slope. */
static bool has_kinks(const subject *s)
{
    return (s->config->pooling & POOL_MAX) != 0 || s->config->activation == ACT_RELU;
}

/* The loss's slope along direction [n], of unit length, from the parameters of p. */
static double slope(const subject *s, const param *p, const float *direction, double step)
{
    const size_t n = p->rows * p->cols;
    float *at = s->params + p->offset, *kept = malloc(n * sizeof *kept);
    double side[2], moved = 0;
    ck_assert_ptr_nonnull(kept);
    memcpy(kept, at, n * sizeof *kept);
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < n; i++)
            at[i] = kept[i] + (float)(k == 0 ? step : -step) * direction[i];
        side[k] = loss_now(s);
    }
    moved = (side[0] - side[1]) / (2 * step);
    memcpy(at, kept, n * sizeof *kept);
    free(kept);
    return moved;
}

/* Along the gradient itself, and along it with signs turned at random, so that large
 * elements count whatever their share. */
static void check_tensor(const subject *s, const float *grads, const param *p)
{
    const size_t n = p->rows * p->cols;
    float *direction = malloc(n * sizeof *direction);
    double squares = 0;
    ck_assert_ptr_nonnull(direction);
    for (size_t i = 0; i < n; i++)
        squares += (double)grads[p->offset + i] * grads[p->offset + i];
    const double norm = sqrt(squares);
    for (uint64_t trial = 0; trial < 4; trial++) {
        double expected = 0;
        for (size_t i = 0; i < n; i++) {
            double g = grads[p->offset + i];
            bool turned = trial > 0 && random_at(trial, i) >> 63;
            /* Where nothing has a slope any direction will do. */
            direction[i] = (float)(norm > 1e-6 ? (turned ? -g : g) / norm : (turned ? -1 : 1) / sqrt((double)n));
            expected += g * direction[i];
        }
        double measured = slope(s, p, direction, has_kinks(s) ? 2e-3 : 1e-2);
        double tolerance = (has_kinks(s) ? 0.05 : 0.01) * norm + (has_kinks(s) ? 2e-3 : 2e-4);
        ck_assert_msg(fabs(measured - expected) < tolerance, "%s, %s: gradient %g (length %g), finite difference %g",
                      s->name, p->name, expected, norm, measured);
    }
    free(direction);
}

/* The gradient of the sum of all elements of the embeddings, with the lowest layers frozen; where it is
 * asked for, from an outline, after another pass has taken the tape. The caller frees. */
static float *gradient_of_sum(const subject *s, bool embeddings, size_t layers, bool outlined, size_t *token_bytes)
{
    encoder_tape *tape = NULL;
    encoder_outline *outline = NULL;
    const dropout drop = {.hidden = 0.1f, .attention = 0.1f, .seed = 3}, other = {.hidden = 0.3f, .seed = 4};
    const size_t count = TEXTS * s->config->dim;
    float *out = malloc(count * sizeof *out), *grads = calloc(s->layout->total, sizeof *grads);
    ck_assert(out != NULL && grads != NULL);
    ck_ok(encoder_tape_create(&tape, s->config, s->layout, &gemm_portable, &error));
    encoder_tape_freeze(tape, embeddings, layers);
    *token_bytes = encoder_tape_token_bytes(tape);
    ck_ok(encoder_train_forward(tape, s->params, s->tokens.ids, s->tokens.lengths, TEXTS, &drop, out, &error));
    if (outlined) {
        ck_assert_uint_lt(encoder_outline_token_bytes(tape), *token_bytes / 2);
        ck_ok(encoder_outline_create(&outline, &error));
        ck_ok(encoder_train_note(tape, outline, &error));
        ck_ok(encoder_train_forward(tape, s->params, s->tokens.ids, s->tokens.lengths, 1, &other, out, &error));
        ck_ok(encoder_train_forward(tape, s->params, s->tokens.ids, s->tokens.lengths, TEXTS, &other, out, &error));
        ck_fails(encoder_train_resume(tape, s->params, s->tokens.ids, s->tokens.lengths, 1, &drop, outline, &error),
                 SEM_FAILED_PRECONDITION);
        ck_ok(encoder_train_resume(tape, s->params, s->tokens.ids, s->tokens.lengths, TEXTS, &drop, outline, &error));
    }
    for (size_t i = 0; i < count; i++)
        out[i] = 1;
    ck_ok(encoder_train_backward(tape, s->params, out, grads, &error));
    encoder_outline_destroy(outline);
    encoder_tape_destroy(tape);
    free(out);
    return grads;
}

static void check_outline(const subject *s, bool embeddings, size_t layers)
{
    size_t bytes;
    float *whole = gradient_of_sum(s, embeddings, layers, false, &bytes);
    float *resumed = gradient_of_sum(s, embeddings, layers, true, &bytes);
    for (size_t i = 0; i < s->layout->count; i++) {
        const param *p = &s->layout->items[i];
        ck_assert_msg(memcmp(whole + p->offset, resumed + p->offset, p->rows * p->cols * sizeof *whole) == 0,
                      "%s with %zu layers frozen: %s is another from an outline", s->name, layers, p->name);
    }
    free(whole);
    free(resumed);
}

static void check_subject(subject *s)
{
    const mnrl_options options = {.scale = 4, .margin = 0.1, .symmetric = true};
    size_t silent = 0;
    set_texts(s);
    ck_ok(loss_mnrl_create(&s->loss, &options, &gemm_portable, PAIRS, TEXTS, &error));
    ck_ok(encoder_tape_create(&s->tape, s->config, s->layout, &gemm_portable, &error));
    float *grads = gradient(s);
    for (size_t i = 0; i < s->layout->count; i++) {
        const param *p = &s->layout->items[i];
        double largest = 0;
        for (size_t k = 0; k < p->rows * p->cols; k++)
            largest = fmax(largest, fabs(grads[p->offset + k]));
        silent += largest < 1e-6;
        check_tensor(s, grads, p);
    }
    /* Only what cannot matter, as keys' biases, has no gradient. */
    ck_assert_msg(silent <= s->config->layers, "%s: %zu of %zu tensors without a gradient", s->name, silent,
                  s->layout->count);
    free(grads);
    check_outline(s, false, 0);
    encoder_tape_destroy(s->tape);
    loss_destroy(s->loss);
    token_batch_free(&s->tokens);
}

static void add_text(subject *s, const model *m, const char *text, size_t length)
{
    ck_ok(tokenizer_encode(model_get_tokenizer(m), text, length, MAX_TOKENS, &s->tokens, NULL, &error));
}

START_TEST(gradients_are_slopes_in_every_model_of_the_reference)
{
    subject s = {.name = GOLDEN_MODELS[_i]};
    char path[512];
    model *m = NULL;
    const char *found = testing_shared("golden/train_batch.jsonl");
    if (found == NULL)
        return;
    golden_lines lines = golden_read(found);
    snprintf(path, sizeof path, "golden/%s", GOLDEN_MODELS[_i]);
    found = testing_shared(path);
    if (found == NULL) {
        golden_free(&lines);
        return;
    }
    ck_ok(model_open(&m, found, &gemm_portable, NULL, &error));
    for (size_t i = 0; i < TEXTS; i++) {
        size_t length = 0;
        const char *text = golden_text(lines.items[i], i < PAIRS ? "anchor" : "positive", &length);
        add_text(&s, m, text, length);
    }
    s.config = model_get_config(m);
    s.layout = encoder_layout(model_get_encoder(m));
    s.params = malloc(s.layout->total * sizeof *s.params);
    ck_assert_ptr_nonnull(s.params);
    ck_ok(encoder_read_params(model_get_encoder(m), s.params, &error));
    check_subject(&s);
    free(s.params);
    model_close(m);
    golden_free(&lines);
}
END_TEST

/* Small models of the families with rotary positions and gates. */
static model_config rotary_config(model_family family)
{
    model_config c = {.family = family,
                      .vocab = 31,
                      .hidden = 24,
                      .layers = 3,
                      .heads = 3,
                      .intermediate = 40,
                      .positions = MAX_TOKENS,
                      .layer_norm_eps = 1e-5f,
                      .activation = ACT_GELU,
                      .pooling = POOL_MEAN,
                      .dim = 24,
                      .max_tokens = MAX_TOKENS,
                      .rotary_theta = 50,
                      .gated = true,
                      .no_attention_bias = true,
                      .no_up_bias = true,
                      .no_down_bias = true};
    if (family == FAMILY_NOMIC) {
        c.types = 2;
        c.activation = ACT_SILU;
    } else {
        c.prenorm = true;
        c.no_norm_bias = true;
        c.local[1] = true;
        c.window = 3;
        c.local_theta = 10;
    }
    return c;
}

static bool is_norm_weight(const param *p)
{
    return p->role == PARAM_NORM_WEIGHT || p->role == PARAM_NORM1_WEIGHT || p->role == PARAM_NORM2_WEIGHT ||
           p->role == PARAM_LAST_NORM_WEIGHT;
}

/* Three layers with made weights and texts. */
static void make_subject(subject *s, param_layout *layout, model_config *config)
{
    random_state r;
    *s = (subject){.name = config->family == FAMILY_NOMIC ? "nomic" : "modernbert", .config = config, .layout = layout};
    ck_ok(param_layout_create(layout, config, &error));
    s->params = calloc(layout->total, sizeof *s->params);
    ck_assert_ptr_nonnull(s->params);
    random_seed(&r, 5);
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        for (size_t k = 0; k < p->rows * p->cols; k++)
            s->params[p->offset + k] = (is_norm_weight(p) ? 1 : 0) + (float)(random_unit(&r) - 0.5) * 0.6f;
    }
    for (size_t i = 0; i < TEXTS; i++) {
        int32_t ids[MAX_TOKENS];
        const uint32_t length = (uint32_t)(1 + random_below(&r, MAX_TOKENS));
        for (uint32_t k = 0; k < length; k++)
            ids[k] = (int32_t)random_below(&r, config->vocab);
        ck_assert(token_batch_append(&s->tokens, ids, length));
    }
}

START_TEST(gradients_are_slopes_in_families_with_rotary_positions)
{
    model_config config = rotary_config(_i / 2 == 0 ? FAMILY_MODERNBERT : FAMILY_NOMIC);
    param_layout layout;
    subject s;
    if (_i % 2 == 1) /* and every bias that there may be */
        config.no_attention_bias = config.no_up_bias = config.no_down_bias = config.no_norm_bias = false;
    make_subject(&s, &layout, &config);
    check_subject(&s);
    free(s.params);
    param_layout_free(&layout);
}
END_TEST

/* --- frozen layers */

/* Every element has the bits that it has where nothing is frozen, or is 0 where it is. */
static void check_frozen(const subject *s, const float *all, const float *grads, bool embeddings, size_t layers)
{
    const param_group_options groups = {1, embeddings, layers};
    double factors[64];
    ck_assert_uint_le(s->layout->count, 64);
    ck_ok(param_group_factors(&groups, s->layout, s->config->layers, factors, &error));
    for (size_t i = 0; i < s->layout->count; i++) {
        const param *p = &s->layout->items[i];
        for (size_t k = p->offset; k < p->offset + p->rows * p->cols; k++)
            ck_assert_msg(grads[k] == (factors[i] > 0 ? all[k] : 0), "%s with %zu layers frozen: %s[%zu]", s->name,
                          layers, p->name, k - p->offset);
    }
}

START_TEST(frozen_layers_change_no_bit_of_other_gradients_and_take_less_memory)
{
    model_config config = rotary_config(_i == 0 ? FAMILY_MODERNBERT : FAMILY_NOMIC);
    param_layout layout;
    subject s;
    size_t whole = 0, bytes = 0;
    make_subject(&s, &layout, &config);
    float *all = gradient_of_sum(&s, false, 0, false, &whole);
    for (size_t layers = 0; layers < config.layers; layers++) {
        for (int embeddings = 0; embeddings < 2; embeddings++) {
            float *grads = gradient_of_sum(&s, embeddings, layers, false, &bytes);
            check_frozen(&s, all, grads, embeddings, layers);
            /* Two layers in one place; layers that are passed on the way back have their own. */
            ck_assert(embeddings && layers == 2 ? bytes < whole : bytes == whole);
            free(grads);
            check_outline(&s, embeddings, layers);
        }
    }
    free(all);
    free(s.params);
    token_batch_free(&s.tokens);
    param_layout_free(&layout);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("families");
    TCase *tests = tcase_create("families");
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, gradients_are_slopes_in_every_model_of_the_reference, 0, GOLDEN_MODEL_COUNT);
    tcase_add_loop_test(tests, gradients_are_slopes_in_families_with_rotary_positions, 0, 4);
    tcase_add_loop_test(tests, frozen_layers_change_no_bit_of_other_gradients_and_take_less_memory, 0, 2);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
