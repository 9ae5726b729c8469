/* Accumulation, frozen parts, rates by layer and averaged weights, against plain
 * AdamW over every float in every step. */
#include "tests/finetune/golden_train.h"

#include "finetune/schedule.h"

enum { BATCHES = 3 /* of four rows each */, ROUNDS = 8 };

static const mnrl_options SCALE_20 = {.scale = 20};

typedef struct settings {
    double layer_decay;
    bool freeze_embeddings;
    size_t freeze_layers;
    size_t accumulate;
    double average;
} settings;

/* Everything dense, in double. */
typedef struct reference {
    size_t total;
    float *params; /* rounded, for the encoder */
    double *value, *mean, *square, *average;
    float *sum; /* of the step's gradients */
    double norm, loss;
} reference;

static double *doubles(size_t count)
{
    double *values = calloc(count, sizeof *values);
    ck_assert_ptr_nonnull(values);
    return values;
}

static void reference_create(reference *r, const golden *t)
{
    r->total = encoder_layout(model_get_encoder(t->model))->total;
    r->params = malloc(r->total * sizeof *r->params);
    r->sum = calloc(r->total, sizeof *r->sum);
    ck_assert(r->params != NULL && r->sum != NULL);
    r->value = doubles(r->total);
    r->mean = doubles(r->total);
    r->square = doubles(r->total);
    r->average = doubles(r->total);
    for (size_t i = 0; i < r->total; i++)
        r->average[i] = r->value[i] = r->params[i] = t->params[i];
}

static void reference_free(reference *r)
{
    free(r->params);
    free(r->sum);
    free(r->value);
    free(r->mean);
    free(r->square);
    free(r->average);
}

/* The whole batch's gradient, in one piece and with nothing left out. */
static void reference_add(reference *r, const golden *t, loss *l, const train_batch *batch)
{
    encoder_tape *tape = NULL;
    token_batch tokens = {0};
    const model_config *c = model_get_config(t->model);
    size_t texts = batch->about.texts;
    float *out = malloc(texts * c->dim * sizeof *out), *d = malloc(texts * c->dim * sizeof *d);
    loss_batch about = batch->about;
    for (size_t i = 0; i < texts; i++)
        ck_assert(token_batch_append(&tokens, batch->texts[i].ids, batch->texts[i].length));
    ck_ok(encoder_tape_create(&tape, c, encoder_layout(model_get_encoder(t->model)), model_get_gemm(t->model), &error));
    ck_ok(encoder_train_forward(tape, r->params, tokens.ids, tokens.lengths, texts, NULL, out, &error));
    about.embeddings = out;
    about.dim = c->dim;
    r->loss += loss_run(l, &about, d);
    ck_ok(encoder_train_backward(tape, r->params, d, r->sum, &error));
    encoder_tape_destroy(tape);
    token_batch_free(&tokens);
    free(out);
    free(d);
}

/* tiny-bert has two layers. */
static double factor_of(const settings *s, const param *p)
{
    if (strncmp(p->name, "embeddings.", 11) == 0)
        return s->freeze_embeddings ? 0 : s->layer_decay * s->layer_decay;
    if (strncmp(p->name, "encoder.layer.0.", 16) == 0)
        return s->freeze_layers > 0 ? 0 : s->layer_decay;
    ck_assert_msg(strncmp(p->name, "encoder.layer.1.", 16) == 0, "%s", p->name);
    return s->freeze_layers > 1 ? 0 : 1;
}

static void reference_update(reference *r, const settings *s, const train_step_options *o, size_t step, double rate)
{
    const double t = (double)(step + 1), fresh = 1 - fmin(s->average, t / (9 + t));
    double squares = 0;
    for (size_t n = 0; n < o->layout->count; n++) {
        const param *p = &o->layout->items[n];
        for (size_t i = p->offset; i < p->offset + p->rows * p->cols; i++) {
            r->sum[i] = factor_of(s, p) > 0 ? r->sum[i] / (float)s->accumulate : 0;
            squares += (double)r->sum[i] * r->sum[i];
        }
    }
    r->norm = sqrt(squares);
    r->loss /= (double)s->accumulate;
    const double clip = r->norm > o->clip_norm ? o->clip_norm / r->norm : 1;
    for (size_t n = 0; n < o->layout->count; n++) {
        const param *p = &o->layout->items[n];
        const double own = rate * factor_of(s, p);
        for (size_t i = p->offset; i < p->offset + p->rows * p->cols; i++) {
            const double g = clip * r->sum[i];
            r->mean[i] = 0.9 * r->mean[i] + 0.1 * g;
            r->square[i] = 0.999 * r->square[i] + 0.001 * g * g;
            r->value[i] -= own * (r->mean[i] / (1 - pow(0.9, t)) /
                                      (sqrt(r->square[i] / (1 - pow(0.999, t))) + o->optimiser.epsilon) +
                                  (p->decay ? o->optimiser.weight_decay * r->value[i] : 0));
            r->average[i] += (r->value[i] - r->average[i]) * fresh;
            r->params[i] = (float)r->value[i];
        }
    }
    memset(r->sum, 0, r->total * sizeof *r->sum);
}

static void check_close(const reference *r, const golden *t, const float *average)
{
    for (size_t i = 0; i < r->total; i++) {
        ck_assert_msg(fabs(t->params[i] - r->value[i]) < 2e-5, "float %zu: %.8g instead of %.8g", i,
                      (double)t->params[i], r->value[i]);
        if (average != NULL)
            ck_assert_msg(fabs(average[i] - r->average[i]) < 2e-5, "average %zu: %.8g instead of %.8g", i,
                          (double)average[i], r->average[i]);
    }
}

static train_step_options options_of(const golden *t, const settings *s, loss *l, unsigned threads)
{
    train_step_options o = golden_options(t, l, threads);
    o.max_steps = ROUNDS;
    o.groups = (param_group_options){s->layer_decay, s->freeze_embeddings, s->freeze_layers};
    o.optimiser.average = s->average;
    /* Gradients that are nothing but rounding must not decide a step's direction. */
    o.optimiser.epsilon = 1e-3;
    o.clip_norm = 0.5;
    return o;
}

static void check_settings(const settings *s, unsigned threads)
{
    golden t;
    golden_rows rows;
    reference r = {0};
    train_step *step = NULL;
    train_step_result result;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = options_of(&t, s, l, threads);
    o.tape_bytes = 200000;
    reference_create(&r, &t);
    ck_ok(train_step_create(&step, &o, t.params, &error));
    for (size_t round = 0; round < ROUNDS; round++) {
        const double rate = schedule_rate(SCHEDULE_COSINE, 3e-3, round, 2, ROUNDS);
        r.loss = 0;
        for (size_t k = 0; k < s->accumulate; k++) {
            const size_t first = (round * s->accumulate + k) % BATCHES * 4;
            const train_batch batch = rows_batch(&t, &rows, first, 4, k % 3);
            reference_add(&r, &t, l, &batch);
            ck_ok(train_step_add(step, &batch, &error));
        }
        reference_update(&r, s, &o, round, rate);
        ck_ok(train_step_update(step, rate, &result, &error));
        check_relative(result.loss, r.loss, 1e-4, "loss");
        check_relative(result.gradient_norm, r.norm, 1e-3, "gradient norm");
    }
    ck_ok(train_step_finish(step, &error));
    ck_assert((train_step_average(step) != NULL) == (s->average > 0));
    check_close(&r, &t, train_step_average(step));
    train_step_destroy(step);
    reference_free(&r);
    loss_destroy(l);
    golden_close(&t);
}

START_TEST(steps_are_those_of_dense_adamw)
{
    static const settings all[] = {
        {.layer_decay = 1, .accumulate = 1},
        {.layer_decay = 1, .accumulate = 3},
        {.layer_decay = 0.6, .accumulate = 1},
        {.layer_decay = 1, .accumulate = 1, .average = 0.9},
        {.layer_decay = 1, .accumulate = 1, .freeze_embeddings = true},
        {.layer_decay = 1, .accumulate = 1, .freeze_embeddings = true, .freeze_layers = 1},
        {.layer_decay = 1, .accumulate = 1, .freeze_layers = 1},
        {.layer_decay = 1, .accumulate = 1, .freeze_layers = 2},
        {.layer_decay = 0.5, .accumulate = 2, .freeze_layers = 1, .average = 0.5},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        check_settings(&all[i], i % 2 == 0 ? 2 : 1);
}
END_TEST

/* --- what is frozen costs nothing and does not move */

static size_t products;

static void counted_multiply(bool ta, bool tb, size_t m, size_t n, size_t k, float alpha, const float *a, size_t lda,
                             const float *b, size_t ldb, float beta, float *c, size_t ldc)
{
    products++;
    gemm_portable.multiply(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static const gemm counted = {"counted", counted_multiply};

/* Products of one step, which are the library's at the lowest level; t->params are moved. */
static size_t count_products(golden *t, bool embeddings, size_t layers)
{
    golden_rows rows;
    train_step *step = NULL;
    train_step_result result;
    const settings s = {1, embeddings, layers, 1, 0};
    loss *l = golden_loss(t, &SCALE_20);
    train_step_options o = options_of(t, &s, l, 1);
    const train_batch batch = rows_batch(t, &rows, 0, 4, 0);
    o.g = &counted;
    ck_assert_int_eq(setenv("SEMD_SIMD", "generic", 1), 0);
    ck_ok(train_step_create(&step, &o, t->params, &error));
    products = 0;
    ck_ok(train_step_run(step, &batch, 1e-3, &result, &error));
    size_t found = products;
    ck_ok(train_step_finish(step, &error));
    train_step_destroy(step);
    loss_destroy(l);
    return found;
}

/* A layer has four matrices, each with two products on the way back. */
START_TEST(frozen_parts_cost_no_products_on_the_way_back)
{
    golden t;
    if (!golden_open(&t))
        return;
    size_t all = count_products(&t, false, 0);
    ck_assert_uint_eq(count_products(&t, true, 0), all - 1);     /* the gradient of the first layer's input */
    ck_assert_uint_eq(count_products(&t, false, 1), all - 4);    /* of the first layer's weights */
    ck_assert_uint_eq(count_products(&t, true, 1), all - 8 - 1); /* the first layer is not entered */
    golden_close(&t);
}
END_TEST

START_TEST(frozen_parts_keep_their_bits)
{
    golden t;
    if (!golden_open(&t))
        return;
    const settings s = {.layer_decay = 1, .freeze_embeddings = true, .freeze_layers = 1};
    const param_layout *layout = encoder_layout(model_get_encoder(t.model));
    float *before = malloc(layout->total * sizeof *before);
    ck_assert_ptr_nonnull(before);
    memcpy(before, t.params, layout->total * sizeof *before);
    count_products(&t, true, 1);
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        bool same = memcmp(before + p->offset, t.params + p->offset, p->rows * p->cols * sizeof *before) == 0;
        ck_assert_msg(same == !(factor_of(&s, p) > 0), "%s", p->name);
    }
    free(before);
    golden_close(&t);
}
END_TEST

START_TEST(groups_that_train_nothing_or_not_a_rate_are_refused)
{
    golden t;
    train_step *step = NULL;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    static const param_group_options bad[] = {
        {1, true, 2}, {1, false, 3}, {0, false, 0}, {1.5, false, 0}, {NAN, false, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        train_step_options o = golden_options(&t, l, 1);
        o.groups = bad[i];
        ck_fails(train_step_create(&step, &o, t.params, &error), SEM_INVALID_ARGUMENT);
        ck_assert_ptr_null(step);
    }
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

START_TEST(an_update_without_a_batch_is_refused)
{
    golden t;
    train_step *step = NULL;
    train_step_result result;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = golden_options(&t, l, 1);
    ck_ok(train_step_create(&step, &o, t.params, &error));
    ck_fails(train_step_update(step, 1e-3, &result, &error), SEM_FAILED_PRECONDITION);
    train_step_destroy(step);
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_options");
    TCase *tests = tcase_create("train_options");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, steps_are_those_of_dense_adamw);
    tcase_add_test(tests, frozen_parts_cost_no_products_on_the_way_back);
    tcase_add_test(tests, frozen_parts_keep_their_bits);
    tcase_add_test(tests, groups_that_train_nothing_or_not_a_rate_are_refused);
    tcase_add_test(tests, an_update_without_a_batch_is_refused);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
