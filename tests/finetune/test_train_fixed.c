/* Training queries against documents whose vectors are given, in single steps. */
#include "tests/finetune/golden_train.h"

#include "finetune/loss_matryoshka.h"
#include "finetune/train_step_internal.h"

static const mnrl_options SYMMETRIC = {.scale = 20, .symmetric = true, .margin = 0.1};

/* [batch->about.texts, dim] under t->params; the caller frees. */
static float *embed(const golden *t, const train_batch *batch)
{
    const model_config *c = model_get_config(t->model);
    const dropout none = {0};
    encoder_tape *tape = NULL;
    token_batch all = {0};
    float *out = malloc(batch->about.texts * c->dim * sizeof *out);
    ck_assert_ptr_nonnull(out);
    for (size_t i = 0; i < batch->about.texts; i++)
        ck_assert(token_batch_append(&all, batch->texts[i].ids, batch->texts[i].length));
    ck_ok(encoder_tape_create(&tape, c, encoder_layout(model_get_encoder(t->model)), model_get_gemm(t->model), &error));
    ck_ok(encoder_train_forward(tape, t->params, all.ids, all.lengths, all.texts, &none, out, &error));
    encoder_tape_destroy(tape);
    token_batch_free(&all);
    return out;
}

/* The plain loss of the batch whose texts have the vectors, and its gradient. */
static double plain_loss(const golden *t, loss *l, const train_batch *batch, const float *vectors, float *d)
{
    loss_batch about = batch->about;
    about.dim = model_get_config(t->model)->dim;
    about.embeddings = vectors;
    ck_ok(loss_check(l, &about, &error));
    return loss_run(l, &about, d);
}

/* The parameters' gradient of the plain loss by way of the anchors alone; the caller frees. */
static float *anchors_gradient(const golden *t, const train_batch *batch, const float *d)
{
    const model_config *c = model_get_config(t->model);
    const param_layout *layout = encoder_layout(model_get_encoder(t->model));
    const dropout none = {0};
    encoder_tape *tape = NULL;
    token_batch anchors = {0};
    float *out = malloc(batch->about.pairs * c->dim * sizeof *out), *grads = calloc(layout->total, sizeof *grads);
    ck_assert(out != NULL && grads != NULL);
    for (size_t i = 0; i < batch->about.pairs; i++)
        ck_assert(token_batch_append(&anchors, batch->texts[i].ids, batch->texts[i].length));
    ck_ok(encoder_tape_create(&tape, c, layout, model_get_gemm(t->model), &error));
    ck_ok(encoder_train_forward(tape, t->params, anchors.ids, anchors.lengths, anchors.texts, &none, out, &error));
    memcpy(out, d, batch->about.pairs * c->dim * sizeof *out);
    ck_ok(encoder_train_backward(tape, t->params, out, grads, &error));
    encoder_tape_destroy(tape);
    token_batch_free(&anchors);
    free(out);
    return grads;
}

/* In one piece and in many, packed and in shapes. */
START_TEST(with_the_models_own_vectors_the_gradient_is_the_plain_one_by_queries)
{
    golden t;
    golden_rows rows;
    train_step *s = NULL;
    if (!golden_open(&t))
        return;
    loss *l = golden_loss(&t, &SYMMETRIC);
    train_step_options o = golden_options(&t, l, 1);
    o.tape_bytes = _i % 2 == 0 ? o.tape_bytes : 200000;
    o.shape = _i < 2 ? TRAIN_SHAPE_PACKED : TRAIN_SHAPE_BUCKETS;
    const size_t dim = o.config->dim;
    train_batch batch = rows_batch(&t, &rows, 0, ROWS, NEGATIVES);
    float *vectors = embed(&t, &batch), *d = malloc(batch.about.texts * dim * sizeof *d);
    const double expected = plain_loss(&t, l, &batch, vectors, d);
    float *wanted = anchors_gradient(&t, &batch, d);

    batch.fixed = vectors + batch.about.pairs * dim;
    memset(rows.texts + ROWS, 0, (1 + NEGATIVES) * ROWS * sizeof *rows.texts); /* no text but the anchors is read */
    ck_ok(train_step_create(&s, &o, t.params, &error));
    ck_ok(train_step_add(s, &batch, &error));
    ck_assert_double_eq_tol(s->loss_sum, expected, 1e-5);
    double apart = 0, length = 0;
    for (size_t i = 0; i < o.layout->total; i++) {
        const double difference = (double)s->helpers[0].grads[i] - wanted[i];
        apart += difference * difference;
        length += (double)wanted[i] * wanted[i];
    }
    ck_assert_double_gt(length, 1e-4);
    ck_assert_msg(sqrt(apart) <= 1e-4 * sqrt(length), "%g of %g", sqrt(apart), sqrt(length));
    train_step_destroy(s);
    free(wanted);
    free(d);
    free(vectors);
    loss_destroy(l);
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

static loss *first_dimensions_too(const golden *t)
{
    const size_t dims[] = {16, model_get_config(t->model)->dim};
    static const double weights[] = {1, 1};
    loss *l = NULL;
    ck_ok(loss_matryoshka_create(&l, golden_loss(t, &SYMMETRIC), dims, weights, 2, dims[1], &error));
    return l;
}

/* Two helpers, dropout, and first dimensions that count as well; the candidates are others than the model's. */
START_TEST(with_fixed_documents_the_gradient_is_the_slope_of_the_loss)
{
    golden t;
    golden_rows rows;
    if (!golden_open(&t))
        return;
    loss *l = first_dimensions_too(&t);
    train_step_options o = golden_options(&t, l, 2);
    const size_t bytes = o.layout->total * sizeof(float);
    float *up = malloc(bytes), *down = malloc(bytes), *scratch = malloc(bytes);
    train_batch batch = rows_batch(&t, &rows, 0, ROWS, 0);
    batch.fixed = t.teacher;
    o.hidden_dropout = o.attention_dropout = 0.2f;
    o.clip_norm = 0;
    o.tape_bytes = 200000;
    /* With such an epsilon the first step is rate / epsilon times the gradient. */
    const double step_size = 2e-4;
    o.optimiser.epsilon = 1e6;
    o.optimiser.weight_decay = 0;
    memcpy(down, t.params, bytes);
    const train_step_result middle = first_step(&o, &batch, step_size * o.optimiser.epsilon, down);
    for (size_t i = 0; i < o.layout->total; i++)
        up[i] = 2 * t.params[i] - down[i];
    memcpy(scratch, up, bytes);
    const double above = first_step(&o, &batch, 0, scratch).loss;
    memcpy(scratch, down, bytes);
    const double below = first_step(&o, &batch, 0, scratch).loss;
    check_relative((above - below) / (2 * step_size), middle.gradient_norm * middle.gradient_norm, 0.01,
                   "slope along the gradient");
    free(up);
    free(down);
    free(scratch);
    loss_destroy(l);
    golden_close(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_fixed");
    TCase *tests = tcase_create("train_fixed");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, with_the_models_own_vectors_the_gradient_is_the_plain_one_by_queries, 0, 4);
    tcase_add_test(tests, with_fixed_documents_the_gradient_is_the_slope_of_the_loss);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
