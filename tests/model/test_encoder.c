#include "tests/common/testing.h"
#include "tests/model/golden.h"
#include "tests/model/small_model.h"

#include "base/random.h"
#include "model/encoder_plan.h"
#include "model/model.h"

#include <math.h>
#include <string.h>

/* What float32 in another order of summation may change (golden/README.md). */
static const float TOLERANCE = 2e-5f;

static model *open_or_skip(const char *dir)
{
    sem_error error;
    model *m;
    if (dir == NULL)
        return NULL;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    return m;
}

static void tokenize_all(const model *m, const golden_lines *lines, token_batch *batch)
{
    sem_error error;
    for (size_t i = 0; i < lines->count; i++) {
        size_t length;
        const char *text = golden_text(lines->items[i], "text", &length);
        ck_ok(model_tokenize(m, NULL, text, length, batch, NULL, &error));
    }
}

/* All texts of batch in calls of `step` texts. */
static float *embed_all(const model *m, const token_batch *batch, size_t step)
{
    sem_error error;
    const size_t E = model_get_config(m)->dim;
    encoder_scratch *s;
    float *out = malloc(batch->texts * E * sizeof *out);
    ck_assert_ptr_nonnull(out);
    ck_ok(encoder_scratch_create(&s, model_get_encoder(m), 100, &error));
    size_t token = 0;
    for (size_t b = 0; b < batch->texts; b += step) {
        size_t texts = batch->texts - b < step ? batch->texts - b : step;
        ck_ok(encoder_forward(model_get_encoder(m), s, batch->ids + token, batch->lengths + b, texts, out + b * E,
                              &error));
        for (size_t i = 0; i < texts; i++)
            token += batch->lengths[b + i];
    }
    encoder_scratch_destroy(s);
    return out;
}

static void check_equal(const float *found, const float *expected, size_t texts, size_t width)
{
    float worst = 0;
    size_t where = 0;
    for (size_t i = 0; i < texts * width; i++) {
        float difference = fabsf(found[i] - expected[i]);
        if (!(difference <= worst)) {
            worst = difference;
            where = i / width;
        }
    }
    ck_assert_msg(worst <= TOLERANCE, "text %zu differs by %g", where, (double)worst);
}

START_TEST(embeddings_equal_the_reference_minilm)
{
    /* Arrange */
    model *m = open_or_skip(testing_minilm());
    const char *path = m == NULL ? NULL : testing_shared("golden/minilm_embed_texts.jsonl");
    if (path == NULL) {
        model_close(m);
        return;
    }
    golden_lines lines = golden_read(path);
    float *right = malloc(lines.count * 384 * sizeof *right);
    ck_assert_ptr_nonnull(right);
    FILE *file = fopen(testing_shared("golden/minilm_embed.f32"), "rb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(right, 384 * sizeof *right, lines.count, file), lines.count);
    fclose(file);
    token_batch batch = {0};
    tokenize_all(m, &lines, &batch);

    /* Act */
    float *out = embed_all(m, &batch, 40);

    /* Assert */
    check_equal(out, right, lines.count, 384);
    free(out);
    free(right);
    token_batch_free(&batch);
    golden_free(&lines);
    model_close(m);
}
END_TEST

/* --- a small model without files */

static float *random_params(const model_config *config)
{
    sem_error error;
    param_layout layout;
    ck_ok(param_layout_create(&layout, config, &error));
    float *params = malloc(layout.total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    random_state r;
    random_seed(&r, 3);
    for (size_t i = 0; i < layout.total; i++)
        params[i] = (float)(random_unit(&r) - 0.4);
    param_layout_free(&layout);
    return params;
}

static void random_batch(int32_t *ids, uint32_t *lengths, size_t texts, uint64_t seed)
{
    random_state r;
    random_seed(&r, seed);
    for (size_t b = 0; b < texts; b++) {
        lengths[b] = 1 + (uint32_t)random_below(&r, SMALL.max_tokens);
        for (size_t i = 0; i < lengths[b]; i++)
            *ids++ = (int32_t)random_below(&r, SMALL.vocab);
    }
}

enum { TEXTS = 20, IDS_MAX = TEXTS * 80, WIDTH = 40 };

START_TEST(every_instruction_set_gives_the_same_embeddings)
{
    /* Arrange */
    sem_error error;
    int32_t ids[IDS_MAX];
    uint32_t lengths[TEXTS];
    float out[KERNELS_MAX][TEXTS * WIDTH];
    random_batch(ids, lengths, TEXTS, testing_seed());
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);

    for (size_t i = 0; levels[i] != NULL; i++) {
        /* Act */
        encoder *e;
        encoder_scratch *s;
        ck_assert_int_eq(setenv("SEMD_SIMD", levels[i]->name, 1), 0);
        ck_ok(encoder_create(&e, &SMALL, random_params(&SMALL), gemm_own(levels[i]), &error));
        ck_assert_str_eq(encoder_simd(e), levels[i]->name);
        ck_ok(encoder_scratch_create(&s, e, 1, &error));
        ck_ok(encoder_forward(e, s, ids, lengths, TEXTS, out[i], &error));

        /* Assert */
        check_equal(out[i], out[0], TEXTS, WIDTH);
        encoder_scratch_destroy(s);
        encoder_destroy(e);
    }
    unsetenv("SEMD_SIMD");
}
END_TEST

START_TEST(a_text_is_embedded_alike_alone_and_in_a_batch)
{
    sem_error error;
    int32_t ids[IDS_MAX];
    uint32_t lengths[TEXTS];
    float together[TEXTS * WIDTH], alone[WIDTH];
    encoder *e;
    encoder_scratch *s;
    random_batch(ids, lengths, TEXTS, testing_seed());
    ck_ok(encoder_create(&e, &SMALL, random_params(&SMALL), &gemm_portable, &error));
    ck_ok(encoder_scratch_create(&s, e, 1, &error));
    ck_ok(encoder_forward(e, s, ids, lengths, TEXTS, together, &error));
    size_t first = 0;
    for (size_t b = 0; b < TEXTS; b++) {
        ck_ok(encoder_forward(e, s, ids + first, lengths + b, 1, alone, &error));
        check_equal(alone, together + b * WIDTH, 1, WIDTH);
        first += lengths[b];
    }
    encoder_scratch_destroy(s);
    encoder_destroy(e);
}
END_TEST

START_TEST(ids_and_lengths_out_of_range_are_refused)
{
    sem_error error;
    float out[2 * WIDTH];
    encoder *e;
    encoder_scratch *s;
    ck_ok(encoder_create(&e, &SMALL, random_params(&SMALL), &gemm_portable, &error));
    ck_ok(encoder_scratch_create(&s, e, 200, &error));
    int32_t ids[200] = {0};
    const uint32_t fine[] = {2, 3}, empty[] = {2, 0}, long_one[] = {81, 1};

    ck_ok(encoder_forward(e, s, ids, fine, 2, out, &error));
    ck_ok(encoder_forward(e, s, ids, fine, 0, out, &error));
    ck_fails(encoder_forward(e, s, ids, empty, 2, out, &error), SEM_INVALID_ARGUMENT);
    ck_fails(encoder_forward(e, s, ids, long_one, 2, out, &error), SEM_INVALID_ARGUMENT);
    ids[4] = 50;
    ck_fails(encoder_forward(e, s, ids, fine, 2, out, &error), SEM_INVALID_ARGUMENT);
    ids[4] = -1;
    ck_fails(encoder_forward(e, s, ids, fine, 2, out, &error), SEM_INVALID_ARGUMENT);
    encoder_scratch_destroy(s);
    encoder_destroy(e);
}
END_TEST

START_TEST(shapes_that_cannot_be_computed_are_refused)
{
    sem_error error;
    encoder *e;
    float *params = random_params(&SMALL);
    model_config wrong[14];
    for (size_t i = 0; i < 14; i++)
        wrong[i] = SMALL;
    wrong[0].heads = 3;
    wrong[1].heads = 0;
    wrong[2].pooling = 0;
    wrong[3].pooling = 64;
    wrong[4].dim = 41;
    wrong[5].max_tokens = 91;
    wrong[6].types = 0;
    wrong[7].vocab = SIZE_MAX / 2;
    wrong[8].position_start = 11;
    wrong[9].relative_buckets = 32;
    wrong[10].family = FAMILY_DISTILBERT; /* which has no token types */
    wrong[11].family = FAMILY_MPNET;
    wrong[12].activation = (model_activation)9;
    wrong[13].dense_count = 1; /* of width 0 */
    for (size_t i = 0; i < 14; i++)
        ck_fails(encoder_create(&e, &wrong[i], params, &gemm_portable, &error), SEM_INVALID_ARGUMENT);
    free(params);
}
END_TEST

/* The edges are 8 * 2^(i / 2): 8, 11.3, 16, 22.6, 32, 45.3, 64 and 90.5. */
START_TEST(relative_positions_fall_into_buckets_by_their_logarithm)
{
    static const struct {
        size_t distance;
        unsigned bucket;
    } edges[] = {{0, 0},   {1, 1},   {7, 7},   {8, 8},   {11, 8},  {12, 9},  {15, 9},  {16, 10}, {22, 10}, {23, 11},
                 {31, 11}, {32, 12}, {45, 12}, {46, 13}, {63, 13}, {64, 14}, {90, 14}, {91, 15}, {299, 15}};
    sem_error error;
    param_layout layout;
    encoder_plan plan;
    model_config config = SMALL;
    config.family = FAMILY_MPNET;
    config.types = 0;
    config.relative_buckets = 32;
    config.position_start = 2;
    config.max_tokens = 300;
    config.positions = 302;
    ck_ok(param_layout_create(&layout, &config, &error));
    ck_ok(encoder_plan_create(&plan, &config, &layout, &gemm_portable, &error));
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        size_t distance = edges[i].distance;
        ck_assert_uint_eq(plan.buckets[299 - distance], edges[i].bucket);
        ck_assert_uint_eq(plan.buckets[299 + distance], edges[i].bucket + (distance > 0 ? 16 : 0));
    }
    encoder_plan_free(&plan);
    param_layout_free(&layout);
}
END_TEST

/* What transformers' create_position_ids_from_input_ids gives. */
START_TEST(roberta_counts_positions_from_behind_its_padding)
{
    static const int32_t ids[] = {0, 7, 1, 1, 9};
    static const size_t places[] = {2, 3, 1, 1, 4};
    const kernels *k;
    sem_error error;
    ck_ok(kernels_choose(&k, &error));
    /* Words 10 wide 1, all 0; position p holds p. */
    const embedding_shape shape = {.hidden = 1, .words = 0, .positions = 10, .position_start = 2};
    float params[20] = {0}, grads[20] = {0}, y[5], dy[5] = {1, 1, 1, 1, 1};
    for (size_t i = 0; i < 10; i++)
        params[10 + i] = (float)i;
    embedding_forward(k, &shape, ids, 5, params, y);
    embedding_backward(k, &shape, ids, 5, dy, grads);
    for (size_t i = 0; i < 5; i++)
        ck_assert(y[i] == (float)places[i]);
    ck_assert(grads[11] == 2 && grads[12] == 1 && grads[13] == 1 && grads[14] == 1 && grads[15] == 0);
}
END_TEST

START_TEST(an_instruction_set_is_run_or_refused_by_name)
{
    static const char *const names[] = {"generic", "avx2", "avxvnni", "avx512", "amx"};
    const kernels *levels[KERNELS_MAX + 1], *k;
    kernels_available(levels);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        sem_error error;
        bool runs = false;
        for (size_t l = 0; levels[l] != NULL; l++)
            runs = runs || strcmp(levels[l]->name, names[i]) == 0;
        ck_assert_int_eq(setenv("SEMD_SIMD", names[i], 1), 0);
        if (runs) {
            ck_ok(kernels_choose(&k, &error));
            ck_assert_str_eq(k->name, names[i]);
        } else {
            ck_fails(kernels_choose(&k, &error), SEM_INVALID_ARGUMENT);
            ck_assert_ptr_nonnull(strstr(error.message, "lacks"));
        }
    }
    unsetenv("SEMD_SIMD");
}
END_TEST

START_TEST(an_unknown_instruction_set_is_refused)
{
    sem_error error;
    const kernels *k;
    ck_assert_int_eq(setenv("SEMD_SIMD", "avx1024", 1), 0);
    ck_fails(kernels_choose(&k, &error), SEM_INVALID_ARGUMENT);
    unsetenv("SEMD_SIMD");
    ck_ok(kernels_choose(&k, &error));
}
END_TEST

/* --- precisions */

static double least_cosine(const float *x, const float *y, size_t texts, size_t width)
{
    double least = 1;
    for (size_t i = 0; i < texts; i++) {
        double cosine = 0;
        for (size_t j = 0; j < width; j++)
            cosine += (double)x[i * width + j] * y[i * width + j];
        least = cosine < least ? cosine : least;
    }
    return least;
}

START_TEST(every_precision_agrees_with_the_reference_at_every_level)
{
    static const struct {
        const char *name;
        double cosine;
    } precisions[] = {{"float32", 0.999999}, {"bfloat16", 0.9999}, {"int8", 0.99}, {"auto", 0.998}};
    model *m = open_or_skip(testing_minilm());
    const char *path = m == NULL ? NULL : testing_shared("golden/minilm_embed_texts.jsonl");
    model_close(m);
    if (path == NULL)
        return;
    golden_lines lines = golden_read(path);
    golden_lines some = lines; /* borrows the first of them */
    some.count = lines.count < 60 ? lines.count : 60;
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    /* The portable level takes minutes under the sanitizers; test_packed compares it with the others. */
    for (size_t l = levels[1] != NULL; levels[l] != NULL; l++) {
        ck_assert_int_eq(setenv("SEMD_SIMD", levels[l]->name, 1), 0);
        float *right = NULL;
        for (size_t i = 0; i < 4; i++) {
            sem_error error;
            token_batch batch = {0};
            m = open_or_skip(testing_minilm());
            ck_ok(model_set_precision(m, precisions[i].name, 0.999, NULL, &error));
            tokenize_all(m, &some, &batch);
            float *out = embed_all(m, &batch, 40);
            if (right == NULL)
                right = out;
            double least = least_cosine(out, right, some.count, 384);
            ck_assert_msg(least >= precisions[i].cosine, "%s %s: %f", levels[l]->name, precisions[i].name, least);
            ck_assert(i == 3 || strcmp(model_precision(m), precisions[i].name) == 0);
            if (out != right)
                free(out);
            token_batch_free(&batch);
            model_close(m);
        }
        free(right);
    }
    unsetenv("SEMD_SIMD");
    golden_free(&lines);
}
END_TEST

START_TEST(a_precision_that_agrees_too_little_is_not_taken)
{
    sem_error error;
    model *m = open_or_skip(testing_minilm());
    if (m == NULL)
        return;
    ck_ok(model_set_precision(m, "auto", 1, NULL, &error));
    ck_assert_str_eq(model_precision(m), "float32");
    ck_fails(model_set_precision(m, "float16", 1, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "float16"));
    model_close(m);
}
END_TEST

/* --- checkpoints */

typedef struct checkpoint {
    param_layout layout;
    float *params;
    tensor_source *tensors; /* [layout.count] */
    char (*names)[160];
} checkpoint;

static checkpoint checkpoint_create(const char *prefix)
{
    sem_error error;
    checkpoint c = {0};
    ck_ok(param_layout_create(&c.layout, &SMALL, &error));
    c.params = random_params(&SMALL);
    c.tensors = calloc(c.layout.count + 1, sizeof *c.tensors);
    c.names = calloc(c.layout.count + 1, sizeof *c.names);
    ck_assert(c.tensors != NULL && c.names != NULL);
    for (size_t i = 0; i < c.layout.count; i++) {
        const param *p = &c.layout.items[i];
        snprintf(c.names[i], sizeof c.names[i], "%s%s", prefix, p->name);
        c.tensors[i] = (tensor_source){.name = c.names[i], .dims = p->vector ? 1 : 2, .data = c.params + p->offset};
        c.tensors[i].shape[0] = p->vector ? p->cols : p->rows;
        c.tensors[i].shape[1] = p->cols;
    }
    return c;
}

static void checkpoint_free(checkpoint *c)
{
    param_layout_free(&c->layout);
    free(c->params);
    free(c->tensors);
    free(c->names);
}

static sem_status write_and_read(const checkpoint *c, size_t count, float *out, sem_error *err)
{
    char path[4096];
    safetensors *file;
    sem_error error;
    snprintf(path, sizeof path, "%s/model.safetensors", testing_folder());
    ck_ok(safetensors_write(path, c->tensors, count, &error));
    ck_ok(safetensors_open(&file, path, &error));
    sem_status status = params_read(&c->layout, "", file, out, err);
    safetensors_close(file);
    return status;
}

START_TEST(a_checkpoint_is_read_under_any_known_prefix)
{
    static const char *const prefixes[] = {"", "bert.", "0.auto_model."};
    sem_error error;
    for (size_t i = 0; i < 3; i++) {
        checkpoint c = checkpoint_create(prefixes[i]);
        float *out = calloc(c.layout.total, sizeof *out);
        ck_assert_ptr_nonnull(out);
        ck_ok(write_and_read(&c, c.layout.count, out, &error));
        ck_assert_int_eq(memcmp(out, c.params, c.layout.total * sizeof *out), 0);
        free(out);
        checkpoint_free(&c);
    }
}
END_TEST

START_TEST(a_damaged_checkpoint_is_refused_by_the_tensors_name)
{
    sem_error error;
    checkpoint c = checkpoint_create("");
    const size_t n = c.layout.count;
    float *out = calloc(c.layout.total, sizeof *out);
    ck_assert_ptr_nonnull(out);

    ck_fails(write_and_read(&c, n - 1, out, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "encoder.layer.1.output.LayerNorm.bias is missing"));

    c.tensors[n] =
        (tensor_source){.name = "encoder.layer.2.output.dense.bias", .dims = 1, .shape = {40}, .data = c.params};
    ck_fails(write_and_read(&c, n + 1, out, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "encoder.layer.2.output.dense.bias is not known"));
    c.tensors[n].name = "pooler.dense.bias";
    ck_ok(write_and_read(&c, n + 1, out, &error));

    c.tensors[6].shape[0] = 39;
    ck_fails(write_and_read(&c, n, out, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "[39, 40]"));
    c.tensors[6].shape[0] = 40;

    c.params[c.layout.items[9].offset + 2] = NAN;
    ck_fails(write_and_read(&c, n, out, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, c.layout.items[9].name));
    free(out);
    checkpoint_free(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/encoder");
    TCase *golden = tcase_create("golden");
    tcase_set_timeout(golden, 300);
    tcase_add_test(golden, embeddings_equal_the_reference_minilm);
    tcase_add_test(golden, every_precision_agrees_with_the_reference_at_every_level);
    tcase_add_test(golden, a_precision_that_agrees_too_little_is_not_taken);
    suite_add_tcase(suite, golden);
    TCase *small = tcase_create("small");
    tcase_set_timeout(small, 60);
    tcase_add_test(small, every_instruction_set_gives_the_same_embeddings);
    tcase_add_test(small, a_text_is_embedded_alike_alone_and_in_a_batch);
    tcase_add_test(small, ids_and_lengths_out_of_range_are_refused);
    tcase_add_test(small, shapes_that_cannot_be_computed_are_refused);
    tcase_add_test(small, relative_positions_fall_into_buckets_by_their_logarithm);
    tcase_add_test(small, roberta_counts_positions_from_behind_its_padding);
    tcase_add_test(small, an_instruction_set_is_run_or_refused_by_name);
    tcase_add_test(small, an_unknown_instruction_set_is_refused);
    tcase_add_test(small, a_checkpoint_is_read_under_any_known_prefix);
    tcase_add_test(small, a_damaged_checkpoint_is_refused_by_the_tensors_name);
    suite_add_tcase(suite, small);
    return testing_run(suite);
}
