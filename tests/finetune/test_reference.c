/* Losses that shared/golden has no values of, compared with PyTorch's (tests/python/reference_losses.py). */
#include "tests/common/source_tree.h"
#include "tests/finetune/golden_train.h"

#include "finetune/loss_choice.h"
#include "finetune/loss_cosent.h"
#include "finetune/loss_matryoshka.h"
#include "finetune/loss_mse.h"
#include "finetune/text_vectors.h"

enum { TEXTS = (2 + NEGATIVES) * ROWS };

typedef struct reference {
    golden golden;
    json_t *root;
    float score[ROWS], frequency[TEXTS], guide[ROWS * (TEXTS - ROWS)];
    double guide_margin;
} reference;

static json_t *load_values(void)
{
    json_error_t problem;
    char *text = source_tree_read("tests/finetune/data/losses.json");
    ck_assert_ptr_nonnull(text);
    json_t *value = json_loads(text, 0, &problem);
    ck_assert_msg(value != NULL, "losses.json:%d: %s", problem.line, problem.text);
    free(text);
    return value;
}

/* The cosines of the reference's guide, computed here. */
static void fill_guide(reference *r)
{
    model *m;
    float *vectors;
    char name[64];
    data_text texts[TEXTS];
    golden_lines rows = golden_read(golden_path("train_batch.jsonl"));
    for (size_t i = 0; i < TEXTS; i++) {
        json_t *row = rows.items[i % ROWS];
        json_t *text = i < ROWS       ? json_object_get(row, "anchor")
                       : i < 2 * ROWS ? json_object_get(row, "positive")
                                      : json_array_get(json_object_get(row, "negatives"), i / ROWS - 2);
        texts[i] = (data_text){json_string_value(text), json_string_length(text)};
    }
    snprintf(name, sizeof name, "%s", json_string_value(json_object_get(r->root, "guide")));
    ck_ok(model_open(&m, golden_path(name), NULL, NULL, &error));
    ck_ok(text_vectors(m, texts, TEXTS, false, 1, (niceness){0}, &vectors, &error));
    const size_t dim = model_get_config(m)->dim, candidates = TEXTS - ROWS;
    for (size_t i = 0; i < ROWS * candidates; i++) {
        const float *a = vectors + i / candidates * dim, *b = vectors + (ROWS + i % candidates) * dim;
        double sum = 0;
        for (size_t k = 0; k < dim; k++)
            sum += (double)a[k] * b[k];
        r->guide[i] = (float)sum;
    }
    free(vectors);
    model_close(m);
    golden_free(&rows);
}

/* False where the reference data is missing. */
static bool reference_open(reference *r)
{
    if (!golden_open(&r->golden))
        return false;
    r->root = load_values();
    for (size_t i = 0; i < ROWS; i++)
        r->score[i] = (float)number_at(json_object_get(r->root, "scores"), i);
    for (size_t i = 0; i < TEXTS; i++)
        r->frequency[i] = (float)number_at(json_object_get(r->root, "frequency"), i);
    r->guide_margin = json_number_value(json_object_get(r->root, "guide_margin"));
    fill_guide(r);
    return true;
}

/* What a case's batches have, step by step. */
static const struct {
    const char *name;
    loss_name steps[STEPS];
    size_t negatives;
    bool nested, guided, counted;
} CASES[] = {
    {"cosent", {LOSS_COSENT, LOSS_COSENT, LOSS_COSENT}, 0, false, false, false},
    {"matryoshka_mnrl", {LOSS_MNRL, LOSS_MNRL, LOSS_MNRL}, 0, true, false, false},
    {"matryoshka_cosent", {LOSS_COSENT, LOSS_COSENT, LOSS_COSENT}, 0, true, false, false},
    {"guide", {LOSS_MNRL, LOSS_MNRL, LOSS_MNRL}, NEGATIVES, false, true, false},
    {"frequency", {LOSS_MNRL, LOSS_MNRL, LOSS_MNRL}, NEGATIVES, false, false, true},
    {"alternating", {LOSS_COSENT, LOSS_MNRL, LOSS_MSE}, 0, false, false, false},
};
enum { CASE_COUNT = sizeof CASES / sizeof *CASES };

/* A choice of all losses, with or without first dimensions. */
static loss *make_loss(const reference *r, size_t number)
{
    const mnrl_options ranking = {.scale = 20, .guide_margin = r->guide_margin};
    loss *members[LOSS_NAMES] = {[LOSS_MNRL] = golden_loss(&r->golden, &ranking)}, *l;
    size_t dims[MATRYOSHKA_MOST];
    double weights[MATRYOSHKA_MOST];
    const json_t *listed = json_object_get(r->root, "dims");
    ck_ok(loss_cosent_create(&members[LOSS_COSENT], 20, ROWS, &error));
    ck_ok(loss_mse_create(&members[LOSS_MSE], ROWS, &error));
    ck_ok(loss_choice_create(&l, members, &error));
    if (!CASES[number].nested)
        return l;
    for (size_t i = 0; i < json_array_size(listed); i++) {
        dims[i] = (size_t)json_integer_value(json_array_get(listed, i));
        weights[i] = number_at(json_object_get(r->root, "weights"), i);
    }
    ck_ok(loss_matryoshka_create(&l, l, dims, weights, json_array_size(listed), model_get_config(r->golden.model)->dim,
                                 &error));
    return l;
}

START_TEST(losses_and_three_steps_are_those_of_pytorch)
{
    reference r;
    golden_rows rows;
    train_step *s;
    train_step_result result;
    if (!reference_open(&r))
        return;
    const char *name = CASES[_i].name;
    const json_t *expected = json_object_get(json_object_get(r.root, "cases"), name);
    const double rate = json_number_value(json_object_get(json_object_get(r.golden.expected, "optimizer"), "lr"));
    loss *l = make_loss(&r, (size_t)_i);
    const train_step_options o = golden_options(&r.golden, l, 2);
    ck_assert_ptr_nonnull(expected);
    ck_ok(train_step_create(&s, &o, r.golden.params, &error));
    for (size_t step = 0; step < STEPS; step++) {
        train_batch batch = rows_batch(&r.golden, &rows, 0, ROWS, CASES[_i].negatives);
        batch.about.which = CASES[_i].steps[step];
        batch.about.score = r.score;
        batch.about.guide = CASES[_i].guided ? r.guide : NULL;
        batch.about.frequency = CASES[_i].counted ? r.frequency : NULL;
        ck_ok(train_step_run(s, &batch, rate, &result, &error));
        check_relative(result.loss, number_at(json_object_get(expected, "loss"), step), 1e-4, name);
        check_relative(result.gradient_norm, number_at(json_object_get(expected, "grad_norm"), step), 1e-3, name);
    }
    ck_ok(train_step_finish(s, &error));
    train_step_destroy(s);
    check_embeddings(&r.golden, json_object_get(expected, "embedding_after"));
    loss_destroy(l);
    json_decref(r.root);
    golden_close(&r.golden);
}
END_TEST

START_TEST(every_case_of_the_values_is_checked)
{
    json_t *root = load_values();
    ck_assert_uint_eq(json_object_size(json_object_get(root, "cases")), CASE_COUNT);
    json_decref(root);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("reference");
    TCase *tests = tcase_create("pytorch");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, losses_and_three_steps_are_those_of_pytorch, 0, CASE_COUNT);
    tcase_add_test(tests, every_case_of_the_values_is_checked);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
