/* Training with products in bfloat16, beside the same in float32. */
#include "tests/finetune/golden_train.h"

#include "finetune/train_step_internal.h"

static const mnrl_options SCALE_20 = {.scale = 20};

/* A step of the reference batch in one precision. */
typedef struct first_step {
    double loss;
    float *grads; /* [total] before clipping */
    float *params;
} first_step;

/* Long enough for attention to be rounded too where that is quick; the model has 72 positions. */
enum { LONG_TOKENS = 70 };

/* Repeats every second text's tokens up to that length. */
static void lengthen(golden_rows *rows)
{
    static int32_t ids[(2 + NEGATIVES) * ROWS][LONG_TOKENS];
    for (size_t i = 0; i < (2 + NEGATIVES) * ROWS; i += 2) {
        train_text *text = &rows->texts[i];
        for (size_t k = 0; k < LONG_TOKENS; k++)
            ids[i][k] = text->ids[k % text->length];
        *text = (train_text){.ids = ids[i], .length = LONG_TOKENS};
    }
}

static first_step take_step(const golden *t, const train_step_options *o, size_t steps)
{
    train_step *s = NULL;
    train_step_result result;
    golden_rows rows;
    const train_batch batch = rows_batch(t, &rows, 0, ROWS, NEGATIVES);
    const size_t total = o->layout->total;
    if (o->max_tokens >= LONG_TOKENS)
        lengthen(&rows);
    first_step f = {.grads = calloc(total, sizeof(float)), .params = malloc(total * sizeof(float))};
    ck_assert(f.grads != NULL && f.params != NULL);
    memcpy(f.params, t->params, total * sizeof *f.params);
    ck_ok(train_step_create(&s, o, f.params, &error));
    for (size_t step = 0; step < steps; step++) {
        ck_ok(train_step_add(s, &batch, &error));
        for (unsigned h = 0; step == 0 && h < s->helper_count; h++)
            for (size_t i = 0; i < total; i++)
                f.grads[i] += s->helpers[h].grads[i];
        ck_ok(train_step_update(s, 1e-3, &result, &error));
        f.loss = result.loss;
    }
    ck_ok(train_step_finish(s, &error));
    train_step_destroy(s);
    return f;
}

static void step_free(first_step *f)
{
    free(f->grads);
    free(f->params);
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static double largest(const float *a, size_t n)
{
    double found = 0;
    for (size_t i = 0; i < n; i++)
        found = fmax(found, fabs(a[i]));
    return found;
}

/* Tensors that cannot matter, such as keys' biases, have noise for a gradient. */
static void compare_gradients(const param_layout *layout, const float *exact, const float *rounded)
{
    const double all = largest(exact, layout->total);
    size_t compared = 0;
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        const size_t n = p->rows * p->cols;
        if (largest(exact + p->offset, n) < 1e-4 * all)
            continue;
        const double found = cosine(exact + p->offset, rounded + p->offset, n);
        ck_assert_msg(found > 0.998, "%s: cosine %.6f", p->name, found);
        compared++;
    }
    ck_assert_uint_gt(compared, layout->count * 3 / 4);
}

/* In one piece, in many, and with long texts among the short ones. */
START_TEST(bfloat16_gives_nearly_the_loss_and_gradients_of_float32)
{
    golden t;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = golden_options(&t, l, 2);
    model_config longer = *o.config;
    longer.max_tokens = LONG_TOKENS;
    if (_i == 2) {
        o.config = &longer;
        o.max_tokens = LONG_TOKENS;
    }
    first_step exact = take_step(&t, &o, 1);
    o.precision = PACKED_BFLOAT16;
    if (_i == 1)
        o.tape_bytes = 300000;
    first_step rounded = take_step(&t, &o, 1);
    ck_assert_double_eq_tol(exact.loss, rounded.loss, 0.01 * exact.loss);
    ck_assert(exact.loss != rounded.loss);
    compare_gradients(o.layout, exact.grads, rounded.grads);
    step_free(&exact);
    step_free(&rounded);
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

START_TEST(steps_repeat_bit_for_bit_in_either_precision)
{
    golden t;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SCALE_20);
    train_step_options o = golden_options(&t, l, 3);
    o.precision = (packed_precision)_i;
    o.hidden_dropout = o.attention_dropout = 0.1f;
    o.tape_bytes = 500000;
    first_step first = take_step(&t, &o, STEPS), second = take_step(&t, &o, STEPS);
    ck_assert(memcmp(first.params, second.params, o.layout->total * sizeof(float)) == 0);
    ck_assert(first.loss == second.loss);
    step_free(&first);
    step_free(&second);
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("finetune/train_precision");
    TCase *tests = tcase_create("precision");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, bfloat16_gives_nearly_the_loss_and_gradients_of_float32, 0, 3);
    tcase_add_loop_test(tests, steps_repeat_bit_for_bit_in_either_precision, PACKED_FLOAT32, PACKED_BFLOAT16 + 1);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
