#include "tests/common/testing.h"
#include "tests/model/golden.h"

#include "base/files.h"
#include "model/json.h"
#include "model/model.h"
#include "model/safetensors.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* What float32 in another order of summation may change (golden/README.md). */
static const float TOLERANCE = 2e-5f;

static sem_error error;

/* The reference's texts, tokens and unit-length embeddings of one model. */
typedef struct reference {
    char dir[FILES_PATH_MAX];
    golden_lines lines;
} reference;

static bool reference_read(reference *r, const char *name)
{
    char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "golden/%s", name);
    const char *found = testing_shared(path);
    if (found == NULL)
        return false;
    snprintf(r->dir, sizeof r->dir, "%s", found);
    ck_ok(files_join(path, &error, "%s/expected.jsonl", r->dir));
    r->lines = golden_read(path);
    ck_assert_uint_gt(r->lines.count, 0);
    return true;
}

static void check_ids(const reference *r, size_t i, const int32_t *ids, size_t length)
{
    const json_t *right = json_object_get(r->lines.items[i], "ids");
    ck_assert_msg(json_array_size(right) == length, "%s, text %zu: %zu tokens instead of %zu", r->dir, i, length,
                  json_array_size(right));
    for (size_t j = 0; j < length; j++)
        ck_assert_msg(json_integer_value(json_array_get(right, j)) == ids[j], "%s, text %zu, token %zu", r->dir, i, j);
}

static void tokenize(const reference *r, const model *m, token_batch *batch)
{
    for (size_t i = 0; i < r->lines.count; i++) {
        size_t length, tokens = batch->tokens;
        const char *text = golden_text(r->lines.items[i], "text", &length);
        const json_t *name = json_object_get(r->lines.items[i], "prompt");
        const char *prompt = NULL;
        if (json_is_string(name)) {
            prompt = model_config_prompt(model_get_config(m), json_string_value(name));
            ck_assert_ptr_nonnull(prompt);
        }
        ck_ok(model_tokenize(m, prompt, text, length, batch, NULL, &error));
        check_ids(r, i, batch->ids + tokens, batch->tokens - tokens);
    }
}

/* The largest difference of one text's embedding from the reference's, brought to unit length. */
static double difference(const json_t *line, const float *found, size_t width)
{
    const json_t *values = json_object_get(line, "embedding");
    ck_assert_uint_eq(json_array_size(values), width);
    double sum = 0, worst = 0;
    for (size_t j = 0; j < width; j++) {
        double value = json_number_value(json_array_get(values, j));
        sum += value * value;
    }
    for (size_t j = 0; j < width; j++)
        worst = fmax(worst, fabs(json_number_value(json_array_get(values, j)) / sqrt(sum) - (double)found[j]));
    return worst;
}

/* Every line in batches of `step` texts. */
static void check_batches(const reference *r, const model *m, const token_batch *batch, size_t step)
{
    const encoder *e = model_get_encoder(m);
    const size_t E = model_get_config(m)->dim;
    encoder_scratch *s;
    float *out = malloc(batch->texts * E * sizeof *out);
    ck_assert_ptr_nonnull(out);
    ck_ok(encoder_scratch_create(&s, e, 1, &error));
    size_t token = 0;
    for (size_t b = 0; b < batch->texts; b += step) {
        size_t texts = batch->texts - b < step ? batch->texts - b : step;
        ck_ok(encoder_forward(e, s, batch->ids + token, batch->lengths + b, texts, out + b * E, &error));
        for (size_t i = 0; i < texts; i++)
            token += batch->lengths[b + i];
    }
    for (size_t i = 0; i < batch->texts; i++) {
        double worst = difference(r->lines.items[i], out + i * E, E);
        ck_assert_msg(worst <= (double)TOLERANCE, "%s, %s, batches of %zu: text %zu differs by %g", r->dir,
                      encoder_simd(e), step, i, worst);
    }
    encoder_scratch_destroy(s);
    free(out);
}

/* dir is what is opened, r what it must give. */
static void check_model(const reference *r, const char *dir)
{
    static const size_t steps[] = {1, 7, 1000};
    model *m;
    token_batch batch = {0};
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    tokenize(r, m, &batch);
    for (size_t i = 0; i < 3; i++)
        check_batches(r, m, &batch, steps[i]);
    token_batch_free(&batch);
    model_close(m);
}

START_TEST(ids_and_embeddings_equal_the_reference_at_every_level)
{
    reference r;
    const kernels *levels[KERNELS_MAX + 1];
    if (!reference_read(&r, GOLDEN_MODELS[_i]))
        return;
    kernels_available(levels);
    for (size_t i = 0; levels[i] != NULL; i++) {
        ck_assert_int_eq(setenv("SEMD_SIMD", levels[i]->name, 1), 0);
        check_model(&r, r.dir);
    }
    golden_free(&r.lines);
}
END_TEST

/* --- a saved model is the same model */

static void copy_path(char out[FILES_PATH_MAX], const char *name)
{
    snprintf(out, FILES_PATH_MAX, "%s/%s", testing_folder(), name);
    ck_ok(files_remove_folder(out, &error));
}

static void save_copy(const reference *r, const char *to)
{
    model *m;
    ck_ok(model_open(&m, r->dir, NULL, NULL, &error));
    const encoder *e = model_get_encoder(m);
    float *params = malloc(encoder_layout(e)->total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    ck_ok(encoder_read_params(e, params, &error));
    ck_ok(model_save(r->dir, to, encoder_layout(e), params, NULL, &error));
    free(params);
    model_close(m);
}

START_TEST(a_saved_model_embeds_as_its_parent)
{
    reference r;
    char copy[FILES_PATH_MAX];
    if (!reference_read(&r, GOLDEN_MODELS[_i]))
        return;
    copy_path(copy, "copy");
    save_copy(&r, copy);
    check_model(&r, copy);
    golden_free(&r.lines);
}
END_TEST

/* --- the old form of a directory */

static void put(const char *dir, const char *name, const char *text)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/%s", dir, name));
    if (text == NULL)
        ck_assert_int_eq(unlink(path), 0);
    else
        ck_ok(files_write(path, text, strlen(text), &error));
}

#define OLD(idx, path, type)                                                                                           \
    "{\"idx\":" idx ",\"name\":\"" idx "\",\"path\":\"" path "\",\"type\":\"sentence_transformers.models." type "\"}"

static const struct {
    const char *model, *modules, *pooling, *lengths;
} OLD_FORMS[] = {
    {"family-roberta-cls-mean-bf16",
     "[" OLD("0", "", "Transformer") "," OLD("1", "1_Pooling", "Pooling") "," OLD("2", "2_Normalize", "Normalize") "]",
     "{\"word_embedding_dimension\":64,\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true,"
     "\"pooling_mode_max_tokens\":false,\"pooling_mode_mean_sqrt_len_tokens\":false}",
     "{\"max_seq_length\":40,\"do_lower_case\":false}"},
    {"family-mpnet-weighted",
     "[" OLD("0", "", "Transformer") "," OLD("1", "1_Pooling", "Pooling") "," OLD("2", "2_Normalize", "Normalize") "]",
     "{\"word_embedding_dimension\":64,\"pooling_mode_mean_tokens\":false,\"pooling_mode_weightedmean_tokens\":true}",
     "{\"max_seq_length\":64,\"do_lower_case\":false}"},
    {"family-xlmr-dense-tanh",
     "[" OLD("0", "", "Transformer") "," OLD("1", "1_Pooling", "Pooling") "," OLD("2", "2_Dense", "Dense") "]",
     "{\"word_embedding_dimension\":64}", "{\"max_seq_length\":32,\"do_lower_case\":false}"},
};

START_TEST(the_old_form_of_a_directory_gives_the_same)
{
    reference r;
    char copy[FILES_PATH_MAX];
    if (!reference_read(&r, OLD_FORMS[_i].model))
        return;
    copy_path(copy, "old");
    save_copy(&r, copy);
    put(copy, "modules.json", OLD_FORMS[_i].modules);
    put(copy, "1_Pooling/config.json", OLD_FORMS[_i].pooling);
    put(copy, "sentence_bert_config.json", OLD_FORMS[_i].lengths);
    put(copy, "tokenizer_config.json", "{\"model_max_length\":1000000000000000019884624838656}");
    if (strstr(OLD_FORMS[_i].modules, "Dense") != NULL) /* no activation means Tanh */
        put(copy, "2_Dense/config.json", "{\"in_features\":64,\"out_features\":32,\"bias\":true}");
    check_model(&r, copy);
    golden_free(&r.lines);
}
END_TEST

/* --- weights in several files */

/* Writes every second tensor of the model to each of two files; names get the prefix. */
static void write_shard(const safetensors *from, size_t half, const char *prefix, const char *path, json_t *map)
{
    const size_t count = safetensors_count(from);
    tensor_source *tensors = calloc(count, sizeof *tensors);
    char(*names)[160] = calloc(count, sizeof *names);
    size_t used = 0;
    ck_assert(tensors != NULL && names != NULL);
    for (size_t i = half; i < count; i += 2, used++) {
        const tensor_view *v = safetensors_at(from, i);
        snprintf(names[used], sizeof names[used], "%s%s", prefix, v->name);
        tensors[used] = (tensor_source){.name = names[used], .dims = v->dims, .data = v->data};
        memcpy(tensors[used].shape, v->shape, sizeof v->shape);
        json_object_set_new(map, names[used], json_string(strrchr(path, '/') + 1));
    }
    ck_ok(safetensors_write(path, tensors, used, &error));
    free(tensors);
    free(names);
}

/* A copy of a model whose weights lie in two files; returns the index. */
static json_t *write_shards(const reference *r, const char *prefix, char copy[FILES_PATH_MAX])
{
    char path[FILES_PATH_MAX];
    safetensors *from;
    copy_path(copy, "sharded");
    save_copy(r, copy);
    ck_ok(files_join(path, &error, "%s/model.safetensors", copy));
    ck_ok(safetensors_open(&from, path, &error));
    json_t *map = json_object();
    for (size_t half = 0; half < 2; half++) {
        ck_ok(files_join(path, &error, "%s/model-%05zu-of-00002.safetensors", copy, half + 1));
        write_shard(from, half, prefix, path, map);
    }
    safetensors_close(from);
    put(copy, "model.safetensors", NULL);
    return json_pack("{s:{s:i}, s:o}", "metadata", "total_size", 1, "weight_map", map);
}

static void put_index(const char *copy, const json_t *index)
{
    char *text = json_dumps(index, 0);
    put(copy, "model.safetensors.index.json", text);
    free(text);
}

START_TEST(weights_in_several_files_are_one_model)
{
    static const char *const models[] = {"tiny-distilbert", "tiny-mpnet"};
    static const char *const prefixes[] = {"distilbert.", "mpnet."};
    reference r;
    char copy[FILES_PATH_MAX];
    if (!reference_read(&r, models[_i]))
        return;
    json_t *index = write_shards(&r, prefixes[_i], copy);
    put_index(copy, index);
    check_model(&r, copy);
    json_decref(index);
    golden_free(&r.lines);
}
END_TEST

static void refuse(const char *copy, const json_t *index, const char *word)
{
    model *m;
    put_index(copy, index);
    ck_fails(model_open(&m, copy, NULL, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, "model.safetensors.index.json") != NULL, "%s", error.message);
    ck_assert_msg(strstr(error.message, word) != NULL, "no \"%s\": %s", word, error.message);
}

START_TEST(an_index_that_does_not_fit_its_files_is_refused)
{
    reference r;
    model *m;
    char copy[FILES_PATH_MAX];
    static const char NAME[] = "embeddings.LayerNorm.bias";
    if (!reference_read(&r, "tiny-distilbert"))
        return;
    json_t *index = write_shards(&r, "", copy), *map = json_object_get(index, "weight_map");
    json_t *place = json_incref(json_object_get(map, NAME));

    json_object_set_new(map, NAME, json_string("../model-00001-of-00002.safetensors"));
    refuse(copy, index, "not the name of a file");
    json_object_set_new(map, NAME, json_integer(1));
    refuse(copy, index, "an integer");
    json_object_set_new(map, "embeddings.other.weight", json_incref(place));
    json_object_set(map, NAME, place);
    refuse(copy, index, "embeddings.other.weight is not in");
    json_object_del(map, "embeddings.other.weight");
    json_object_del(map, NAME);
    refuse(copy, index, "names");
    json_object_set_new(map, NAME, json_string("model-00003-of-00003.safetensors"));
    put_index(copy, index);
    ck_fails(model_open(&m, copy, NULL, NULL, &error), SEM_NOT_FOUND);
    json_object_del(index, "weight_map");
    refuse(copy, index, "weight_map");
    json_decref(place);
    json_decref(index);
    golden_free(&r.lines);
}
END_TEST

/* --- Dense modules that are not understood */

START_TEST(a_dense_of_another_shape_is_refused)
{
    reference r;
    model *m;
    char copy[FILES_PATH_MAX];
    if (!reference_read(&r, "family-xlmr-dense-tanh"))
        return;
    copy_path(copy, "dense");
    save_copy(&r, copy);
    put(copy, "2_Dense/config.json", "{\"in_features\":64,\"out_features\":31,\"bias\":true}");
    ck_fails(model_open(&m, copy, NULL, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "[32, 64]"));
    put(copy, "2_Dense/config.json", "{\"in_features\":64,\"out_features\":32,\"bias\":false}");
    ck_fails(model_open(&m, copy, NULL, NULL, &error), SEM_INVALID_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(error.message, "linear.bias is not known"));
    put(copy, "2_Dense/model.safetensors", NULL);
    ck_fails(model_open(&m, copy, NULL, NULL, &error), SEM_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(error.message, "2_Dense/model.safetensors"));
    golden_free(&r.lines);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/families");
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, ids_and_embeddings_equal_the_reference_at_every_level, 0, GOLDEN_MODEL_COUNT);
    tcase_add_loop_test(c, a_saved_model_embeds_as_its_parent, 0, GOLDEN_MODEL_COUNT);
    tcase_add_loop_test(c, the_old_form_of_a_directory_gives_the_same, 0, sizeof OLD_FORMS / sizeof OLD_FORMS[0]);
    tcase_add_loop_test(c, weights_in_several_files_are_one_model, 0, 2);
    tcase_add_test(c, an_index_that_does_not_fit_its_files_is_refused);
    tcase_add_test(c, a_dense_of_another_shape_is_refused);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
