/* Weights in memory: what is there, what is not, and files that others change. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "model/model.h"
#include "model/weights.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static sem_error error;

static const char *const NAMES[] = {"golden/tiny-bert", "golden/tiny-mpnet", "golden/family-roberta-cls-mean-bf16",
                                    "golden/family-xlmr-dense-tanh"};
enum { MODELS = sizeof NAMES / sizeof *NAMES };

static const char *const TEXTS[] = {"How do I top up my card?", "a", "money money money is not there yet"};
enum { TEXT_COUNT = sizeof TEXTS / sizeof *TEXTS, WIDTH_MAX = 1024 };

/* A copy of a reference model to change; false where that is missing. */
static bool copy_model(const char *name, char to[FILES_PATH_MAX])
{
    const char *from = testing_shared(name);
    if (from == NULL)
        return false;
    snprintf(to, FILES_PATH_MAX, "%s/model", testing_folder());
    ck_ok(files_remove_folder(to, &error));
    ck_ok(files_copy_folder(from, to, &error));
    return true;
}

static void checkpoint_of(const char *dir, char path[FILES_PATH_MAX])
{
    ck_ok(files_join(path, &error, "%s/model.safetensors", dir));
}

static void embed(const model *m, float out[TEXT_COUNT * WIDTH_MAX])
{
    token_batch batch = {0};
    encoder_scratch *s;
    const encoder *e = model_get_encoder(m);
    ck_assert_uint_le(encoder_width(e), WIDTH_MAX);
    for (size_t i = 0; i < TEXT_COUNT; i++)
        ck_ok(model_tokenize(m, NULL, TEXTS[i], strlen(TEXTS[i]), &batch, NULL, &error));
    ck_ok(encoder_scratch_create(&s, e, batch.tokens, &error));
    ck_ok(encoder_forward(e, s, batch.ids, batch.lengths, batch.texts, out, &error));
    encoder_scratch_destroy(s);
    token_batch_free(&batch);
}

static void ck_same_embeddings(const model *a, const model *b)
{
    static float x[TEXT_COUNT * WIDTH_MAX], y[TEXT_COUNT * WIDTH_MAX];
    embed(a, x);
    embed(b, y);
    ck_assert_int_eq(memcmp(x, y, TEXT_COUNT * encoder_width(model_get_encoder(a)) * sizeof *x), 0);
}

static float *read_params(const model *m)
{
    const encoder *e = model_get_encoder(m);
    float *params = malloc(encoder_layout(e)->total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    ck_ok(encoder_read_params(e, params, &error));
    return params;
}

START_TEST(a_mapped_model_embeds_as_a_copied_one_in_every_precision)
{
    static const char *const precisions[] = {"float32", "bfloat16", "int8"};
    char dir[FILES_PATH_MAX];
    model *copied, *mapped;
    if (!copy_model(NAMES[_i], dir))
        return;
    for (size_t i = 0; i < 3; i++) {
        ck_ok(model_open(&copied, dir, NULL, NULL, &error));
        ck_ok(model_open_mapped(&mapped, dir, NULL, &error));
        ck_ok(model_set_precision(copied, precisions[i], 0.9, NULL, &error));
        ck_ok(model_set_precision(mapped, precisions[i], 0.9, NULL, &error));
        ck_same_embeddings(copied, mapped);
        model_close(copied);
        model_close(mapped);
    }
}
END_TEST

START_TEST(parameters_are_read_again_after_packing)
{
    char dir[FILES_PATH_MAX];
    model *m;
    if (!copy_model(NAMES[_i], dir))
        return;
    ck_ok(model_open_mapped(&m, dir, NULL, &error));
    float *first = read_params(m);
    ck_ok(model_set_precision(m, "int8", 0.9, NULL, &error));
    float *second = read_params(m);
    size_t bytes = encoder_layout(model_get_encoder(m))->total * sizeof *first;
    ck_assert_int_eq(memcmp(first, second, bytes), 0);

    /* An encoder over that array computes the same, so every value is in its place. */
    model *again;
    encoder *over;
    ck_ok(model_open(&again, dir, NULL, NULL, &error));
    ck_ok(encoder_create(&over, model_get_config(again), first, model_get_gemm(again), &error));
    ck_ok(encoder_read_params(over, second, &error));
    ck_assert_int_eq(memcmp(first, second, bytes), 0);
    encoder_destroy(over);
    free(second);
    model_close(again);
    model_close(m);
}
END_TEST

START_TEST(a_model_whose_folder_is_removed_goes_on)
{
    char dir[FILES_PATH_MAX];
    model *m;
    if (!copy_model(NAMES[_i], dir))
        return;
    static float before[TEXT_COUNT * WIDTH_MAX], after[TEXT_COUNT * WIDTH_MAX];
    ck_ok(model_open_mapped(&m, dir, NULL, &error));
    embed(m, before);
    float *first = read_params(m);
    ck_ok(files_remove_folder(dir, &error));
    embed(m, after);
    float *second = read_params(m);
    ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    ck_assert_int_eq(memcmp(first, second, encoder_layout(model_get_encoder(m))->total * sizeof *first), 0);
    free(first);
    free(second);
    model_close(m);
}
END_TEST

START_TEST(a_file_that_is_cut_short_is_an_error_and_no_signal)
{
    char dir[FILES_PATH_MAX], path[FILES_PATH_MAX];
    static float before[TEXT_COUNT * WIDTH_MAX], after[TEXT_COUNT * WIDTH_MAX];
    model *m;
    if (!copy_model("golden/tiny-bert", dir))
        return;
    checkpoint_of(dir, path);
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    embed(m, before);
    float *params = read_params(m);

    ck_assert_int_eq(truncate(path, 4096), 0);

    embed(m, after);
    ck_assert_int_eq(memcmp(before, after, sizeof before), 0);
    ck_fails(encoder_read_params(model_get_encoder(m), params, &error), SEM_FAILED_PRECONDITION);
    ck_assert_ptr_nonnull(strstr(error.message, "model.safetensors was changed"));
    ck_fails(model_set_precision(m, "int8", 0.9, NULL, &error), SEM_FAILED_PRECONDITION);
    free(params);
    model_close(m);
    ck_fails(model_check(dir, NULL, &error), SEM_INVALID_ARGUMENT);
}
END_TEST

START_TEST(a_file_that_is_written_to_is_noticed)
{
    char dir[FILES_PATH_MAX], path[FILES_PATH_MAX];
    model *m;
    if (!copy_model("golden/tiny-bert", dir))
        return;
    checkpoint_of(dir, path);
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    float *params = read_params(m);
    const struct timespec other[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, other, 0), 0);
    ck_fails(encoder_read_params(model_get_encoder(m), params, &error), SEM_FAILED_PRECONDITION);
    free(params);
    model_close(m);
}
END_TEST

/* The last values of the tensor whose name ends so become no numbers: all bits set. */
static void spoil(const char *path, const char *ending)
{
    safetensors *file;
    ck_ok(safetensors_open(&file, path, &error));
    const tensor_view *found = NULL, *last = safetensors_at(file, safetensors_count(file) - 1);
    for (size_t i = 0; i < safetensors_count(file); i++) {
        const tensor_view *view = safetensors_at(file, i);
        size_t length = strlen(view->name), end = strlen(ending);
        if (length >= end && strcmp(view->name + length - end, ending) == 0)
            found = view;
    }
    ck_assert_ptr_nonnull(found);
    long behind = (const char *)last->data + last->bytes - ((const char *)found->data + found->bytes);
    safetensors_close(file);
    FILE *out = fopen(path, "r+b");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_eq(fseek(out, -4 - behind, SEEK_END), 0);
    ck_assert_uint_eq(fwrite("\xff\xff\xff\xff", 1, 4, out), 4);
    ck_assert_int_eq(fclose(out), 0);
}

START_TEST(checking_finds_what_opening_finds)
{
    char dir[FILES_PATH_MAX], path[FILES_PATH_MAX];
    size_t dim = 0;
    model *m;
    if (!copy_model(NAMES[_i], dir))
        return;
    ck_ok(model_check(dir, &dim, &error));
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_assert_uint_eq(dim, encoder_width(model_get_encoder(m)));
    model_close(m);

    checkpoint_of(dir, path);
    spoil(path, _i % 2 == 0 ? "word_embeddings.weight" : "embeddings.LayerNorm.bias");
    char message[sizeof error.message];
    ck_fails(model_check(dir, NULL, &error), SEM_INVALID_ARGUMENT);
    memcpy(message, error.message, sizeof message);
    ck_assert_ptr_nonnull(strstr(message, "expected finite numbers"));
    ck_fails(model_open(&m, dir, NULL, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, message);
    ck_fails(model_open_mapped(&m, dir, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_str_eq(error.message, message);
}
END_TEST

/* Bytes of [from, from + size) that this process has in memory. */
static size_t resident_bytes(const void *from, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = 0, begin = (size_t)(uintptr_t)from, end = begin + size;
    FILE *map = fopen("/proc/self/pagemap", "rb");
    ck_assert_ptr_nonnull(map);
    for (size_t at = begin / page; at < (end + page - 1) / page; at++) {
        uint64_t entry = 0;
        ck_assert_int_eq(fseek(map, (long)(at * sizeof entry), SEEK_SET), 0);
        ck_assert_uint_eq(fread(&entry, sizeof entry, 1, map), 1);
        bytes += entry >> 63 != 0 ? page : 0;
    }
    fclose(map);
    return bytes;
}

START_TEST(matrices_are_in_memory_only_while_they_are_packed)
{
    model *m;
    model_weights *w;
    const char *dir = testing_minilm();
    if (dir == NULL)
        return;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_ok(weights_open(&w, model_get_config(m), dir, WEIGHTS_MAPPED, &error));
    const param_layout *layout = weights_layout(w);
    const size_t total = layout->total * sizeof(float), MiB = 1 << 20;
    ck_assert_uint_gt(total, 80 * MiB);
    ck_assert_ptr_nonnull(weights_words(w));
    ck_assert_uint_lt(resident_bytes(weights_params(w), total), 2 * MiB);
    ck_assert_uint_lt(resident_bytes(weights_words(w), layout->items[0].rows * layout->items[0].cols * sizeof(float)),
                      MiB);

    const param *up = param_layout_find(layout, "encoder.layer.3.intermediate.dense.weight");
    ck_assert_ptr_nonnull(up);
    ck_ok(weights_load(w, up->offset, up->rows * up->cols, &error));
    ck_assert_uint_ge(resident_bytes(weights_params(w), total), up->rows * up->cols * sizeof(float));
    weights_drop(w, up->offset, up->rows * up->cols);
    ck_assert_uint_lt(resident_bytes(weights_params(w), total), 2 * MiB);

    const int32_t ids[] = {101, 30000, 102, 101};
    ck_ok(weights_load_rows(w, ids, 4, &error));
    for (size_t i = 0; i < 4; i++) {
        const size_t H = layout->items[0].cols, at = (size_t)ids[i] * H;
        ck_assert_int_eq(memcmp(weights_params(w) + at, weights_words(w) + at, H * sizeof(float)), 0);
    }
    weights_drop_rows(w);
    ck_assert_uint_lt(resident_bytes(weights_params(w), total), 2 * MiB);
    weights_close(w);
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/weights");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 120);
    tcase_add_loop_test(all, a_mapped_model_embeds_as_a_copied_one_in_every_precision, 0, MODELS);
    tcase_add_loop_test(all, parameters_are_read_again_after_packing, 0, MODELS);
    tcase_add_loop_test(all, a_model_whose_folder_is_removed_goes_on, 0, MODELS);
    tcase_add_loop_test(all, checking_finds_what_opening_finds, 0, MODELS);
    tcase_add_test(all, a_file_that_is_cut_short_is_an_error_and_no_signal);
    tcase_add_test(all, a_file_that_is_written_to_is_noticed);
    tcase_add_test(all, matrices_are_in_memory_only_while_they_are_packed);
    suite_add_tcase(suite, all);
    return testing_run(suite);
}
