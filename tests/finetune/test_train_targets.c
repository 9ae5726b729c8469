/* Runs whose documents have given vectors: fixed there, or anchored. */
#include "tests/finetune/run_case.h"

#include "base/hash.h"
#include "finetune/text_vectors.h"

#include <math.h>

enum { PAIRS = 24, DIM = 48 };

/* Pairs, every other one with a negative, and where the model has their documents. */
typedef struct targets {
    model *m;
    size_t parameters;
    char texts[3][PAIRS][64];
    train_pair pairs[PAIRS];
    train_negative negatives[PAIRS];
    float *vectors; /* [2 PAIRS, DIM] documents, then negatives */
    train_config config;
} targets;

static data_text text_at(const targets *t, size_t i)
{
    const char *text = t->texts[1 + i / PAIRS][i % PAIRS];
    return (data_text){text, strlen(text)};
}

/* False where the model is missing. */
static bool make(targets *t)
{
    static const char *const words[] = {"card", "money", "account", "top", "exchange", "cash", "pin"};
    data_text documents[2 * PAIRS];
    *t = (targets){.m = open_tiny(), .config = settings(8, 3)};
    if (t->m == NULL)
        return false;
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(t->texts[0][i], 64, "why is my %s %s", words[i % 7], words[i / 7]);
        snprintf(t->texts[1][i], 64, "green towers about the %s and %zu", words[i % 7], i);
        snprintf(t->texts[2][i], 64, "green towers without %s", words[(i + 1) % 7]);
        for (size_t side = 0; side < 2; side++)
            documents[side * PAIRS + i] = text_at(t, side * PAIRS + i);
    }
    ck_ok(text_vectors(t->m, documents, 2 * PAIRS, false, 1, (niceness){0}, &t->vectors, &error));
    for (size_t i = 0; i < PAIRS; i++) {
        t->negatives[i] = (train_negative){.text = t->texts[2][i],
                                           .length = strlen(t->texts[2][i]),
                                           .key = 900 + (i + 1) % 7,
                                           .vector = t->vectors + (PAIRS + i) * DIM};
        t->pairs[i] = (train_pair){.query = t->texts[0][i],
                                   .query_length = strlen(t->texts[0][i]),
                                   .document = t->texts[1][i],
                                   .document_length = strlen(t->texts[1][i]),
                                   .query_key = 100 + i,
                                   .document_key = 500 + i,
                                   .weight = 1 + (float)(i % 3),
                                   .negatives = &t->negatives[i],
                                   .negative_count = i % 2,
                                   .document_vector = t->vectors + i * DIM};
    }
    t->parameters = encoder_layout(model_get_encoder(t->m))->total;
    return true;
}

static void end(targets *t)
{
    free(t->vectors);
    model_close(t->m);
}

static train_report train(const targets *t, float **params)
{
    train_report report;
    ck_ok(train_mnrl(t->m, t->pairs, PAIRS, &t->config, NULL, params, &report, &error));
    return report;
}

static double first_loss(const targets *t)
{
    float *params;
    const train_report report = train(t, &params);
    free(params);
    return report.first_loss;
}

static void set_option(train_config *c, int number)
{
    c->margin = number == 1 ? 0.2 : 0;
    c->symmetric = number == 2;
    c->frequency = number == 3;
    c->scale_kind = number == 4 ? MNRL_SCALE_LEARNED : MNRL_SCALE_FIXED;
    c->shape = number == 5 ? TRAIN_SHAPE_BUCKETS : TRAIN_SHAPE_PACKED;
    c->dim_count = number == 6 ? 2 : 0;
    c->dims[0] = 8;
    c->dims[1] = 16;
    c->dim_weights[0] = c->dim_weights[1] = 1;
    if (number == 7)
        snprintf(c->guide, sizeof c->guide, "%s", testing_shared("golden/tiny-bert-max"));
    c->tape_bytes = number == 8 ? 100000 : c->tape_bytes;
}

START_TEST(every_option_has_the_loss_of_computed_documents_where_these_are_given)
{
    targets t;
    if (!make(&t))
        return;
    t.config.epochs = 1;
    t.config.batch_size = PAIRS;
    set_option(&t.config, _i);
    const double computed = first_loss(&t);
    t.config.fixed_documents = true;
    ck_assert_double_gt(computed, 0.1);
    ck_assert_double_eq_tol(first_loss(&t), computed, 1e-5);
    t.config.fixed_documents = false;
    t.config.anchor_weight = 3; /* nothing has moved yet */
    ck_assert_double_eq_tol(first_loss(&t), computed, 1e-5);
    end(&t);
}
END_TEST

/* A row of the token table. */
static const float *word_row(const targets *t, const float *params, const char *word)
{
    token_batch tokens = {0};
    const param_layout *layout = encoder_layout(model_get_encoder(t->m));
    ck_ok(tokenizer_encode(model_get_tokenizer(t->m), word, strlen(word), 8, &tokens, NULL, &error));
    ck_assert_uint_ge(tokens.tokens, 3);
    const float *row = NULL;
    for (size_t i = 0; i < layout->count && row == NULL; i++)
        if (layout->items[i].rows_sparse)
            row = params + layout->items[i].offset + (size_t)tokens.ids[1] * layout->items[i].cols;
    ck_assert_ptr_nonnull(row);
    token_batch_free(&tokens);
    return row;
}

START_TEST(words_of_fixed_documents_do_not_move)
{
    targets t;
    float *fixed, *computed, *before;
    if (!make(&t))
        return;
    const size_t bytes = DIM * sizeof *before;
    t.config.weight_decay = 0;
    before = malloc(t.parameters * sizeof *before);
    ck_ok(encoder_read_params(model_get_encoder(t.m), before, &error));
    (void)train(&t, &computed);
    t.config.fixed_documents = true;
    const train_report report = train(&t, &fixed);
    ck_assert_double_lt(report.last_loss, report.first_loss);
    ck_assert_mem_ne(word_row(&t, computed, "green"), word_row(&t, before, "green"), bytes);
    ck_assert_mem_eq(word_row(&t, fixed, "green"), word_row(&t, before, "green"), bytes);
    ck_assert_mem_ne(word_row(&t, fixed, "why"), word_row(&t, before, "why"), bytes);
    free(before);
    free(computed);
    free(fixed);
    end(&t);
}
END_TEST

/* Mean of 2 - 2 cos between documents under params and where they were. */
static double moved(const targets *t, const float *params)
{
    const model_config *c = model_get_config(t->m);
    const dropout none = {0};
    encoder_tape *tape = NULL;
    token_batch tokens = {0};
    float out[PAIRS * DIM];
    double sum = 0;
    for (size_t i = 0; i < PAIRS; i++)
        ck_ok(model_tokenize_within(t->m, model_config_document_prompt(c), t->pairs[i].document,
                                    t->pairs[i].document_length, 64, &tokens, NULL, &error));
    ck_ok(encoder_tape_create(&tape, c, encoder_layout(model_get_encoder(t->m)), model_get_gemm(t->m), &error));
    ck_ok(encoder_train_forward(tape, params, tokens.ids, tokens.lengths, PAIRS, &none, out, &error));
    for (size_t i = 0; i < PAIRS; i++)
        sum += 2 - 2 * text_vectors_cosine(out + i * DIM, t->vectors + i * DIM, DIM);
    encoder_tape_destroy(tape);
    token_batch_free(&tokens);
    return sum / PAIRS;
}

START_TEST(the_heavier_the_anchor_the_less_documents_move_and_none_changes_no_bit)
{
    static const double weights[] = {0, 1, 30};
    targets t;
    double last = INFINITY;
    float *plain, *params;
    if (!make(&t))
        return;
    t.config.epochs = 8;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++) {
        t.config.anchor_weight = weights[i];
        const train_report report = train(&t, &params);
        const double now = moved(&t, params);
        ck_assert_msg(now < 0.7 * last, "weight %g: %g after %g", weights[i], now, last);
        ck_assert_double_lt(report.last_loss, report.first_loss);
        last = now;
        free(params);
    }
    t.config.anchor_weight = 0;
    (void)train(&t, &params);
    for (size_t i = 0; i < PAIRS; i++)
        t.pairs[i].document_vector = t.negatives[i].vector = NULL;
    (void)train(&t, &plain);
    ck_assert_mem_eq(plain, params, t.parameters * sizeof *plain);
    free(plain);
    free(params);
    end(&t);
}
END_TEST

START_TEST(a_run_goes_on_from_its_checkpoint_to_the_same_bits)
{
    targets t;
    char path[512];
    float *whole, *resumed;
    train_report report;
    stopper s = {.behind = 5};
    const train_control control = {.cancel = &s.cancel, .progress = stop, .context = &s};
    if (!make(&t))
        return;
    t.config.fixed_documents = _i == 0;
    t.config.anchor_weight = _i == 0 ? 0 : 2;
    t.config.dropout = 0.1;
    t.config.threads = 2;
    (void)train(&t, &whole);
    snprintf(path, sizeof path, "%s/checkpoint", testing_folder());
    t.config.checkpoint = path;
    t.config.checkpoint_every = 2;
    ck_fails(train_mnrl(t.m, t.pairs, PAIRS, &t.config, &control, &resumed, &report, &error), SEM_CANCELLED);
    report = train(&t, &resumed);
    ck_assert_uint_eq(report.resumed_at, 5); /* a cancel writes one, too */
    ck_assert_mem_eq(whole, resumed, t.parameters * sizeof *whole);
    free(whole);
    free(resumed);
    t.vectors[DIM] += 0.01f; /* a document that is elsewhere makes another run */
    ck_fails(train_mnrl(t.m, t.pairs, PAIRS, &t.config, NULL, &resumed, &report, &error), SEM_FAILED_PRECONDITION);
    end(&t);
}
END_TEST

static void refused(const targets *t, const char *why)
{
    float *params;
    train_report report;
    ck_fails(train_mnrl(t->m, t->pairs, PAIRS, &t->config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, why) != NULL, "%s", error.message);
    ck_assert_ptr_null(params);
}

START_TEST(what_cannot_be_is_refused_by_name)
{
    targets t;
    run_case c;
    float *params;
    train_report report;
    if (!make(&t))
        return;
    t.config.fixed_documents = true;
    t.config.anchor_weight = 1;
    refused(&t, "anchor_weight is 1, and the documents' vectors are fixed");
    t.config.anchor_weight = -1;
    refused(&t, "anchor_weight is -1");
    t.config.anchor_weight = 0;
    t.pairs[3].document_vector = NULL;
    refused(&t, "pair 3 has no vector of its document; with fixed_documents");
    t.pairs[3].document_vector = t.vectors;
    t.negatives[5].vector = NULL;
    t.config.fixed_documents = false;
    t.config.anchor_weight = 1;
    refused(&t, "negative 0 of training pair 5 has no vector; with anchor_weight");

    const train_mix_options options = {.steps = 1, .lessons = &RANKING, .set_count = 1};
    ck_assert(run_begin(&c, data_file("two.jsonl", "[\"a\", \"b\"]\n[\"c\", \"d\"]\n"), 2));
    ck_fails(train_on_mix(c.m, c.mix, &options, &t.config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "anchor_weight is for pairs in memory"));
    run_end(&c);
    end(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train_targets");
    TCase *tests = tcase_create("train_targets");
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, every_option_has_the_loss_of_computed_documents_where_these_are_given, 0, 9);
    tcase_add_test(tests, words_of_fixed_documents_do_not_move);
    tcase_add_test(tests, the_heavier_the_anchor_the_less_documents_move_and_none_changes_no_bit);
    tcase_add_loop_test(tests, a_run_goes_on_from_its_checkpoint_to_the_same_bits, 0, 2);
    tcase_add_test(tests, what_cannot_be_is_refused_by_name);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
