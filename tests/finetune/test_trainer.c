#include "tests/common/testing.h"

#include "base/files.h"
#include "base/hash.h"
#include "base/random.h"
#include "finetune/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 48 };

static sem_error error;

/* Questions of two words each and answers that name them in another sentence. */
typedef struct trainer_case {
    sem_log log;
    model *model;
    char queries[PAIRS][64], documents[PAIRS][64];
    train_pair pairs[PAIRS];
    train_config config;
    size_t parameters;
    size_t calls, cancel_at;
    double losses[1024];
    atomic_bool cancel;
} trainer_case;

static void set_pair(trainer_case *t, size_t i)
{
    t->pairs[i] = (train_pair){.query = t->queries[i],
                               .query_length = strlen(t->queries[i]),
                               .document = t->documents[i],
                               .document_length = strlen(t->documents[i]),
                               .document_key = hash_text(t->documents[i], strlen(t->documents[i])),
                               .query_key = hash_text(t->queries[i], strlen(t->queries[i])),
                               .weight = 1};
}

/* False where the reference model is missing. */
static bool arrange_model(trainer_case *t, const char *name)
{
    static const char *const words[] = {"card", "money", "account", "top", "exchange", "cash", "pin"};
    memset(t, 0, sizeof *t);
    const char *path = testing_shared(name);
    if (path == NULL)
        return false;
    log_init(&t->log, 2, LOG_LEVEL_ERROR);
    ck_ok(model_open(&t->model, path, NULL, &t->log, &error));
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(t->queries[i], sizeof t->queries[i], "why is my %s %s", words[i % 7], words[i / 7]);
        snprintf(t->documents[i], sizeof t->documents[i], "about your %s and the %s", words[i % 7], words[i / 7]);
        set_pair(t, i);
    }
    train_config_defaults(&t->config);
    t->config.learning_rate = 2e-3;
    t->config.batch_size = 16;
    t->config.epochs = 10;
    t->config.threads = 2;
    t->parameters = encoder_layout(model_get_encoder(t->model))->total;
    return true;
}

static bool arrange(trainer_case *t)
{
    return arrange_model(t, "golden/tiny-bert");
}

/* The model's own; the caller frees. */
static float *read_params(const trainer_case *t)
{
    float *params = malloc(t->parameters * sizeof *params);
    ck_assert_ptr_nonnull(params);
    ck_ok(encoder_read_params(model_get_encoder(t->model), params, &error));
    return params;
}

static void on_progress(void *context, const train_progress *now)
{
    trainer_case *t = context;
    t->losses[t->calls++] = now->loss;
    ck_assert_uint_eq(now->step, t->calls);
    if (t->calls == t->cancel_at)
        atomic_store(&t->cancel, true);
}

static sem_status train(trainer_case *t, float **params, train_report *report)
{
    const train_control control = {.cancel = &t->cancel, .progress = on_progress, .context = t};
    return train_mnrl(t->model, t->pairs, PAIRS, &t->config, &control, params, report, &error);
}

START_TEST(training_lowers_the_loss_and_leaves_the_model_alone)
{
    trainer_case t;
    float *params = NULL;
    train_report report;
    if (!arrange(&t))
        return;
    size_t bytes = t.parameters * sizeof(float);
    float *before = read_params(&t), *after;

    ck_ok(train(&t, &params, &report));
    ck_assert_uint_eq(report.steps, 30);
    ck_assert_uint_eq(report.pairs, 10 * PAIRS);
    ck_assert_uint_eq(t.calls, 30);
    ck_assert_double_eq_tol(report.first_loss, (t.losses[0] + t.losses[1] + t.losses[2]) / 3, 1e-9);
    ck_assert_double_eq_tol(report.last_loss, (t.losses[27] + t.losses[28] + t.losses[29]) / 3, 1e-9);
    ck_assert_msg(report.last_loss < 0.7 * report.first_loss, "%g -> %g", report.first_loss, report.last_loss);
    after = read_params(&t);
    ck_assert(memcmp(before, after, bytes) == 0);
    free(after);
    ck_assert(memcmp(before, params, bytes) != 0);
    for (size_t i = 0; i < t.parameters; i++)
        ck_assert(isfinite(params[i]));
    free(before);
    free(params);
    model_close(t.model);
}
END_TEST

START_TEST(training_lowers_the_loss_of_every_family)
{
    static const char *const models[] = {"golden/tiny-distilbert", "golden/tiny-roberta", "golden/tiny-xlmr",
                                         "golden/tiny-mpnet", "golden/family-xlmr-dense-tanh"};
    trainer_case t;
    float *params = NULL;
    train_report report;
    if (!arrange_model(&t, models[_i]))
        return;
    ck_ok(train(&t, &params, &report));
    ck_assert_msg(report.last_loss < 0.7 * report.first_loss, "%s: %g -> %g", models[_i], report.first_loss,
                  report.last_loss);
    /* Every tensor that the loss depends on has moved: a key's bias changes no probability. */
    const param_layout *layout = encoder_layout(model_get_encoder(t.model));
    float *before = read_params(&t);
    for (size_t i = 0; i < layout->count; i++) {
        const param *p = &layout->items[i];
        size_t bytes = p->rows * p->cols * sizeof *params;
        ck_assert_msg(memcmp(before + p->offset, params + p->offset, bytes) != 0, "%s stayed", p->name);
    }
    free(before);
    free(params);
    model_close(t.model);
}
END_TEST

/* --- families with rotary positions: no reference model has them, so one is made */

static const struct {
    const char *config;
    const char *tensor; /* one of its own */
} ROTARY[] = {
    {"\"model_type\":\"modernbert\",\"hidden_size\":32,\"num_hidden_layers\":3,"
     "\"num_attention_heads\":2,\"intermediate_size\":48,\"max_position_embeddings\":64,\"local_attention\":4",
     "layers.1.attn_norm.weight"},
    {"\"model_type\":\"nomic_bert\",\"hidden_size\":32,\"num_hidden_layers\":2,"
     "\"num_attention_heads\":2,\"intermediate_size\":48,\"max_position_embeddings\":64,\"type_vocab_size\":2",
     "encoder.layers.1.mlp.fc12.weight"},
};

/* A plain directory: this config.json, tiny-bert's tokenizer, random weights of this layout. */
static void make_rotary(const char *config_text, const char *tiny, size_t vocab, char made[FILES_PATH_MAX])
{
    char plain[FILES_PATH_MAX], path[FILES_PATH_MAX], text[1024], *tokens;
    size_t size;
    model_config config;
    param_layout layout;
    random_state r;
    snprintf(text, sizeof text, "{%s,\"vocab_size\":%zu}", config_text, vocab);
    ck_ok(files_join(plain, &error, "%s/plain", testing_folder()));
    ck_ok(files_join(made, &error, "%s/made", testing_folder()));
    ck_ok(files_make_folder(plain, &error));
    ck_ok(files_join(path, &error, "%s/config.json", plain));
    ck_ok(files_write(path, text, strlen(text), &error));
    ck_ok(files_join(path, &error, "%s/tokenizer.json", tiny));
    ck_ok(files_read(path, 1 << 24, &tokens, &size, &error));
    ck_ok(files_join(path, &error, "%s/tokenizer.json", plain));
    ck_ok(files_write(path, tokens, size, &error));
    free(tokens);
    ck_ok(model_config_read(&config, plain, &error));
    ck_ok(param_layout_create(&layout, &config, &error));
    float *params = calloc(layout.total, sizeof *params);
    ck_assert_ptr_nonnull(params);
    random_seed(&r, 11);
    for (size_t i = 0; i < layout.count; i++) {
        const param *p = &layout.items[i];
        const bool scale = p->vector && strstr(p->name, ".bias") == NULL;
        for (size_t j = 0; j < p->rows * p->cols; j++)
            params[p->offset + j] = (scale ? 1 : 0) + 0.4f * (float)(random_unit(&r) - 0.5);
    }
    ck_ok(model_save(plain, made, &layout, params, NULL, &error));
    free(params);
    param_layout_free(&layout);
    model_config_free(&config);
}

START_TEST(training_lowers_the_loss_of_families_with_rotary_positions)
{
    trainer_case t;
    char made[FILES_PATH_MAX], tuned[FILES_PATH_MAX];
    float *params = NULL;
    train_report report;
    if (!arrange(&t))
        return;
    make_rotary(ROTARY[_i].config, model_get_dir(t.model), model_get_config(t.model)->vocab, made);
    model_close(t.model);
    ck_ok(model_open(&t.model, made, NULL, &t.log, &error));
    t.parameters = encoder_layout(model_get_encoder(t.model))->total;
    t.config.learning_rate = 5e-3;

    ck_ok(train(&t, &params, &report));

    const param_layout *layout = encoder_layout(model_get_encoder(t.model));
    const param *own = param_layout_find(layout, ROTARY[_i].tensor);
    ck_assert_msg(report.last_loss < 0.7 * report.first_loss, "%s: %g -> %g", ROTARY[_i].tensor, report.first_loss,
                  report.last_loss);
    ck_assert_ptr_nonnull(own);
    float *before = read_params(&t);
    ck_assert(memcmp(before + own->offset, params + own->offset, own->rows * own->cols * sizeof *params) != 0);
    free(before);
    for (size_t i = 0; i < layout->zeros_count; i++)
        ck_assert(params[layout->zeros + i] == 0);
    ck_ok(files_join(tuned, &error, "%s/tuned", testing_folder()));
    ck_ok(model_save(made, tuned, layout, params, NULL, &error));
    const size_t bytes = layout->total * sizeof *params;
    model_close(t.model);
    ck_ok(model_open(&t.model, tuned, NULL, &t.log, &error));
    float *again = read_params(&t);
    ck_assert(memcmp(again, params, bytes) == 0);
    free(again);
    free(params);
    model_close(t.model);
}
END_TEST

/* Trains with the case's configuration; the caller frees the result. */
static float *params_after(trainer_case *t)
{
    float *params = NULL;
    train_report report;
    t->calls = 0;
    ck_ok(train(t, &params, &report));
    return params;
}

START_TEST(run_repeats_bit_for_bit_from_its_seed)
{
    trainer_case t;
    if (!arrange(&t))
        return;
    size_t bytes = t.parameters * sizeof(float);
    float *first = params_after(&t), *second = params_after(&t);
    t.config.seed = 2;
    float *other = params_after(&t);
    ck_assert(memcmp(first, second, bytes) == 0);
    ck_assert(memcmp(first, other, bytes) != 0);
    free(first);
    free(second);
    free(other);
    model_close(t.model);
}
END_TEST

START_TEST(threads_and_memory_change_nothing_but_rounding)
{
    trainer_case t;
    if (!arrange(&t))
        return;
    t.config.dropout = 0;
    t.config.max_steps = 4;
    t.config.threads = 1;
    float *whole = params_after(&t);
    t.config.threads = 5;
    t.config.tape_bytes = 1;
    float *pieces = params_after(&t);
    double largest = 0;
    for (size_t i = 0; i < t.parameters; i++)
        largest = fmax(largest, fabs((double)whole[i] - pieces[i]));
    /* A gradient near 0 may change its sign with the rounding: then AdamW's step of about
     * the learning rate goes the other way. */
    ck_assert_msg(largest < 4 * t.config.learning_rate, "%g", largest);
    free(whole);
    free(pieces);
    model_close(t.model);
}
END_TEST

START_TEST(cancel_ends_the_run_within_a_step)
{
    trainer_case t;
    float *params = NULL;
    train_report report;
    if (!arrange(&t))
        return;
    t.cancel_at = 3;
    ck_fails(train(&t, &params, &report), SEM_CANCELLED);
    ck_assert_uint_eq(t.calls, 3);
    ck_assert_ptr_null(params);
    t.calls = 0;
    ck_fails(train(&t, &params, &report), SEM_CANCELLED);
    ck_assert_uint_eq(t.calls, 0);
    model_close(t.model);
}
END_TEST

START_TEST(copies_of_one_document_teach_nothing)
{
    trainer_case t;
    float *params = NULL;
    train_report report;
    if (!arrange(&t))
        return;
    for (size_t i = 0; i < PAIRS; i++) {
        snprintf(t.documents[i], sizeof t.documents[i], "one answer");
        set_pair(&t, i);
    }
    ck_ok(train(&t, &params, &report));
    for (size_t i = 0; i < t.calls; i++)
        ck_assert_double_eq_tol(t.losses[i], 0, 1e-9);
    free(params);
    model_close(t.model);
}
END_TEST

START_TEST(weight_decides_how_much_a_pair_counts)
{
    trainer_case t;
    if (!arrange(&t))
        return;
    t.config.max_steps = 1;
    t.config.dropout = 0;
    t.config.batch_size = PAIRS;
    free(params_after(&t));
    double equal = t.losses[0];
    for (size_t i = 0; i < PAIRS; i++)
        t.pairs[i].weight = 0.5f;
    free(params_after(&t));
    ck_assert_double_eq_tol(t.losses[0], equal, 1e-6);
    t.pairs[0].weight = 1000;
    free(params_after(&t));
    ck_assert(fabs(t.losses[0] - equal) > 1e-4);
    model_close(t.model);
}
END_TEST

START_TEST(max_steps_ends_the_run_and_the_schedule)
{
    trainer_case t;
    float *params = NULL;
    train_report report;
    if (!arrange(&t))
        return;
    t.config.max_steps = 5;
    ck_ok(train(&t, &params, &report));
    ck_assert_uint_eq(report.steps, 5);
    ck_assert_uint_eq(t.calls, 5);
    free(params);
    model_close(t.model);
}
END_TEST

START_TEST(empty_and_hostile_texts_are_trained_on)
{
    static const char *const texts[] = {"", " \t\n", "\xf0\x9f\x92\xa9", "[MASK][SEP][CLS]",
                                        "\xcc\x81\xcc\x81\xcc\x81"};
    trainer_case t;
    float *params = NULL;
    train_report report;
    char *longest = malloc(100001);
    if (!arrange(&t))
        return;
    memset(longest, 'a', 100000);
    longest[100000] = '\0';
    for (size_t i = 0; i < 5; i++) {
        snprintf(t.queries[i], sizeof t.queries[i], "%s", texts[i]);
        snprintf(t.documents[5 + i], sizeof t.documents[5 + i], "%s", texts[i]);
        set_pair(&t, i);
        set_pair(&t, 5 + i);
    }
    t.pairs[10].document = longest;
    t.pairs[10].document_length = 100000;
    t.config.epochs = 1;
    ck_ok(train(&t, &params, &report));
    free(params);
    free(longest);
    model_close(t.model);
}
END_TEST

START_TEST(unusable_pairs_are_refused_by_number)
{
    trainer_case t;
    float *params = NULL;
    train_report report;
    if (!arrange(&t))
        return;
    ck_fails(train_mnrl(t.model, t.pairs, 1, &t.config, NULL, &params, &report, &error), SEM_INVALID_ARGUMENT);
    const float weights[] = {0, -1, NAN, INFINITY};
    for (size_t i = 0; i < 4; i++) {
        t.pairs[7].weight = weights[i];
        ck_fails(train(&t, &params, &report), SEM_INVALID_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(error.message, "pair 7"));
    }
    t.pairs[7].weight = 1;
    t.pairs[9].document = "\xff";
    t.pairs[9].document_length = 1;
    ck_fails(train(&t, &params, &report), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "pair 9"));
    ck_assert_ptr_null(params);
    model_close(t.model);
}
END_TEST

/* Each setting alone trains, and ends with weights of its own. */
START_TEST(every_setting_lowers_the_loss_and_changes_the_outcome)
{
    trainer_case t;
    train_report report;
    float *plain = NULL, *params = NULL;
    if (!arrange(&t))
        return;
    const train_config base = t.config;
    ck_ok(train(&t, &plain, &report));
    for (size_t i = 0; i < 11; i++) {
        t.config = base;
        t.calls = 0;
        t.config.margin = i == 0 ? 0.2 : 0;
        t.config.symmetric = i == 1;
        t.config.scale_kind = i == 2 ? MNRL_SCALE_LEARNED : MNRL_SCALE_FIXED;
        t.config.schedule = i == 3 ? SCHEDULE_COSINE : i == 4 ? SCHEDULE_CONSTANT : SCHEDULE_LINEAR;
        t.config.accumulate = i == 5 ? 2 : 1;
        t.config.layer_decay = i == 6 ? 0.7 : 1;
        t.config.freeze_embeddings = i == 7;
        t.config.freeze_layers = i == 8 ? 1 : 0;
        t.config.average = i == 9 ? 0.8 : 0;
        t.config.dim_count = i == 10 ? 2 : 0;
        t.config.dims[0] = 16;
        t.config.dims[1] = 48;
        t.config.dim_weights[0] = t.config.dim_weights[1] = 1;
        ck_ok(train(&t, &params, &report));
        ck_assert_uint_eq(report.steps, i == 5 ? 15 : 30);
        ck_assert_uint_eq(report.pairs, 10 * PAIRS);
        ck_assert_msg(report.last_loss < report.first_loss, "setting %zu: %g -> %g", i, report.first_loss,
                      report.last_loss);
        ck_assert(memcmp(plain, params, t.parameters * sizeof *params) != 0);
        free(params);
    }
    /* Every document here is in one pair: nothing comes more often than another. */
    t.config = base;
    t.calls = 0;
    t.config.frequency = true;
    ck_ok(train(&t, &params, &report));
    ck_assert(memcmp(plain, params, t.parameters * sizeof *params) == 0);
    free(params);
    free(plain);
    model_close(t.model);
}
END_TEST

static void check_refused(const train_config *config, const char *field)
{
    ck_fails(train_config_check(config, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, field) != NULL, "%s is not named: %s", field, error.message);
}

START_TEST(settings_out_of_range_are_refused_by_name)
{
    train_config good, bad;
    train_config_defaults(&good);
    ck_ok(train_config_check(&good, &error));
#define REFUSED(field, value) (bad = good, bad.field = (value), check_refused(&bad, #field))
    REFUSED(learning_rate, 0);
    REFUSED(learning_rate, NAN);
    REFUSED(learning_rate, -1e-4);
    REFUSED(warmup_ratio, 1.1);
    REFUSED(warmup_ratio, -0.1);
    REFUSED(weight_decay, -0.01);
    REFUSED(weight_decay, INFINITY);
    REFUSED(clip_norm, -1);
    REFUSED(scale, 0);
    REFUSED(scale, 1e9);
    REFUSED(dropout, 1);
    REFUSED(dropout, NAN);
    REFUSED(batch_size, 1);
    REFUSED(batch_size, 1000000);
    REFUSED(epochs, 0);
    REFUSED(accumulate, 0);
    REFUSED(margin, -0.1);
    REFUSED(layer_decay, 0);
    REFUSED(average, 1);
    REFUSED(checkpoint_every, 0);
    REFUSED(max_tokens, 2);
    REFUSED(threads, 0);
    REFUSED(threads, 100000);
    for (int nice = -1; nice <= 21; nice += 22) {
        bad = good;
        bad.nice.added = nice;
        check_refused(&bad, "nice");
    }
#undef REFUSED
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *tests = tcase_create("trainer");
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, training_lowers_the_loss_and_leaves_the_model_alone);
    tcase_add_test(tests, every_setting_lowers_the_loss_and_changes_the_outcome);
    tcase_add_loop_test(tests, training_lowers_the_loss_of_every_family, 0, 5);
    tcase_add_loop_test(tests, training_lowers_the_loss_of_families_with_rotary_positions, 0, 2);
    tcase_add_test(tests, run_repeats_bit_for_bit_from_its_seed);
    tcase_add_test(tests, threads_and_memory_change_nothing_but_rounding);
    tcase_add_test(tests, cancel_ends_the_run_within_a_step);
    tcase_add_test(tests, copies_of_one_document_teach_nothing);
    tcase_add_test(tests, weight_decides_how_much_a_pair_counts);
    tcase_add_test(tests, max_steps_ends_the_run_and_the_schedule);
    tcase_add_test(tests, empty_and_hostile_texts_are_trained_on);
    tcase_add_test(tests, unusable_pairs_are_refused_by_number);
    tcase_add_test(tests, settings_out_of_range_are_refused_by_name);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
