#include "tests/common/testing.h"

#include "base/files.h"
#include "model/json.h"
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static sem_error error;

/* The layout of nothing real: a matrix, a table of one row, a vector. */
static param ITEMS[] = {
    {.name = "embeddings.word_embeddings.weight", .rows = 3, .cols = 2, .offset = 0},
    {.name = "embeddings.token_type_embeddings.weight", .rows = 1, .cols = 2, .offset = 6},
    {.name = "embeddings.LayerNorm.weight", .rows = 1, .cols = 2, .offset = 8, .vector = true},
    {.name = "encoder.layer.0.output.dense.bias", .rows = 1, .cols = 2, .offset = 10, .vector = true},
};
static const param_layout LAYOUT = {.items = ITEMS, .count = 4, .total = 12};
static const float PARAMS[12] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};

static const char *path_of(const char *folder, const char *name)
{
    static char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s/%s", testing_folder(), folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    ck_ok(files_write(path_of("from", name), text, strlen(text), &error));
}

static bool there(const char *name)
{
    return access(path_of("to", name), F_OK) == 0;
}

static char *content(const char *folder, const char *name)
{
    char *data;
    size_t size;
    ck_ok(files_read(path_of(folder, name), 1 << 20, &data, &size, &error));
    return data;
}

static void contains(const char *name, const char *word)
{
    char *text = content("to", name);
    ck_assert_msg(strstr(text, word) != NULL, "no \"%s\" in %s: %s", word, name, text);
    free(text);
}

/* A directory as transformers 5 and sentence-transformers 6 write it. */
static void make_parent(void)
{
    static const float pooler[4] = {1, 2, 3, 4};
    const tensor_source tensors[] = {{"bert.pooler.dense.weight", 2, {2, 2}, pooler},
                                     {"bert.embeddings.word_embeddings.weight", 2, {2, 2}, pooler}};
    char folder[FILES_PATH_MAX];
    snprintf(folder, sizeof folder, "%s/from", testing_folder());
    ck_ok(files_remove_folder(folder, &error));
    ck_ok(files_make_folder(path_of("from", "1_Pooling"), &error));
    ck_ok(files_make_folder(path_of("from", "onnx"), &error));
    put("config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"vocab_size\":3,\"hidden_size\":2,"
                       "\"num_hidden_layers\":1,\"num_attention_heads\":1,\"intermediate_size\":2,"
                       "\"max_position_embeddings\":9,\"type_vocab_size\":1,\"dtype\":\"bfloat16\","
                       "\"layer_norm_eps\":1e-12}");
    put("modules.json", "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.base.modules."
                        "transformer.Transformer\"},{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":"
                        "\"sentence_transformers.sentence_transformer.modules.pooling.Pooling\"}]");
    put("1_Pooling/config.json", "{\"embedding_dimension\":2,\"pooling_mode\":[\"cls\",\"lasttoken\"]}");
    put("sentence_bert_config.json", "{\"transformer_task\":\"feature-extraction\"}");
    put("tokenizer_config.json", "{\"tokenizer_class\":\"TokenizersBackend\",\"model_max_length\":"
                                 "1000000000000000019884624838656}");
    put("tokenizer.json", "{}");
    put("config_sentence_transformers.json", "{\"prompts\":{\"query\":\"q:\\n\"}}");
    put("README.md", "---\nlicense: apache-2.0\nlanguage:\n- en\n- it\ntags:\n- old\n---\nold text\n");
    put("semd_generation.json", "{\"generation\":1}");
    put("pytorch_model.bin", "weights");
    put("model.safetensors.index.json", "{}");
    put("onnx/model.onnx", "weights");
    put("vocab.txt", "a\nb\n");
    ck_ok(safetensors_write(path_of("from", "model.safetensors"), tensors, 2, &error));
}

static sem_status save(const char *generation)
{
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX];
    snprintf(from, sizeof from, "%s/from", testing_folder());
    snprintf(to, sizeof to, "%s/to", testing_folder());
    return model_save(from, to, &LAYOUT, PARAMS, generation, &error);
}

static void start(void)
{
    make_parent();
    char to[FILES_PATH_MAX];
    snprintf(to, sizeof to, "%s/to", testing_folder());
    ck_ok(files_remove_folder(to, &error));
}

START_TEST(weights_are_written_with_the_checkpoints_shapes)
{
    start();
    ck_ok(save(NULL));
    safetensors *f;
    ck_ok(safetensors_open(&f, path_of("to", "model.safetensors"), &error));
    ck_assert_uint_eq(safetensors_count(f), 5);
    const tensor_view *v = safetensors_find(f, "embeddings.word_embeddings.weight");
    ck_assert(v->dims == 2 && v->shape[0] == 3 && v->shape[1] == 2);
    ck_assert_mem_eq(v->data, PARAMS, 24);
    v = safetensors_find(f, "embeddings.token_type_embeddings.weight");
    ck_assert(v->dims == 2 && v->shape[0] == 1);
    ck_assert_uint_eq(safetensors_find(f, "embeddings.LayerNorm.weight")->dims, 1);
    v = safetensors_find(f, "encoder.layer.0.output.dense.bias");
    ck_assert(v->dims == 1 && v->shape[0] == 2);
    ck_assert_mem_eq(v->data, PARAMS + 10, 8);
    ck_assert_ptr_nonnull(safetensors_find(f, "pooler.dense.weight"));
    safetensors_close(f);
}
END_TEST

START_TEST(other_weights_and_the_parents_story_are_left_behind)
{
    start();
    ck_ok(save(NULL));
    ck_assert(there("tokenizer.json") && there("vocab.txt") && there("1_Pooling/config.json"));
    ck_assert(!there("pytorch_model.bin") && !there("onnx") && !there("model.safetensors.index.json"));
    ck_assert(!there("semd_generation.json"));
    ck_assert(!there("model.safetensors.new"));
}
END_TEST

START_TEST(configuration_is_the_form_that_old_readers_open)
{
    start();
    ck_ok(save(NULL));
    contains("config.json", "\"dtype\": \"float32\"");
    contains("config.json", "\"torch_dtype\": \"float32\"");
    contains("config.json", "1e-12");
    contains("modules.json", "\"sentence_transformers.models.Transformer\"");
    contains("modules.json", "\"sentence_transformers.models.Pooling\"");
    contains("1_Pooling/config.json", "\"word_embedding_dimension\": 2");
    contains("1_Pooling/config.json", "\"pooling_mode_cls_token\": true");
    contains("1_Pooling/config.json", "\"pooling_mode_mean_tokens\": false");
    contains("1_Pooling/config.json", "\"pooling_mode_lasttoken\": true");
    contains("sentence_bert_config.json", "\"max_seq_length\": 9");
    contains("tokenizer_config.json", "\"PreTrainedTokenizerFast\"");
    contains("tokenizer_config.json", "1000000000000000019884624838656");
}
END_TEST

START_TEST(a_saved_model_means_what_its_parent_meant)
{
    model_config before, after;
    char from[FILES_PATH_MAX], to[FILES_PATH_MAX];
    start();
    ck_ok(save("{\"generation\":2}"));
    snprintf(from, sizeof from, "%s/from", testing_folder());
    snprintf(to, sizeof to, "%s/to", testing_folder());
    ck_ok(model_config_read(&before, from, &error));
    ck_ok(model_config_read(&after, to, &error));
    ck_assert_uint_eq(before.pooling, after.pooling);
    ck_assert_uint_eq(before.dim, after.dim);
    ck_assert_uint_eq(before.max_tokens, after.max_tokens);
    ck_assert(before.layer_norm_eps == after.layer_norm_eps);
    ck_assert_str_eq(model_config_query_prompt(&after), "q:\n");
    model_config_free(&before);
    model_config_free(&after);
}
END_TEST

START_TEST(card_keeps_licence_and_languages)
{
    start();
    ck_ok(save("{\"generation\":2}"));
    contains("README.md", "license: apache-2.0\nlanguage:\n- en\n- it\ntags:\n- sentence-transformers\n");
    contains("README.md", "cls+lasttoken");
    contains("README.md", "{\"query\":\"q:\\n\"}");
    contains("README.md", "semd_generation.json");
    contains("semd_generation.json", "{\"generation\":2}");
    char *card = content("to", "README.md");
    ck_assert_ptr_null(strstr(card, "old text"));
    free(card);
}
END_TEST

START_TEST(plain_directory_becomes_a_sentence_transformers_one)
{
    start();
    unlink(path_of("from", "modules.json"));
    unlink(path_of("from", "README.md"));
    unlink(path_of("from", "model.safetensors"));
    unlink(path_of("from", "model.safetensors.index.json"));
    ck_ok(save(NULL));
    contains("modules.json", "\"1_Pooling\"");
    contains("1_Pooling/config.json", "\"pooling_mode_mean_tokens\": true");
    ck_assert(there("README.md"));
}
END_TEST

START_TEST(an_existing_folder_is_never_written_over)
{
    start();
    ck_ok(save(NULL));
    ck_fails(save(NULL), SEM_ALREADY_EXISTS);
    ck_assert(there("model.safetensors"));
}
END_TEST

START_TEST(a_failed_save_leaves_nothing)
{
    start();
    put("config.json", "{}");
    ck_fails(save(NULL), SEM_INVALID_ARGUMENT);
    ck_assert(!there(""));
    start();
    ck_assert_int_eq(mkfifo(path_of("from", "pipe"), 0600), 0);
    ck_fails(save(NULL), SEM_INVALID_ARGUMENT);
    ck_assert(!there(""));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("model_save");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 30);
    tcase_add_test(c, weights_are_written_with_the_checkpoints_shapes);
    tcase_add_test(c, other_weights_and_the_parents_story_are_left_behind);
    tcase_add_test(c, configuration_is_the_form_that_old_readers_open);
    tcase_add_test(c, a_saved_model_means_what_its_parent_meant);
    tcase_add_test(c, card_keeps_licence_and_languages);
    tcase_add_test(c, plain_directory_becomes_a_sentence_transformers_one);
    tcase_add_test(c, an_existing_folder_is_never_written_over);
    tcase_add_test(c, a_failed_save_leaves_nothing);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return testing_run(suite());
}
