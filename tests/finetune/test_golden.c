/* Every case of shared/golden/train_expected.json, each in one piece and in many. */
#include "tests/finetune/golden_train.h"

#include "model/safetensors.h"
#include "finetune/loss_mse.h"
#include "finetune/train_step_internal.h"

typedef struct golden_case {
    const char *name;
    mnrl_options options; /* scale 0: not MNRL but distance from the teacher */
    size_t negatives;
} golden_case;

static const golden_case CASES[] = {
    {"mnrl_scale20", {.scale = 20}, 0},
    {"mnrl_scale14", {.scale = 14}, 0},
    {"mnrl_scale1", {.scale = 1}, 0},
    {"mnrl_margin03", {.scale = 20, .margin = 0.3}, 0},
    {"mnrl_symmetric", {.scale = 20, .symmetric = true}, 0},
    {"mnrl_symmetric_margin", {.scale = 20, .margin = 0.3, .symmetric = true}, 0},
    {"mnrl_hardneg1", {.scale = 20}, 1},
    {"mnrl_hardneg2", {.scale = 20}, 2},
    {"mnrl_hardneg2_symmetric", {.scale = 20, .symmetric = true}, 2},
    {"mnrl_learned_scale", {.scale_kind = MNRL_SCALE_LEARNED, .scale = 20}, 0},
    {"mse_teacher", {0}, 0},
};
enum { CASE_COUNT = sizeof CASES / sizeof CASES[0] };

/* How a batch is divided: threads, and bytes for activations. One byte makes a piece of each text. */
static const struct {
    unsigned threads;
    size_t tape_bytes;
} WAYS[] = {{1, (size_t)64 << 20}, {3, (size_t)64 << 20}, {1, 1}, {2, 200000}, {50, 1}};
enum { WAY_COUNT = sizeof WAYS / sizeof WAYS[0] };

static loss *case_loss(const golden *t, const golden_case *c)
{
    loss *l = NULL;
    if (c->options.scale > 0)
        return golden_loss(t, &c->options);
    ck_ok(loss_mse_create(&l, ROWS, &error));
    return l;
}

/* Within 1e-3 of the tensor's largest element, or 1e-6. */
static void check_tensor(const char *name, const tensor_view *view, const float *found)
{
    float *wanted = malloc(view->elements * sizeof *wanted), largest = 0;
    ck_assert_ptr_nonnull(wanted);
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

/* The helpers' sum, before clipping; the caller frees. */
static float *gradient_of(const train_step *s, size_t total)
{
    float *sum = calloc(total, sizeof *sum);
    ck_assert_ptr_nonnull(sum);
    for (unsigned h = 0; h < s->helper_count; h++) {
        for (size_t i = 0; i < total; i++)
            sum[i] += s->helpers[h].grads[i];
    }
    return sum;
}

static void check_first_step(const golden *t, const golden_case *c, const json_t *expected, const train_step *s)
{
    const loss_learned *learned = s->options.loss->learned;
    float *grads = gradient_of(s, s->options.layout->total);
    check_gradients(t, c->name, grads);
    free(grads);
    if (learned != NULL)
        check_relative(learned->gradient, json_number_value(json_object_get(expected, "grad_log_scale")), 1e-3,
                       c->name);
}

static void check_case(const golden_case *c, unsigned threads, size_t tape_bytes)
{
    golden t;
    golden_rows rows;
    train_step *s = NULL;
    train_step_result result;
    if (!golden_open(&t))
        return;
    const json_t *expected = json_object_get(json_object_get(t.expected, "cases"), c->name);
    const double rate = json_number_value(json_object_get(json_object_get(t.expected, "optimizer"), "lr"));
    loss *l = case_loss(&t, c);
    train_step_options o = golden_options(&t, l, threads);
    o.tape_bytes = tape_bytes;
    const train_batch batch = rows_batch(&t, &rows, 0, ROWS, c->negatives);
    ck_ok(train_step_create(&s, &o, t.params, &error));
    for (size_t step = 0; step < STEPS; step++) {
        ck_ok(train_step_add(s, &batch, &error));
        if (step == 0)
            check_first_step(&t, c, expected, s);
        ck_ok(train_step_update(s, rate, &result, &error));
        check_relative(result.loss, number_at(json_object_get(expected, "loss"), step), 1e-4, c->name);
        check_relative(result.gradient_norm, number_at(json_object_get(expected, "grad_norm"), step), 1e-3, c->name);
    }
    ck_ok(train_step_finish(s, &error));
    train_step_destroy(s);
    if (l->learned != NULL)
        check_relative(l->learned->value, json_number_value(json_object_get(expected, "log_scale_after")), 1e-5,
                       "log_scale");
    check_embeddings(&t, json_object_get(expected, "embedding_after"));
    loss_destroy(l);
    golden_close(&t);
}

START_TEST(losses_gradients_and_three_steps_are_those_of_the_reference)
{
    for (size_t way = 0; way < WAY_COUNT; way++)
        check_case(&CASES[_i], WAYS[way].threads, WAYS[way].tape_bytes);
}
END_TEST

START_TEST(three_batches_give_the_reference_losses_and_embeddings)
{
    golden t;
    golden_rows rows;
    train_step *s = NULL;
    train_step_result result;
    if (!golden_open(&t))
        return;
    json_t *expected = golden_load("train_three_batches.json");
    const double rate = json_number_value(json_object_get(json_object_get(t.expected, "optimizer"), "lr"));
    const mnrl_options options = {.scale = 20};
    loss *l = golden_loss(&t, &options);
    train_step_options o = golden_options(&t, l, WAYS[_i].threads);
    o.tape_bytes = WAYS[_i].tape_bytes;
    ck_ok(train_step_create(&s, &o, t.params, &error));
    for (size_t step = 0; step < STEPS; step++) {
        const train_batch batch = rows_batch(&t, &rows, 4 * step, 4, 0);
        ck_ok(train_step_run(s, &batch, rate, &result, &error));
        check_relative(result.loss, number_at(json_object_get(expected, "loss"), step), 1e-4, "three batches");
    }
    ck_ok(train_step_finish(s, &error));
    train_step_destroy(s);
    check_embeddings(&t, json_object_get(expected, "embedding_after"));
    loss_destroy(l);
    json_decref(expected);
    golden_close(&t);
}
END_TEST

/* Keeps the list above from missing one. */
START_TEST(every_case_of_the_reference_is_checked)
{
    golden t;
    const char *name;
    json_t *value;
    if (!golden_open(&t))
        return;
    json_object_foreach(json_object_get(t.expected, "cases"), name, value)
    {
        bool found = false;
        for (size_t i = 0; i < CASE_COUNT; i++)
            found = found || strcmp(CASES[i].name, name) == 0;
        ck_assert_msg(found, "%s is not checked", name);
    }
    ck_assert_uint_eq(json_object_size(json_object_get(t.expected, "cases")), CASE_COUNT);
    golden_close(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("golden");
    TCase *tests = tcase_create("golden");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, losses_gradients_and_three_steps_are_those_of_the_reference, 0, CASE_COUNT);
    tcase_add_loop_test(tests, three_batches_give_the_reference_losses_and_embeddings, 0, WAY_COUNT);
    tcase_add_test(tests, every_case_of_the_reference_is_checked);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
