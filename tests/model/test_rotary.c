#include "tests/common/testing.h"

#include "base/files.h"
#include "model/json.h"
#include "model/model.h"
#include "model/rotary.h"
#include "model/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The families with rotary positions, as tests/python/rotary_reference.py has
 * computed them with transformers: models small and random, whose weights are
 * made again here from the names of their tensors. */

static const char REFERENCE[] = "tests/model/data/rotary.json";
enum { REFERENCE_MAX = 1 << 20, CASES = 7 };

/* What float32 in another order of summation may change. */
static const double TOLERANCE = 2e-5;

static sem_error error;

/* --- weights and ids of the reference */

static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static uint64_t seed_of(const char *name)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (; *name != '\0'; name++)
        h = (h ^ (unsigned char)*name) * UINT64_C(0x100000001B3);
    return h;
}

static void fill(const char *name, const tensor_source *t, float *out)
{
    const size_t length = strlen(name);
    const bool bias = length > 5 && strcmp(name + length - 5, ".bias") == 0;
    const bool norm = strstr(name, "norm") != NULL || strstr(name, "_ln") != NULL;
    const double centre = norm && !bias ? 1 : 0;
    const bool small = t->dims == 1 || strstr(name, "embeddings") != NULL;
    const double scale = small ? 0.5 : 3.0 / sqrt((double)t->shape[1]);
    const size_t count = t->shape[0] * (t->dims == 2 ? t->shape[1] : 1);
    for (size_t i = 0; i < count; i++) {
        double whole = (double)(int64_t)(mixed(seed_of(name) + i) >> 48) - 32768;
        out[i] = (float)(centre + whole / 32768 * scale);
    }
}

static void append_text(token_batch *batch, size_t length, size_t vocab)
{
    int32_t *ids = malloc(length * sizeof *ids);
    ck_assert_ptr_nonnull(ids);
    for (size_t i = 0; i < length; i++)
        ids[i] = (int32_t)(mixed(length * 1000003 + i) % vocab);
    ck_assert(token_batch_append(batch, ids, length));
    free(ids);
}

/* --- a directory of one of the reference's models */

static json_t *reference;

static const json_t *read_case(size_t number)
{
    ck_ok(json_load_path(&reference, REFERENCE, REFERENCE_MAX, &error));
    const json_t *cases = json_object_get(reference, "cases");
    ck_assert_uint_eq(json_array_size(cases), CASES);
    return json_array_get(cases, number);
}

static const char *case_name(const json_t *c)
{
    return json_string_value(json_object_get(c, "name"));
}

static const char *folder(void)
{
    static char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/model", testing_folder());
    return path;
}

static void put(const char *name, const char *text)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/%s", folder(), name));
    ck_ok(files_write(path, text, strlen(text), &error));
}

static void put_json(const char *name, const json_t *value)
{
    char *text = json_dumps(value, 0);
    ck_assert_ptr_nonnull(text);
    put(name, text);
    free(text);
}

/* more: a tensor that the model has no use for, or NULL. */
static void put_weights(const json_t *c, const char *more)
{
    char path[FILES_PATH_MAX];
    const char *name, *prefix = json_string_value(json_object_get(c, "prefix"));
    const json_t *shape, *tensors = json_object_get(c, "tensors");
    const size_t count = json_object_size(tensors) + (more != NULL);
    tensor_source *sources = calloc(count, sizeof *sources);
    char(*names)[160] = calloc(count, sizeof *names);
    size_t i = 0;
    ck_assert(sources != NULL && names != NULL);
    json_object_foreach((json_t *)tensors, name, shape)
    {
        tensor_source *t = &sources[i];
        snprintf(names[i], sizeof names[i], "%s%s", prefix, name);
        t->name = names[i++];
        t->dims = json_array_size(shape);
        for (size_t d = 0; d < t->dims; d++)
            t->shape[d] = (size_t)json_integer_value(json_array_get(shape, d));
        float *data = malloc(t->shape[0] * (t->dims == 2 ? t->shape[1] : 1) * sizeof *data);
        ck_assert_ptr_nonnull(data);
        fill(name, t, data);
        t->data = data;
    }
    static const float nothing;
    if (more != NULL)
        sources[i++] = (tensor_source){.name = more, .shape = {1}, .dims = 1, .data = &nothing};
    ck_ok(files_join(path, &error, "%s/model.safetensors", folder()));
    ck_ok(safetensors_write(path, sources, count, &error));
    for (i = 0; i < json_object_size(tensors); i++)
        free((void *)sources[i].data);
    free(sources);
    free(names);
}

static void put_tokenizer(size_t vocab)
{
    json_t *words = json_object();
    for (size_t i = 0; i < vocab; i++) {
        char word[16];
        snprintf(word, sizeof word, i == 0 ? "[UNK]" : "w%zu", i);
        json_object_set_new(words, word, json_integer((json_int_t)i));
    }
    json_t *file = json_pack("{s:s, s:{s:s}, s:{s:s}, s:[], s:{s:s, s:s, s:s, s:i, s:o}}", "version", "1.0",
                             "normalizer", "type", "BertNormalizer", "pre_tokenizer", "type", "BertPreTokenizer",
                             "added_tokens", "model", "type", "WordPiece", "unk_token", "[UNK]",
                             "continuing_subword_prefix", "##", "max_input_chars_per_word", 100, "vocab", words);
    ck_assert_ptr_nonnull(file);
    put_json("tokenizer.json", file);
    json_decref(file);
}

static void make_model(const json_t *c)
{
    char pooling[FILES_PATH_MAX];
    const char *mode = json_string_value(json_object_get(c, "pooling"));
    ck_ok(files_remove_folder(folder(), &error));
    ck_ok(files_join(pooling, &error, "%s/1_Pooling", folder()));
    ck_ok(files_make_folder(pooling, &error));
    put_json("config.json", json_object_get(c, "config"));
    put("modules.json", "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.models."
                        "Transformer\"},{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":"
                        "\"sentence_transformers.models.Pooling\"}]");
    put("1_Pooling/config.json",
        strcmp(mode, "cls") == 0 ? "{\"pooling_mode\":\"cls\"}" : "{\"pooling_mode\":\"mean\"}");
    put_tokenizer((size_t)json_integer_value(json_object_get(reference, "vocab")));
    put_weights(c, NULL);
}

/* --- what it gives */

static token_batch reference_texts(void)
{
    token_batch batch = {0};
    const json_t *lengths = json_object_get(reference, "lengths");
    const size_t vocab = (size_t)json_integer_value(json_object_get(reference, "vocab"));
    for (size_t i = 0; i < json_array_size(lengths); i++)
        append_text(&batch, (size_t)json_integer_value(json_array_get(lengths, i)), vocab);
    return batch;
}

/* out[texts, E], in batches of `step` texts. */
static void embed(const model *m, const token_batch *batch, size_t step, float *out)
{
    const encoder *e = model_get_encoder(m);
    encoder_scratch *s;
    size_t token = 0;
    ck_ok(encoder_scratch_create(&s, e, 1, &error));
    for (size_t b = 0; b < batch->texts; b += step) {
        size_t texts = batch->texts - b < step ? batch->texts - b : step;
        ck_ok(encoder_forward(e, s, batch->ids + token, batch->lengths + b, texts, out + b * encoder_width(e), &error));
        for (size_t i = 0; i < texts; i++)
            token += batch->lengths[b + i];
    }
    encoder_scratch_destroy(s);
}

static void check_embeddings(const json_t *c, const model *m, size_t step)
{
    token_batch batch = reference_texts();
    const size_t E = model_get_config(m)->dim;
    const json_t *right = json_object_get(c, "embeddings");
    ck_assert_uint_eq(json_array_size(right), batch.texts);
    float *out = calloc(batch.texts * E, sizeof *out);
    ck_assert_ptr_nonnull(out);
    embed(m, &batch, step, out);
    for (size_t i = 0; i < batch.texts; i++) {
        const json_t *row = json_array_get(right, i);
        ck_assert_uint_eq(json_array_size(row), E);
        double worst = 0;
        for (size_t j = 0; j < E; j++)
            worst = fmax(worst, fabs(json_number_value(json_array_get(row, j)) - (double)out[i * E + j]));
        ck_assert_msg(worst <= TOLERANCE, "%s, %s, batches of %zu: a text of %u tokens differs by %g", case_name(c),
                      encoder_simd(model_get_encoder(m)), step, batch.lengths[i], worst);
    }
    free(out);
    token_batch_free(&batch);
}

static void check_model(const json_t *c, const char *dir)
{
    static const size_t steps[] = {1, 7, 1000};
    model *m;
    ck_ok(model_open(&m, dir, NULL, NULL, &error));
    for (size_t i = 0; i < 3; i++)
        check_embeddings(c, m, steps[i]);
    model_close(m);
}

START_TEST(embeddings_equal_the_reference_at_every_level)
{
    const json_t *c = read_case((size_t)_i);
    const kernels *levels[KERNELS_MAX + 1];
    make_model(c);
    kernels_available(levels);
    for (size_t i = 0; levels[i] != NULL; i++) {
        ck_assert_int_eq(setenv("SEMD_SIMD", levels[i]->name, 1), 0);
        check_model(c, folder());
    }
    json_decref(reference);
}
END_TEST

START_TEST(a_saved_model_embeds_as_its_parent)
{
    model *m;
    char copy[FILES_PATH_MAX];
    const json_t *c = read_case((size_t)_i);
    make_model(c);
    ck_ok(files_join(copy, &error, "%s/copy", testing_folder()));
    ck_ok(model_open(&m, folder(), NULL, NULL, &error));
    const encoder *e = model_get_encoder(m);
    float *params = malloc(encoder_layout(e)->total * sizeof *params);
    ck_assert_ptr_nonnull(params);
    ck_ok(encoder_read_params(e, params, &error));
    ck_ok(model_save(folder(), copy, encoder_layout(e), params, NULL, &error));
    free(params);
    model_close(m);
    check_model(c, copy);
    json_decref(reference);
}
END_TEST

/* Rounding changes these random models more than trained ones. Nearly all tokens of the
 * built-in texts are unknown to their vocabularies of 60: int8 must not be fitted to
 * these alone. */
START_TEST(other_precisions_agree_with_float32)
{
    static const struct {
        packed_precision precision;
        double cosine;
    } least[] = {{PACKED_BFLOAT16, 0.999}, {PACKED_INT8, 0.985}};
    const json_t *c = read_case((size_t)_i);
    sem_log *const no_log = NULL;
    model *m;
    make_model(c);
    ck_ok(model_open(&m, folder(), NULL, NULL, &error));
    token_batch batch = reference_texts();
    const size_t E = model_get_config(m)->dim;
    float *right = calloc(2 * batch.texts * E, sizeof *right), *found = right + batch.texts * E;
    ck_assert_ptr_nonnull(right);
    embed(m, &batch, 1000, right);
    ck_ok(model_set_precision(m, "auto", 2, no_log, &error)); /* which nothing reaches but float32 */
    ck_assert_str_eq(model_precision(m), "float32");
    for (size_t i = 0; i < 2; i++) {
        ck_ok(model_set_precision(m, packed_precision_name(least[i].precision), 0, no_log, &error));
        ck_assert_str_eq(model_precision(m), packed_precision_name(least[i].precision));
        embed(m, &batch, 1000, found);
        for (size_t t = 0; t < batch.texts; t++) {
            double cosine = 0;
            for (size_t j = 0; j < E; j++)
                cosine += (double)right[t * E + j] * (double)found[t * E + j];
            ck_assert_msg(cosine >= least[i].cosine, "%s, %s: a text of %u tokens agrees by %g", case_name(c),
                          model_precision(m), batch.lengths[t], cosine);
        }
    }
    free(right);
    token_batch_free(&batch);
    model_close(m);
    json_decref(reference);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model/rotary");
    TCase *c = tcase_create("golden");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, embeddings_equal_the_reference_at_every_level, 0, CASES);
    tcase_add_loop_test(c, a_saved_model_embeds_as_its_parent, 0, CASES);
    tcase_add_loop_test(c, other_precisions_agree_with_float32, 0, CASES);
    suite_add_tcase(suite, c);
    return testing_run(suite);
}
