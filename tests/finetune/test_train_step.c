#include "tests/finetune/golden_train.h"

static const mnrl_options SCALE_20 = {.scale = 20};

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
    golden_rows rows;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = golden_options(&t, l, 2);
    size_t bytes = o.layout->total * sizeof(float);
    float *up = malloc(bytes), *down = malloc(bytes), *scratch = malloc(bytes);
    train_batch batch = rows_batch(&t, &rows, 0, ROWS, 0);
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
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

START_TEST(steps_repeat_bit_for_bit)
{
    golden t;
    float *first = NULL;
    golden_rows rows;
    for (int run = 0; run < 2; run++) {
        train_step *s = NULL;
        train_step_result result;
        if (!golden_open(&t))
            return;
        loss *l = golden_loss(&t, &SCALE_20);
        train_step_options o = golden_options(&t, l, 3);
        o.hidden_dropout = o.attention_dropout = 0.1f;
        o.tape_bytes = 500000;
        ck_ok(train_step_create(&s, &o, t.params, &error));
        for (size_t step = 0; step < STEPS; step++) {
            train_batch batch = rows_batch(&t, &rows, 4 * step, 4, 0);
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
        loss_destroy(l);
        golden_close(&t);
    }
    free(first);
}
END_TEST

START_TEST(unusable_batches_are_refused)
{
    golden t;
    train_step *s = NULL;
    golden_rows rows;
    train_step_result result;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = golden_options(&t, l, 1);
    train_batch batch = rows_batch(&t, &rows, 0, ROWS, 0);
    const int32_t outside[] = {101, (int32_t)o.config->vocab}, negative[] = {-1};
    const train_text bad[] = {{outside, 2}, {negative, 1}, {outside, 0}, {t.texts[0].ids, MAX_TOKENS + 1}};
    o.max_steps = 10;
    ck_ok(train_step_create(&s, &o, t.params, &error));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        rows.texts[3] = bad[i];
        ck_fails(train_step_run(s, &batch, 1e-3, &result, &error), SEM_INVALID_ARGUMENT);
    }
    batch.about.pairs = 0;
    ck_fails(train_step_run(s, &batch, 1e-3, &result, &error), SEM_INVALID_ARGUMENT);
    train_step_destroy(s);
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

START_TEST(divergence_is_an_error_and_leaves_the_parameters)
{
    golden t;
    train_step *s = NULL;
    golden_rows rows;
    train_step_result result;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = golden_options(&t, l, 2);
    train_batch batch = rows_batch(&t, &rows, 0, ROWS, 0);
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
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_step");
    TCase *tests = tcase_create("train_step");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, gradient_with_dropout_in_pieces_is_the_slope_of_the_loss);
    tcase_add_test(tests, steps_repeat_bit_for_bit);
    tcase_add_test(tests, unusable_batches_are_refused);
    tcase_add_test(tests, divergence_is_an_error_and_leaves_the_parameters);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
