#include "tests/common/testing.h"

#include "base/hash.h"
#include "base/random.h"
#include "model/model.h"
#include "finetune/train_step.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 12, NEGATIVES = 2, MAX_TOKENS = 64, STEPS = 3 };

static sem_error error;

/* The golden model with the golden batch: 12 anchors, positives and twice 12 negatives. */
typedef struct golden {
    sem_log log;
    model *model;
    json_t *expected;   /* train_expected.json */
    token_batch tokens; /* anchors, positives, first negatives, second negatives */
    train_text texts[(2 + NEGATIVES) * ROWS];
    uint64_t key[(2 + NEGATIVES) * ROWS];
    float weight[ROWS];
    float *params;
} golden;

static char *golden_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "golden/%s", name);
    const char *found = testing_shared(path);
    if (found == NULL)
        return NULL;
    snprintf(path, sizeof path, "%s", found);
    return path;
}

static void add_text(golden *t, json_t *text)
{
    const char *s = json_string_value(text);
    size_t i = t->tokens.texts;
    ck_ok(tokenizer_encode(model_get_tokenizer(t->model), s, strlen(s), MAX_TOKENS, &t->tokens, NULL, &error));
    t->key[i] = hash_text(s, strlen(s));
}

static void add_rows(golden *t, json_t *rows[ROWS])
{
    for (size_t i = 0; i < ROWS; i++)
        add_text(t, json_object_get(rows[i], "anchor"));
    for (size_t i = 0; i < ROWS; i++)
        add_text(t, json_object_get(rows[i], "positive"));
    for (size_t n = 0; n < NEGATIVES; n++) {
        for (size_t i = 0; i < ROWS; i++)
            add_text(t, json_array_get(json_object_get(rows[i], "negatives"), n));
    }
    const int32_t *ids = t->tokens.ids;
    for (size_t i = 0; i < t->tokens.texts; i++) {
        t->texts[i] = (train_text){.ids = ids, .length = t->tokens.lengths[i]};
        ids += t->tokens.lengths[i];
    }
}

static json_t *load(const char *name)
{
    json_error_t problem;
    json_t *value = json_load_file(golden_path(name), 0, &problem);
    ck_assert_msg(value != NULL, "%s: %s", name, problem.text);
    return value;
}

/* False where the reference data is missing. */
static bool golden_open(golden *t)
{
    json_t *rows[ROWS];
    memset(t, 0, sizeof *t);
    if (golden_path("train_batch.jsonl") == NULL)
        return false;
    log_init(&t->log, 2, LOG_LEVEL_ERROR);
    ck_ok(model_open(&t->model, golden_path("tiny-bert"), NULL, &t->log, &error));
    t->expected = load("train_expected.json");
    FILE *file = fopen(golden_path("train_batch.jsonl"), "r");
    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < ROWS; i++) {
        rows[i] = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL);
        ck_assert_ptr_nonnull(rows[i]);
        t->weight[i] = 1;
    }
    fclose(file);
    add_rows(t, rows);
    for (size_t i = 0; i < ROWS; i++)
        json_decref(rows[i]);
    size_t total = encoder_layout(model_get_encoder(t->model))->total;
    t->params = malloc(total * sizeof *t->params);
    ck_assert_ptr_nonnull(t->params);
    ck_ok(encoder_read_params(model_get_encoder(t->model), t->params, &error));
    return true;
}

static void golden_close(golden *t)
{
    free(t->params);
    token_batch_free(&t->tokens);
    json_decref(t->expected);
    model_close(t->model);
}

/* The settings of train_expected.json, without dropout. */
static train_step_options golden_options(const golden *t, double scale, unsigned threads)
{
    train_step_options o = {.config = model_get_config(t->model),
                            .layout = encoder_layout(model_get_encoder(t->model)),
                            .g = model_get_gemm(t->model),
                            .loss = {.scale = scale},
                            .optimiser = adamw_defaults(),
                            .clip_norm = 1,
                            .seed = 1,
                            .max_pairs = ROWS,
                            .max_tokens = MAX_TOKENS,
                            .max_steps = STEPS,
                            .tape_bytes = (size_t)64 << 20,
                            .threads = threads};
    return o;
}

static train_batch rows_batch(const golden *t, train_text *texts, size_t first, size_t count)
{
    memcpy(texts, t->texts + first, count * sizeof *texts);
    memcpy(texts + count, t->texts + ROWS + first, count * sizeof *texts);
    return (train_batch){.pairs = count,
                         .texts = texts,
                         .query_key = t->key + first,
                         .document_key = t->key + ROWS + first,
                         .weight = t->weight};
}

static double number_at(const json_t *array, size_t i)
{
    return json_number_value(json_array_get(array, i));
}

static void check_relative(double found, double wanted, double tolerance, const char *what)
{
    ck_assert_msg(fabs(found - wanted) <= tolerance * fabs(wanted), "%s: %.8g instead of %.8g", what, found, wanted);
}

/* The embeddings of the first anchors under t->params. */
static void check_embeddings(const golden *t, const json_t *rows)
{
    encoder_tape *tape = NULL;
    const model_config *c = model_get_config(t->model);
    const dropout none = {0};
    size_t count = json_array_size(rows);
    float *out = malloc(count * c->dim * sizeof *out);
    ck_ok(encoder_tape_create(&tape, c, encoder_layout(model_get_encoder(t->model)), model_get_gemm(t->model), &error));
    ck_ok(encoder_train_forward(tape, t->params, t->tokens.ids, t->tokens.lengths, count, &none, out, &error));
    for (size_t i = 0; i < count; i++) {
        for (size_t k = 0; k < c->dim; k++)
            ck_assert_double_eq_tol(out[i * c->dim + k], number_at(json_array_get(rows, i), k), 1e-4);
    }
    free(out);
    encoder_tape_destroy(tape);
}

static void check_three_steps(const char *name, double scale, unsigned threads, size_t tape_bytes)
{
    golden t;
    train_step *s = NULL;
    train_text texts[2 * ROWS];
    train_step_result result;
    if (!golden_open(&t))
        return;
    const json_t *expected = json_object_get(json_object_get(t.expected, "cases"), name);
    double rate = json_number_value(json_object_get(json_object_get(t.expected, "optimizer"), "lr"));
    train_step_options o = golden_options(&t, scale, threads);
    o.tape_bytes = tape_bytes;
    train_batch batch = rows_batch(&t, texts, 0, ROWS);
    ck_ok(train_step_create(&s, &o, t.params, &error));
    for (size_t step = 0; step < STEPS; step++) {
        ck_ok(train_step_run(s, &batch, rate, &result, &error));
        check_relative(result.loss, number_at(json_object_get(expected, "loss"), step), 1e-4, name);
        check_relative(result.gradient_norm, number_at(json_object_get(expected, "grad_norm"), step), 1e-3, name);
    }
    ck_ok(train_step_finish(s, &error));
    train_step_destroy(s);
    check_embeddings(&t, json_object_get(expected, "embedding_after"));
    golden_close(&t);
}

START_TEST(three_steps_give_the_reference_losses_and_embeddings)
{
    check_three_steps("mnrl_scale20", 20, 1, (size_t)64 << 20);
    check_three_steps("mnrl_scale14", 14, 2, (size_t)64 << 20);
    check_three_steps("mnrl_scale1", 1, 3, (size_t)64 << 20);
}
END_TEST

START_TEST(batch_computed_in_pieces_gives_the_reference_losses_and_embeddings)
{
    check_three_steps("mnrl_scale20", 20, 1, 1);
    check_three_steps("mnrl_scale20", 20, 2, 200000);
    check_three_steps("mnrl_scale14", 14, 30, 1);
}
END_TEST

START_TEST(three_batches_give_the_reference_losses_and_embeddings)
{
    golden t;
    train_step *s = NULL;
    train_text texts[2 * ROWS];
    train_step_result result;
    if (!golden_open(&t))
        return;
    json_t *expected = load("train_three_batches.json");
    double rate = json_number_value(json_object_get(json_object_get(t.expected, "optimizer"), "lr"));
    train_step_options o = golden_options(&t, 20, 2);
    ck_ok(train_step_create(&s, &o, t.params, &error));
    for (size_t step = 0; step < STEPS; step++) {
        train_batch batch = rows_batch(&t, texts, 4 * step, 4);
        ck_ok(train_step_run(s, &batch, rate, &result, &error));
        check_relative(result.loss, number_at(json_object_get(expected, "loss"), step), 1e-4, "three batches");
    }
    ck_ok(train_step_finish(s, &error));
    train_step_destroy(s);
    check_embeddings(&t, json_object_get(expected, "embedding_after"));
    json_decref(expected);
    golden_close(&t);
}
END_TEST

/* Within 1e-3 of the tensor's largest element, or 1e-6. */
static void check_tensor(const char *name, const tensor_view *view, const float *found)
{
    float *wanted = malloc(view->elements * sizeof *wanted), largest = 0;
    ck_ok(tensor_read(view, 0, view->elements, wanted, &error));
    for (size_t i = 0; i < view->elements; i++)
        largest = fmaxf(largest, fabsf(wanted[i]));
    float tolerance = fmaxf(1e-3f * largest, 1e-6f);
    for (size_t i = 0; i < view->elements; i++)
        ck_assert_msg(fabsf(found[i] - wanted[i]) <= tolerance, "%s %s[%zu]: %g instead of %g", name, view->name, i,
                      (double)found[i], (double)wanted[i]);
    free(wanted);
}

static void check_gradients(const golden *t, const char *name, const float *grads)
{
    char file[64];
    safetensors *reference = NULL;
    const param_layout *layout = encoder_layout(model_get_encoder(t->model));
    snprintf(file, sizeof file, "grads_%s.safetensors", name);
    ck_ok(safetensors_open(&reference, golden_path(file), &error));
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        const tensor_view *view = safetensors_find(reference, p->name);
        ck_assert_msg(view != NULL && view->elements == p->rows * p->cols, "%s is missing or of another shape",
                      p->name);
        check_tensor(name, view, grads + p->offset);
    }
    safetensors_close(reference);
}

typedef struct loss_case {
    const char *name;
    mnrl_options options;
    size_t negatives;
} loss_case;

static void check_first_loss_and_gradients(const golden *t, const loss_case *c)
{
    encoder_tape *tape = NULL;
    mnrl_scratch scratch;
    const encoder *e = model_get_encoder(t->model);
    const dropout none = {0};
    size_t dim = model_get_config(t->model)->dim, texts = (2 + c->negatives) * ROWS;
    float *out = malloc(texts * dim * sizeof *out), *d_out = malloc(texts * dim * sizeof *d_out);
    float *grads = calloc(encoder_layout(e)->total, sizeof *grads);
    const mnrl_batch batch = {.anchors = ROWS,
                              .candidates = texts - ROWS,
                              .dim = dim,
                              .anchor = out,
                              .candidate = out + ROWS * dim,
                              .candidate_key = t->key + ROWS,
                              .anchor_key = t->key};
    ck_ok(mnrl_scratch_create(&scratch, batch.anchors, batch.candidates, &error));
    ck_ok(encoder_tape_create(&tape, model_get_config(t->model), encoder_layout(e), model_get_gemm(t->model), &error));
    ck_ok(encoder_train_forward(tape, t->params, t->tokens.ids, t->tokens.lengths, texts, &none, out, &error));
    double loss = mnrl_loss(model_get_gemm(t->model), &c->options, &batch, &scratch, d_out, d_out + ROWS * dim);
    ck_ok(encoder_train_backward(tape, t->params, d_out, grads, &error));

    const json_t *expected = json_object_get(json_object_get(t->expected, "cases"), c->name);
    check_relative(loss, number_at(json_object_get(expected, "loss"), 0), 1e-4, c->name);
    check_gradients(t, c->name, grads);
    encoder_tape_destroy(tape);
    mnrl_scratch_free(&scratch);
    free(out);
    free(d_out);
    free(grads);
}

START_TEST(gradients_of_every_parameter_are_those_of_the_reference)
{
    const loss_case cases[] = {
        {"mnrl_scale20", {.scale = 20}, 0},
        {"mnrl_scale14", {.scale = 14}, 0},
        {"mnrl_scale1", {.scale = 1}, 0},
        {"mnrl_margin03", {.scale = 20, .margin = 0.3}, 0},
        {"mnrl_symmetric", {.scale = 20, .symmetric = true}, 0},
        {"mnrl_symmetric_margin", {.scale = 20, .margin = 0.3, .symmetric = true}, 0},
        {"mnrl_hardneg1", {.scale = 20}, 1},
        {"mnrl_hardneg2", {.scale = 20}, 2},
        {"mnrl_hardneg2_symmetric", {.scale = 20, .symmetric = true}, 2},
    };
    golden t;
    if (!golden_open(&t))
        return;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_first_loss_and_gradients(&t, &cases[i]);
    golden_close(&t);
}
END_TEST

/* The loss of the first step under params, which it changes. */
static train_step_result first_step(const train_step_options *o, const train_batch *batch, double rate, float *params)
{
    train_step *s = NULL;
    train_step_result result;
    ck_ok(train_step_create(&s, o, params, &error));
    ck_ok(train_step_run(s, batch, rate, &result, &error));
    train_step_destroy(s);
    return result;
}

/* Were the masks of the second pass others, the gradient would not be the slope. */
START_TEST(gradient_with_dropout_in_pieces_is_the_slope_of_the_loss)
{
    golden t;
    train_text texts[2 * ROWS];
    if (!golden_open(&t))
        return;
    train_step_options o = golden_options(&t, 20, 2);
    size_t bytes = o.layout->total * sizeof(float);
    float *up = malloc(bytes), *down = malloc(bytes), *scratch = malloc(bytes);
    train_batch batch = rows_batch(&t, texts, 0, ROWS);
    o.hidden_dropout = o.attention_dropout = 0.2f;
    o.clip_norm = 0;
    o.tape_bytes = 200000;
    /* With such an epsilon the first step is rate / epsilon times the gradient. */
    const double step_size = 2e-4;
    o.optimiser.epsilon = 1e6;
    o.optimiser.weight_decay = 0;
    memcpy(down, t.params, bytes);
    train_step_result middle = first_step(&o, &batch, step_size * o.optimiser.epsilon, down);
    for (size_t i = 0; i < o.layout->total; i++)
        up[i] = 2 * t.params[i] - down[i];
    memcpy(scratch, up, bytes);
    double above = first_step(&o, &batch, 0, scratch).loss;
    memcpy(scratch, down, bytes);
    double below = first_step(&o, &batch, 0, scratch).loss;

    double slope = (above - below) / (2 * step_size);
    check_relative(slope, middle.gradient_norm * middle.gradient_norm, 0.01, "slope along the gradient");
    free(up);
    free(down);
    free(scratch);
    golden_close(&t);
}
END_TEST

START_TEST(steps_repeat_bit_for_bit)
{
    golden t;
    float *first = NULL;
    train_text texts[2 * ROWS];
    for (int run = 0; run < 2; run++) {
        train_step *s = NULL;
        train_step_result result;
        if (!golden_open(&t))
            return;
        train_step_options o = golden_options(&t, 20, 3);
        o.hidden_dropout = o.attention_dropout = 0.1f;
        o.tape_bytes = 500000;
        ck_ok(train_step_create(&s, &o, t.params, &error));
        for (size_t step = 0; step < STEPS; step++) {
            train_batch batch = rows_batch(&t, texts, 4 * step, 4);
            ck_ok(train_step_run(s, &batch, 1e-3, &result, &error));
        }
        ck_ok(train_step_finish(s, &error));
        train_step_destroy(s);
        size_t bytes = o.layout->total * sizeof(float);
        if (run == 1)
            ck_assert(memcmp(first, t.params, bytes) == 0);
        free(first);
        first = malloc(bytes);
        memcpy(first, t.params, bytes);
        golden_close(&t);
    }
    free(first);
}
END_TEST

START_TEST(unusable_batches_are_refused)
{
    golden t;
    train_step *s = NULL;
    train_text texts[2 * ROWS];
    train_step_result result;
    if (!golden_open(&t))
        return;
    train_step_options o = golden_options(&t, 20, 1);
    train_batch batch = rows_batch(&t, texts, 0, ROWS);
    const int32_t outside[] = {101, (int32_t)o.config->vocab}, negative[] = {-1};
    const train_text bad[] = {{outside, 2}, {negative, 1}, {outside, 0}, {t.texts[0].ids, MAX_TOKENS + 1}};
    o.max_steps = 10;
    ck_ok(train_step_create(&s, &o, t.params, &error));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        texts[3] = bad[i];
        ck_fails(train_step_run(s, &batch, 1e-3, &result, &error), SEM_INVALID_ARGUMENT);
    }
    batch.pairs = 0;
    ck_fails(train_step_run(s, &batch, 1e-3, &result, &error), SEM_INVALID_ARGUMENT);
    train_step_destroy(s);
    golden_close(&t);
}
END_TEST

START_TEST(divergence_is_an_error_and_leaves_the_parameters)
{
    golden t;
    train_step *s = NULL;
    train_text texts[2 * ROWS];
    train_step_result result;
    if (!golden_open(&t))
        return;
    train_step_options o = golden_options(&t, 20, 2);
    train_batch batch = rows_batch(&t, texts, 0, ROWS);
    t.weight[0] = INFINITY;
    ck_ok(train_step_create(&s, &o, t.params, &error));
    ck_fails(train_step_run(s, &batch, 1e-3, &result, &error), SEM_INTERNAL);
    ck_assert_msg(strstr(error.message, "diverged at step 1") != NULL, "%s", error.message);
    train_step_destroy(s);
    float *before = malloc(o.layout->total * sizeof *before);
    ck_assert_ptr_nonnull(before);
    ck_ok(encoder_read_params(model_get_encoder(t.model), before, &error));
    ck_assert(memcmp(t.params, before, o.layout->total * sizeof *before) == 0);
    free(before);
    golden_close(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_step");
    TCase *tests = tcase_create("train_step");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, three_steps_give_the_reference_losses_and_embeddings);
    tcase_add_test(tests, batch_computed_in_pieces_gives_the_reference_losses_and_embeddings);
    tcase_add_test(tests, three_batches_give_the_reference_losses_and_embeddings);
    tcase_add_test(tests, gradients_of_every_parameter_are_those_of_the_reference);
    tcase_add_test(tests, gradient_with_dropout_in_pieces_is_the_slope_of_the_loss);
    tcase_add_test(tests, steps_repeat_bit_for_bit);
    tcase_add_test(tests, unusable_batches_are_refused);
    tcase_add_test(tests, divergence_is_an_error_and_leaves_the_parameters);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
