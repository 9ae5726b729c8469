/* What was measured of a model's precisions is kept beside it, and is believed for
 * the same model, texts and kernels only. */
#include "tests/common/testing.h"

#include "base/files.h"
#include "model/model.h"
#include "model/precision_store.h"

#include <jansson.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static sem_error error;
static char dir[FILES_PATH_MAX], store[FILES_PATH_MAX];

/* A copy of a reference model that is ours to write; false where that is missing. */
static bool copy_model(void)
{
    const char *from = testing_shared("golden/tiny-bert");
    if (from == NULL)
        return false;
    snprintf(dir, sizeof dir, "%s/model", testing_folder());
    ck_ok(files_copy_folder(from, dir, &error));
    ck_ok(files_join(store, &error, "%s/%s", dir, PRECISION_STORE_FILE));
    return true;
}

static bool there(void)
{
    return access(store, F_OK) == 0;
}

/* What one opening took, why, and its log. */
typedef struct opened {
    char precision[16];
    double cosine;
    float vector[1024];
    char log[4096];
} opened;

static void embed(const model *m, float *out)
{
    token_batch batch = {0};
    encoder_scratch *s;
    ck_ok(model_tokenize(m, NULL, "How do I top up my card?", 24, &batch, NULL, &error));
    ck_ok(encoder_scratch_create(&s, model_get_encoder(m), batch.tokens, &error));
    ck_ok(encoder_forward(model_get_encoder(m), s, batch.ids, batch.lengths, 1, out, &error));
    encoder_scratch_destroy(s);
    token_batch_free(&batch);
}

static opened open_with(const char *precision, double min_cosine)
{
    opened o = {.cosine = 0};
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    sem_log log;
    model *m;
    log_init(&log, fileno(file), LOG_LEVEL_INFO);
    ck_ok(model_open_mapped(&m, dir, NULL, &error));
    ck_ok(model_set_precision_kept(m, precision, min_cosine, NULL, &log, &error));
    snprintf(o.precision, sizeof o.precision, "%s", model_precision(m));
    ck_assert_ptr_nonnull(model_precision_reason(m, &o.cosine));
    ck_assert_uint_le(encoder_width(model_get_encoder(m)), 1024);
    embed(m, o.vector);
    model_close(m);
    rewind(file);
    o.log[fread(o.log, 1, sizeof o.log - 1, file)] = '\0';
    fclose(file);
    return o;
}

#define ck_from(o, where) ck_assert_msg(strstr((o).log, "from=" where) != NULL, "%s", (o).log)
#define ck_ignored(o, why)                                                                                             \
    ck_assert_msg(strstr((o).log, "event=precision_ignored") && strstr((o).log, why), "%s", (o).log)

static const char *const PRECISIONS[] = {"int8", "bfloat16", "auto"};

START_TEST(what_was_measured_is_kept_and_believed)
{
    if (!copy_model())
        return;
    opened first = open_with(PRECISIONS[_i], 0.9);
    ck_from(first, "measured");
    ck_assert(there());
    opened second = open_with(PRECISIONS[_i], 0.9);
    ck_from(second, "stored");
    ck_assert(strstr(second.log, "from=measured") == NULL);
    ck_assert_str_eq(first.precision, second.precision);
    ck_assert_double_eq_tol(first.cosine, second.cosine, 1e-12);
    ck_assert_int_eq(memcmp(first.vector, second.vector, sizeof first.vector), 0);
}
END_TEST

/* What is stored is how each came out, so another bound may give another choice. */
START_TEST(what_is_stored_is_judged_by_the_bound_of_today)
{
    if (!copy_model())
        return;
    opened lax = open_with("auto", 0.1);
    ck_from(lax, "measured");
    ck_assert_str_ne(lax.precision, "float32");
    opened higher = open_with("auto", 0.9); /* which it reached anyway */
    ck_from(higher, "stored");
    ck_assert_str_eq(higher.precision, lax.precision);
    opened strict = open_with("auto", 1);
    ck_from(strict, "measured");
    ck_assert_str_eq(strict.precision, "float32");
    ck_from(open_with("auto", 1), "stored");
    opened again = open_with("auto", 1);
    ck_assert_str_eq(again.precision, "float32");
    ck_assert_int_eq(memcmp(again.vector, strict.vector, sizeof again.vector), 0);
}
END_TEST

START_TEST(what_does_not_suffice_is_measured_anew)
{
    if (!copy_model())
        return;
    opened named = open_with("bfloat16", 0.9);
    ck_from(named, "measured");
    opened other = open_with("int8", 0.9);
    ck_from(other, "measured");
    ck_from(open_with("int8", 0.9), "stored");
}
END_TEST

static void change_root(const char *key, json_t *value)
{
    json_error_t e;
    json_t *root = json_load_file(store, 0, &e);
    ck_assert_ptr_nonnull(root);
    ck_assert_ptr_nonnull(json_object_get(root, key));
    ck_assert_int_eq(json_object_set_new(root, key, value), 0);
    ck_assert_int_eq(json_dump_file(root, store, 0), 0);
    json_decref(root);
}

static void cut_file(void)
{
    ck_assert_int_eq(truncate(store, 20), 0);
}

static void change_format(void)
{
    change_root("format", json_integer(99));
}

static void change_kernels(void)
{
    change_root("kernels", json_string("abacus"));
}

static void change_texts(void)
{
    change_root("texts", json_string("0"));
}

static void change_tried(void)
{
    change_root("tried", json_pack("[{s:s, s:i, s:i, s:s}]", "precision", "int8", "bound", 0, "cosine", 1, "matrices",
                                   "iiiix")); /* no letter of a precision */
}

static void touch_weights(void)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/model.safetensors", dir));
    const struct timespec times[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Other weights of the same size and time, as a model that was trained on has them. */
static void train_weights_on(void)
{
    char path[FILES_PATH_MAX];
    float values[256];
    struct stat st;
    ck_ok(files_join(path, &error, "%s/model.safetensors", dir));
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(fstat(fd, &st), 0);
    for (off_t at = st.st_size - (off_t)sizeof values; at > st.st_size / 2; at -= (off_t)sizeof values) {
        ck_assert_int_eq(pread(fd, values, sizeof values, at), sizeof values);
        for (size_t i = 0; i < 256; i++)
            values[i] *= 1.001f;
        ck_assert_int_eq(pwrite(fd, values, sizeof values, at), sizeof values);
    }
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
}

static const struct {
    void (*change)(void);
    const char *why;
} CHANGES[] = {
    {cut_file, "semd_precision.json"},      {change_format, "another format"}, {change_kernels, "other kernels"},
    {change_texts, "other texts"},          {change_tried, "damaged"},         {touch_weights, "files are others"},
    {train_weights_on, "files are others"},
};
enum { CHANGE_COUNT = sizeof CHANGES / sizeof *CHANGES };

START_TEST(what_is_not_of_this_model_is_ignored_and_replaced)
{
    if (!copy_model())
        return;
    ck_from(open_with("int8", 0.9), "measured");
    CHANGES[_i].change();
    opened o = open_with("int8", 0.9);
    ck_ignored(o, CHANGES[_i].why);
    ck_from(o, "measured");
    ck_from(open_with("int8", 0.9), "stored");
}
END_TEST

START_TEST(other_folders_are_never_written_to)
{
    if (!copy_model())
        return;
    model *m;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    ck_ok(model_set_precision(m, "auto", 0.9, NULL, &error));
    ck_assert(!there());
    model_close(m);
}
END_TEST

START_TEST(a_measuring_that_is_cancelled_keeps_nothing)
{
    atomic_bool cancel = true;
    model *m;
    if (!copy_model())
        return;
    ck_ok(model_open_mapped(&m, dir, NULL, &error));
    ck_fails(model_set_precision_kept(m, PRECISIONS[_i], 0.9, &cancel, NULL, &error), SEM_CANCELLED);
    model_close(m);
    ck_assert(!there());
    ck_from(open_with(PRECISIONS[_i], 0.9), "measured");
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_costs_only_time)
{
    if (!copy_model())
        return;
    ck_assert_int_eq(mkdir(store, 0700), 0); /* no file can take its place */
    opened o = open_with("int8", 0.9);
    ck_from(o, "measured");
    ck_assert_ptr_nonnull(strstr(o.log, "event=precision_not_kept"));
}
END_TEST

START_TEST(a_saved_model_takes_no_measurement_along)
{
    char to[FILES_PATH_MAX], path[FILES_PATH_MAX];
    if (!copy_model())
        return;
    ck_from(open_with("int8", 0.9), "measured");
    model *m;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    const param_layout *layout = encoder_layout(model_get_encoder(m));
    float *params = malloc(layout->total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    ck_ok(encoder_read_params(model_get_encoder(m), params, &error));
    ck_ok(files_join(to, &error, "%s/saved", testing_folder()));
    ck_ok(model_save(dir, to, layout, params, NULL, &error));
    ck_ok(files_join(path, &error, "%s/%s", to, PRECISION_STORE_FILE));
    ck_assert_int_ne(access(path, F_OK), 0);
    free(params);
    model_close(m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("precision_store");
    TCase *tests = tcase_create("keeping");
    tcase_set_timeout(tests, 240);
    tcase_add_loop_test(tests, what_was_measured_is_kept_and_believed, 0, 3);
    tcase_add_loop_test(tests, a_measuring_that_is_cancelled_keeps_nothing, 0, 3);
    tcase_add_test(tests, what_is_stored_is_judged_by_the_bound_of_today);
    tcase_add_test(tests, what_does_not_suffice_is_measured_anew);
    tcase_add_loop_test(tests, what_is_not_of_this_model_is_ignored_and_replaced, 0, CHANGE_COUNT);
    tcase_add_test(tests, other_folders_are_never_written_to);
    tcase_add_test(tests, a_folder_that_cannot_be_written_costs_only_time);
    tcase_add_test(tests, a_saved_model_takes_no_measurement_along);
    suite_add_tcase(suite, tests);
    return testing_run(suite);
}
