/* The reference batch of shared/golden: 12 rows for tiny-bert, with the optimiser's settings. */
#ifndef SEM_TESTS_FINETUNE_GOLDEN_TRAIN_H
#define SEM_TESTS_FINETUNE_GOLDEN_TRAIN_H

#include "tests/common/testing.h"
#include "tests/model/golden.h"

#include "base/hash.h"
#include "model/model.h"
#include "finetune/loss_mnrl.h"
#include "finetune/train_step.h"

#include <jansson.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sem_error error;

enum { ROWS = 12, NEGATIVES = 2, MAX_TOKENS = 64, STEPS = 3 };

/* The golden model with the golden batch: 12 anchors, positives and twice 12 negatives. */
typedef struct golden {
    sem_log log;
    model *model;
    json_t *expected;   /* train_expected.json */
    token_batch tokens; /* anchors, positives, first negatives, second negatives */
    train_text texts[(2 + NEGATIVES) * ROWS];
    uint64_t key[(2 + NEGATIVES) * ROWS];
    float weight[ROWS];
    float *teacher; /* [2 ROWS, E]: of an anchor and its positive the same */
    float *params;
} golden;

typedef struct golden_rows {
    train_text texts[(2 + NEGATIVES) * ROWS];
    uint64_t id[(2 + NEGATIVES) * ROWS];
} golden_rows;

static inline char *golden_path(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "golden/%s", name);
    const char *found = testing_shared(path);
    if (found == NULL)
        return NULL;
    snprintf(path, sizeof path, "%s", found);
    return path;
}

static inline void add_text(golden *t, const char *s, size_t length)
{
    size_t i = t->tokens.texts;
    ck_ok(tokenizer_encode(model_get_tokenizer(t->model), s, length, MAX_TOKENS, &t->tokens, NULL, &error));
    t->key[i] = hash_text(s, length);
}

static inline void add_rows(golden *t, const golden_lines *rows)
{
    static const char *const sides[] = {"anchor", "positive"};
    size_t length = 0;
    ck_assert_uint_eq(rows->count, ROWS);
    for (size_t i = 0; i < 2 * ROWS; i++) {
        const char *text = golden_text(rows->items[i % ROWS], sides[i / ROWS], &length);
        add_text(t, text, length);
    }
    for (size_t i = 0; i < NEGATIVES * ROWS; i++) {
        const json_t *text = json_array_get(json_object_get(rows->items[i % ROWS], "negatives"), i / ROWS);
        ck_assert(json_is_string(text));
        add_text(t, json_string_value(text), json_string_length(text));
    }
    const int32_t *ids = t->tokens.ids;
    for (size_t i = 0; i < t->tokens.texts; i++) {
        t->texts[i] = (train_text){.ids = ids, .length = t->tokens.lengths[i]};
        ids += t->tokens.lengths[i];
    }
}

static inline json_t *golden_load(const char *name)
{
    json_error_t problem;
    json_t *value = json_load_file(golden_path(name), 0, &problem);
    ck_assert_msg(value != NULL, "%s: %s", name, problem.text);
    return value;
}

static inline void read_teacher(golden *t)
{
    size_t floats = ROWS * model_get_config(t->model)->dim;
    FILE *file = fopen(golden_path("train_teacher.f32"), "rb");
    t->teacher = malloc(2 * floats * sizeof *t->teacher);
    ck_assert(file != NULL && t->teacher != NULL);
    ck_assert_uint_eq(fread(t->teacher, sizeof *t->teacher, floats, file), floats);
    memcpy(t->teacher + floats, t->teacher, floats * sizeof *t->teacher);
    fclose(file);
}

/* False where the reference data is missing. */
static inline bool golden_open(golden *t)
{
    memset(t, 0, sizeof *t);
    if (golden_path("train_batch.jsonl") == NULL)
        return false;
    log_init(&t->log, 2, LOG_LEVEL_ERROR);
    ck_ok(model_open(&t->model, golden_path("tiny-bert"), NULL, &t->log, &error));
    t->expected = golden_load("train_expected.json");
    golden_lines rows = golden_read(golden_path("train_batch.jsonl"));
    add_rows(t, &rows);
    golden_free(&rows);
    for (size_t i = 0; i < ROWS; i++)
        t->weight[i] = 1;
    read_teacher(t);
    size_t total = encoder_layout(model_get_encoder(t->model))->total;
    t->params = malloc(total * sizeof *t->params);
    ck_assert_ptr_nonnull(t->params);
    ck_ok(encoder_read_params(model_get_encoder(t->model), t->params, &error));
    return true;
}

static inline void golden_close(golden *t)
{
    free(t->params);
    free(t->teacher);
    token_batch_free(&t->tokens);
    json_decref(t->expected);
    model_close(t->model);
}

/* The settings of train_expected.json, without dropout, for the loss l. */
static inline train_step_options golden_options(const golden *t, loss *l, unsigned threads)
{
    train_step_options o = {.config = model_get_config(t->model),
                            .layout = encoder_layout(model_get_encoder(t->model)),
                            .g = model_get_gemm(t->model),
                            .loss = l,
                            .groups = {.layer_decay = 1},
                            .optimiser = adamw_defaults(),
                            .clip_norm = 1,
                            .seed = 1,
                            .max_tokens = MAX_TOKENS,
                            .max_steps = STEPS,
                            .tape_bytes = (size_t)64 << 20,
                            .threads = threads};
    return o;
}

/* MNRL at a scale, over batches of the size of the golden one. */
static inline loss *golden_loss(const golden *t, const mnrl_options *o)
{
    loss *l = NULL;
    ck_ok(loss_mnrl_create(&l, o, model_get_gemm(t->model), ROWS, (2 + NEGATIVES) * ROWS, &error));
    return l;
}

/* Pairs [first, first + count) and that many negatives of each in the arrays of a batch. */
static inline train_batch rows_batch(const golden *t, golden_rows *rows, size_t first, size_t count, size_t negatives)
{
    for (size_t part = 0; part < 2 + negatives; part++) {
        memcpy(rows->texts + part * count, t->texts + part * ROWS + first, count * sizeof *rows->texts);
        memcpy(rows->id + part * count, t->key + part * ROWS + first, count * sizeof *rows->id);
    }
    return (train_batch){.texts = rows->texts,
                         .about = {.pairs = count,
                                   .texts = (2 + negatives) * count,
                                   .id = rows->id,
                                   .weight = t->weight,
                                   .teacher = t->teacher}};
}

static inline double number_at(const json_t *array, size_t i)
{
    return json_number_value(json_array_get(array, i));
}

static inline void check_relative(double found, double wanted, double tolerance, const char *what)
{
    ck_assert_msg(fabs(found - wanted) <= tolerance * fabs(wanted), "%s: %.8g instead of %.8g", what, found, wanted);
}

/* The embeddings of the first anchors under t->params. */
static inline void check_embeddings(const golden *t, const json_t *rows)
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

#endif
