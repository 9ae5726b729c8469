#include "tests/common/testing.h"

#include "base/files.h"
#include "model/model_config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sem_error error;
static model_config config;

#define BERT                                                                                                           \
    "\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"vocab_size\":100,\"hidden_size\":8,\"num_hidden_layers\":2,"    \
    "\"num_attention_heads\":2,\"intermediate_size\":16,\"max_position_embeddings\":64,\"type_vocab_size\":2"
#define MODULES(more)                                                                                                  \
    "[{\"idx\":0,\"name\":\"0\",\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"                 \
    "{\"idx\":1,\"name\":\"1\",\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}" more "]"
#define MODULE(type)                                                                                                   \
    ",{\"idx\":2,\"name\":\"2\",\"path\":\"2_" type "\",\"type\":\"sentence_transformers.models." type "\"}"

static const char *folder(void)
{
    static char path[FILES_PATH_MAX];
    snprintf(path, sizeof path, "%s/model", testing_folder());
    return path;
}

/* text NULL: the file is removed. */
static void put(const char *name, const char *text)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/%s", folder(), name));
    if (text == NULL)
        unlink(path);
    else
        ck_ok(files_write(path, text, strlen(text), &error));
}

/* A plain old-format directory that is accepted; tests change one file. */
static void make_model(void)
{
    char pooling[FILES_PATH_MAX];
    ck_ok(files_remove_folder(folder(), &error));
    ck_ok(files_join(pooling, &error, "%s/1_Pooling", folder()));
    ck_ok(files_make_folder(pooling, &error));
    put("config.json", "{" BERT "}");
    put("modules.json", MODULES(MODULE("Normalize")));
    put("1_Pooling/config.json", "{\"word_embedding_dimension\":8,\"pooling_mode_mean_tokens\":true}");
    put("sentence_bert_config.json", "{\"max_seq_length\":32,\"do_lower_case\":false}");
    put("tokenizer_config.json", "{\"model_max_length\":48}");
}

static void expect_accepted(void)
{
    ck_ok(model_config_read(&config, folder(), &error));
}

static void expect_refused(const char *first, const char *second)
{
    ck_fails(model_config_read(&config, folder(), &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, folder()) != NULL, "no file: %s", error.message);
    ck_assert_msg(strstr(error.message, first) != NULL, "no \"%s\": %s", first, error.message);
    ck_assert_msg(strstr(error.message, second) != NULL, "no \"%s\": %s", second, error.message);
}

START_TEST(minilm_is_understood)
{
    const char *model = testing_minilm();
    if (model == NULL)
        return;
    ck_ok(model_config_read(&config, model, &error));
    ck_assert_str_eq(config.family_name, "bert");
    ck_assert_uint_eq(config.vocab, 30522);
    ck_assert_uint_eq(config.hidden, 384);
    ck_assert_uint_eq(config.layers, 6);
    ck_assert_uint_eq(config.heads, 12);
    ck_assert_uint_eq(config.intermediate, 1536);
    ck_assert_uint_eq(config.positions, 512);
    ck_assert_uint_eq(config.types, 2);
    ck_assert_uint_eq(config.pooling, POOL_MEAN);
    ck_assert(config.normalize);
    ck_assert_uint_eq(config.dim, 384);
    ck_assert_uint_eq(config.max_tokens, 256);
    ck_assert(config.layer_norm_eps == 1e-12f && config.hidden_dropout == 0.1f);
    ck_assert_uint_eq(config.prompt_count, 0);
    ck_assert_str_eq(model_config_query_prompt(&config), "");
    model_config_free(&config);
}
END_TEST

START_TEST(new_format_is_understood)
{
    const char *shared = testing_shared("golden/tiny-bert");
    if (shared == NULL)
        return;
    ck_ok(model_config_read(&config, shared, &error));
    ck_assert_uint_eq(config.pooling, POOL_MEAN);
    ck_assert(config.normalize);
    ck_assert_uint_eq(config.max_tokens, 64);
    ck_assert(config.hidden_dropout == 0);
    ck_assert_uint_eq(config.prompt_count, 2);
    ck_assert_ptr_null(config.default_prompt);
    model_config_free(&config);
}
END_TEST

START_TEST(prompts_are_read)
{
    const char *shared = testing_shared("golden/family-bert-cased-sqrt-f16-prompts");
    if (shared == NULL)
        return;
    ck_ok(model_config_read(&config, shared, &error));
    ck_assert_str_eq(model_config_query_prompt(&config), "query: ");
    ck_assert_str_eq(model_config_document_prompt(&config), "passage: ");
    ck_assert_ptr_null(model_config_prompt(&config, "other"));
    ck_assert_uint_eq(config.pooling, POOL_MEAN_SQRT_LEN);
    ck_assert_uint_eq(config.max_tokens, 48);
    model_config_free(&config);
}
END_TEST

START_TEST(prompts_fall_back_to_the_default)
{
    make_model();
    put("config_sentence_transformers.json",
        "{\"prompts\":{\"passage\":\"p: \",\"std\":\"s: \",\"none\":null},\"default_prompt_name\":\"std\"}");
    expect_accepted();
    ck_assert_str_eq(model_config_query_prompt(&config), "s: ");
    ck_assert_str_eq(model_config_document_prompt(&config), "p: ");
    ck_assert_str_eq(model_config_prompt(&config, "none"), "");
    ck_assert_str_eq(config.default_prompt, "std");
    model_config_free(&config);
    put("config_sentence_transformers.json", "{\"prompts\":null,\"default_prompt_name\":null}");
    expect_accepted();
    ck_assert_str_eq(model_config_document_prompt(&config), "");
    model_config_free(&config);
}
END_TEST

START_TEST(plain_hugging_face_directory_pools_the_mean)
{
    make_model();
    put("modules.json", NULL);
    put("sentence_bert_config.json", NULL);
    put("tokenizer_config.json", NULL);
    expect_accepted();
    ck_assert_uint_eq(config.pooling, POOL_MEAN);
    ck_assert(!config.normalize);
    ck_assert_uint_eq(config.max_tokens, 64);
    model_config_free(&config);
}
END_TEST

static const struct {
    const char *pooling;
    unsigned bits;
    const char *name;
} POOLINGS[] = {
    {"{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":false}", POOL_CLS, "cls"},
    {"{\"pooling_mode_lasttoken\":true,\"pooling_mode_max_tokens\":true}", POOL_LAST_TOKEN | POOL_MAX, "max+lasttoken"},
    {"{\"pooling_mode_weightedmean_tokens\":true}", POOL_WEIGHTED_MEAN, "weightedmean"},
    {"{\"pooling_mode_mean_sqrt_len_tokens\":true}", POOL_MEAN_SQRT_LEN, "mean_sqrt_len"},
    {"{\"pooling_mode_mean_tokens\":false}", POOL_MEAN, "mean"},
    {"{\"pooling_mode\":\"cls\"}", POOL_CLS, "cls"},
    {"{\"pooling_mode\":[\"mean\",\"cls\"],\"embedding_dimension\":8}", POOL_CLS | POOL_MEAN, "cls+mean"},
    {"{\"pooling_mode\":[]}", POOL_MEAN, "mean"},
    {"{\"pooling_mode\":\"lasttoken\",\"include_prompt\":false}", POOL_LAST_TOKEN, "lasttoken"},
};

START_TEST(poolings_are_understood)
{
    char name[64], small[6];
    make_model();
    put("1_Pooling/config.json", POOLINGS[_i].pooling);
    expect_accepted();
    ck_assert_uint_eq(config.pooling, POOLINGS[_i].bits);
    ck_assert_uint_eq(config.dim, 8 * (size_t)__builtin_popcount(POOLINGS[_i].bits));
    ck_assert_str_eq(model_config_pooling_name(&config, name, sizeof name), POOLINGS[_i].name);
    ck_assert_int_lt((int)strlen(model_config_pooling_name(&config, small, sizeof small)), (int)sizeof small);
    model_config_free(&config);
}
END_TEST

/* --- families */

#define SIZES                                                                                                          \
    "\"vocab_size\":100,\"hidden_size\":8,\"num_hidden_layers\":2,\"num_attention_heads\":2,"                          \
    "\"intermediate_size\":16,\"max_position_embeddings\":64"

static const struct {
    const char *config;
    model_family family;
    model_activation activation;
    size_t position_start, types, relative_buckets, max_tokens;
} FAMILIES[] = {
    {"{\"model_type\":\"roberta\",\"hidden_act\":\"gelu_new\",\"type_vocab_size\":1," SIZES "}", FAMILY_ROBERTA,
     ACT_GELU_TANH, 2, 1, 0, 62},
    {"{\"model_type\":\"xlm-roberta\",\"hidden_act\":\"relu\",\"type_vocab_size\":1,\"pad_token_id\":5," SIZES "}",
     FAMILY_ROBERTA, ACT_RELU, 6, 1, 0, 58},
    {"{\"model_type\":\"mpnet\",\"hidden_act\":\"gelu_pytorch_tanh\",\"pad_token_id\":0," SIZES "}", FAMILY_MPNET,
     ACT_GELU_TANH, 2, 0, 32, 62},
    {"{\"model_type\":\"bert\",\"hidden_act\":\"swish\",\"type_vocab_size\":2," SIZES "}", FAMILY_BERT, ACT_SILU, 0, 2,
     0, 64},
    {"{\"model_type\":\"distilbert\",\"activation\":\"gelu\",\"vocab_size\":100,\"dim\":8,\"n_layers\":2,"
     "\"n_heads\":2,\"hidden_dim\":16,\"max_position_embeddings\":64}",
     FAMILY_DISTILBERT, ACT_GELU, 0, 0, 0, 64},
};

START_TEST(families_are_understood)
{
    make_model();
    put("sentence_bert_config.json", NULL);
    put("tokenizer_config.json", NULL);
    put("config.json", FAMILIES[_i].config);
    expect_accepted();
    ck_assert_int_eq(config.family, FAMILIES[_i].family);
    ck_assert_int_eq(config.activation, FAMILIES[_i].activation);
    ck_assert_uint_eq(config.position_start, FAMILIES[_i].position_start);
    ck_assert_uint_eq(config.types, FAMILIES[_i].types);
    ck_assert_uint_eq(config.relative_buckets, FAMILIES[_i].relative_buckets);
    ck_assert_uint_eq(config.max_tokens, FAMILIES[_i].max_tokens);
    ck_assert(config.hidden == 8 && config.layers == 2 && config.heads == 2 && config.intermediate == 16);
    ck_assert(strstr(FAMILIES[_i].config, config.family_name) != NULL);
    model_config_free(&config);
}
END_TEST

/* --- Dense */

/* The plain model with a Dense that has this configuration. */
static void put_dense(const char *text)
{
    char path[FILES_PATH_MAX];
    make_model();
    ck_ok(files_join(path, &error, "%s/2_Dense", folder()));
    ck_ok(files_make_folder(path, &error));
    put("modules.json", MODULES(MODULE("Dense") MODULE("Normalize")));
    put("2_Dense/config.json", text);
}

#define DENSE "\"in_features\":8,\"out_features\":5"

static const struct {
    const char *text;
    dense_activation activation;
    bool bias;
} DENSES[] = {
    {"{" DENSE "}", DENSE_TANH, true},
    {"{" DENSE ",\"bias\":false,\"activation_function\":\"torch.nn.modules.linear.Identity\"}", DENSE_IDENTITY, false},
    {"{" DENSE ",\"activation_function\":\"torch.nn.modules.activation.ReLU\"}", DENSE_RELU, true},
    {"{" DENSE ",\"activation_function\":\"torch.nn.modules.activation.GELU\"}", DENSE_GELU, true},
    {"{" DENSE ",\"activation_function\":\"torch.nn.modules.activation.SiLU\"}", DENSE_SILU, true},
    {"{" DENSE ",\"activation_function\":\"torch.nn.modules.activation.Sigmoid\",\"use_residual\":false}",
     DENSE_SIGMOID, true},
};

START_TEST(dense_modules_are_understood)
{
    put_dense(DENSES[_i].text);
    expect_accepted();
    ck_assert_uint_eq(config.dense_count, 1);
    ck_assert_str_eq(config.dense[0].folder, "2_Dense");
    ck_assert_uint_eq(config.dense[0].in, 8);
    ck_assert_uint_eq(config.dense[0].out, 5);
    ck_assert_int_eq(config.dense[0].activation, DENSES[_i].activation);
    ck_assert(config.dense[0].bias == DENSES[_i].bias);
    ck_assert_uint_eq(config.dim, 5);
    ck_assert(config.normalize);
    model_config_free(&config);
}
END_TEST

static const struct {
    const char *text, *first, *second;
} DENSES_REFUSED[] = {
    {"{\"in_features\":9,\"out_features\":5}", "in_features is 9", "expected 8"},
    {"{\"in_features\":8}", "out_features", "missing"},
    {"{" DENSE ",\"bias\":1}", "bias", "true or false"},
    {"{" DENSE ",\"use_residual\":true}", "use_residual", "not supported"},
    {"{" DENSE ",\"module_input_name\":\"token_embeddings\"}", "module_input_name", "token_embeddings"},
    {"{" DENSE ",\"module_output_name\":\"other\"}", "module_output_name", "other"},
    {"{" DENSE ",\"activation_function\":\"torch.nn.modules.activation.Softplus\"}", "activation_function", "Softplus"},
    {"{" DENSE ",\"activation_function\":\"somebody.elses.Tanh\"}", "activation_function", "somebody.elses"},
    {"{" DENSE ",\"activation_function\":\"Tanh\"}", "activation_function", "not supported"},
};

START_TEST(dense_modules_that_are_not_understood_are_refused_by_name)
{
    put_dense(DENSES_REFUSED[_i].text);
    expect_refused(DENSES_REFUSED[_i].first, DENSES_REFUSED[_i].second);
}
END_TEST

START_TEST(longest_text_is_the_least_of_what_is_said)
{
    make_model();
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 32);
    put("sentence_bert_config.json", NULL);
    put("sentence_distilbert_config.json", "{\"max_seq_length\":20}");
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 20);
    put("sentence_distilbert_config.json", "{\"max_seq_length\":null}");
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 48);
    put("sentence_distilbert_config.json", "{\"max_seq_length\":5000}");
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 64);
    put("sentence_distilbert_config.json", NULL);
    put("tokenizer_config.json", "{\"model_max_length\":1000000000000000019884624838656}");
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 64);
    put("tokenizer_config.json", "{\"model_max_length\":1e30}");
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 64);
    put("tokenizer_config.json", "{}");
    expect_accepted();
    ck_assert_uint_eq(config.max_tokens, 64);
}
END_TEST

static const struct {
    const char *file, *text;
    const char *first, *second;
} REFUSED[] = {
    {"config.json", "{" BERT, "not valid JSON", "line 1"},
    {"config.json", "[]", "an array", "model_type"},
    {"config.json", "{\"model_type\":\"t5\"}", "t5", "bert, distilbert"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"mish\"}", "mish", "gelu, gelu_new"},
    {"config.json", "{\"model_type\":\"distilbert\",\"activation\":\"quick_gelu\"}", "activation quick_gelu", "gelu"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\"}", "vocab_size", "missing"},
    {"config.json",
     "{\"model_type\":\"roberta\",\"hidden_act\":\"gelu\",\"type_vocab_size\":1,\"pad_token_id\":100," SIZES "}",
     "pad_token_id", "100"},
    {"config.json",
     "{\"model_type\":\"roberta\",\"hidden_act\":\"gelu\",\"type_vocab_size\":1,\"pad_token_id\":61," SIZES "}",
     "max_position_embeddings is 64", "65"},
    {"config.json",
     "{\"model_type\":\"mpnet\",\"hidden_act\":\"gelu\",\"relative_attention_num_buckets\":64," SIZES "}",
     "relative_attention_num_buckets", "64"},
    {"config.json", "{" BERT ",\"position_embedding_type\":\"relative_key\"}", "relative_key", "absolute is"},
    {"config.json", "{" BERT ",\"is_decoder\":true}", "is_decoder", "not supported"},
    {"config.json", "{" BERT ",\"quantization_config\":{\"bits\":4}}", "quantization_config", "not supported"},
    {"config.json", "{" BERT ",\"auto_map\":{\"AutoModel\":\"x.Y\"}}", "auto_map", "not supported"},
    {"config.json", "{" BERT ",\"layer_norm_eps\":-1}", "layer_norm_eps", "-1"},
    {"config.json", "{" BERT ",\"hidden_dropout_prob\":1.0}", "hidden_dropout_prob", "less than 1"},
    {"config.json", "{" BERT ",\"hidden_size\":8}", "duplicate", "hidden_size"},
    {"config.json",
     "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"vocab_size\":100,\"hidden_size\":9,\"num_hidden_layers\":2,"
     "\"num_attention_heads\":2,\"intermediate_size\":16,\"max_position_embeddings\":64,\"type_vocab_size\":2}",
     "hidden_size 9", "num_attention_heads 2"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"vocab_size\":-5}", "vocab_size", "-5"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"vocab_size\":2.5}", "vocab_size", "a fraction"},
    {"config.json", "{\"model_type\":\"bert\",\"hidden_act\":\"gelu\",\"vocab_size\":99999999999}", "vocab_size",
     "99999999999"},
    {"modules.json", MODULES(MODULE("Router")), "Router", "not supported"},
    {"modules.json", MODULES(MODULE("Normalize") MODULE("Dense")), "Dense", "not supported"},
    {"modules.json", "[]", "0 modules", "at least 2"},
    {"modules.json", "{}", "an object", "expected an array"},
    {"modules.json", "[1,2]", "an integer", "expected an object"},
    {"modules.json", "[{\"type\":\"x.Asym\"},{\"type\":\"x.Pooling\"}]", "Asym", "not supported"},
    {"modules.json", "[{\"type\":\"x.Transformer\",\"path\":\"0_T\"},{\"type\":\"x.Pooling\"}]", "0_T", "own folder"},
    {"modules.json", "[{\"type\":\"x.Transformer\"},{\"type\":\"x.Pooling\",\"path\":\"../1\"}]", "../1", "leads out"},
    {"modules.json", "[{\"type\":\"x.Transformer\"},{\"type\":\"x.Pooling\",\"path\":\"a/..\"}]", "a/..", "leads out"},
    {"modules.json", "[{\"type\":\"x.Transformer\"},{\"type\":\"x.Pooling\",\"path\":\"/etc\"}]", "/etc", "leads out"},
    {"1_Pooling/config.json", "{\"word_embedding_dimension\":9}", "9", "expected the model's 8"},
    {"1_Pooling/config.json", "{\"pooling_mode\":\"median\"}", "median", "not supported"},
    {"1_Pooling/config.json", "{\"pooling_mode\":[1]}", "an integer", "not supported"},
    {"1_Pooling/config.json", "{\"pooling_mode_median_tokens\":true}", "median", "not supported"},
    {"1_Pooling/config.json", "{\"pooling_mode_cls_token\":1}", "pooling_mode_cls_token", "true or false"},
    {"sentence_bert_config.json", "{\"do_lower_case\":true}", "do_lower_case", "not supported"},
    {"sentence_bert_config.json", "{\"max_seq_length\":2}", "max_seq_length", "2"},
    {"sentence_bert_config.json", "{\"transformer_task\":\"fill-mask\"}", "fill-mask", "not supported"},
    {"config_sentence_transformers.json", "{\"similarity_fn_name\":\"manhattan\"}", "manhattan", "not supported"},
    {"config_sentence_transformers.json", "{\"truncate_dim\":4}", "truncate_dim", "4"},
    {"config_sentence_transformers.json", "{\"requirements\":{\"x\":\"1\"}}", "requirements", "honoured"},
    {"config_sentence_transformers.json", "{\"model_type\":\"SparseEncoder\"}", "SparseEncoder", "not supported"},
    {"config_sentence_transformers.json", "{\"prompts\":[1]}", "prompts", "an array"},
    {"config_sentence_transformers.json", "{\"prompts\":{\"q\":1}}", "prompts.q", "an integer"},
    {"config_sentence_transformers.json", "{\"prompts\":{},\"default_prompt_name\":\"q\"}", "default_prompt_name", "q"},
};

START_TEST(what_is_not_understood_is_refused_by_name)
{
    make_model();
    expect_accepted();
    model_config_free(&config);
    put(REFUSED[_i].file, REFUSED[_i].text);
    expect_refused(REFUSED[_i].first, REFUSED[_i].second);
}
END_TEST

START_TEST(prompt_left_out_of_the_pooling_is_refused)
{
    make_model();
    put("1_Pooling/config.json", "{\"pooling_mode\":\"mean\",\"include_prompt\":false}");
    put("config_sentence_transformers.json", "{\"prompts\":{\"query\":\"q: \"}}");
    expect_refused("include_prompt", "query");
}
END_TEST

START_TEST(tokenizer_length_below_three_is_refused)
{
    make_model();
    put("sentence_bert_config.json", NULL);
    put("tokenizer_config.json", "{\"model_max_length\":1}");
    expect_refused("model_max_length", "1");
}
END_TEST

START_TEST(missing_files_are_named)
{
    make_model();
    put("1_Pooling/config.json", NULL);
    ck_fails(model_config_read(&config, folder(), &error), SEM_NOT_FOUND);
    ck_assert(strstr(error.message, "1_Pooling/config.json") != NULL);
    put("config.json", NULL);
    ck_fails(model_config_read(&config, folder(), &error), SEM_NOT_FOUND);
    ck_assert(strstr(error.message, "model/config.json") != NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("model_config");
    TCase *c = tcase_create("all");
    tcase_add_test(c, minilm_is_understood);
    tcase_add_test(c, new_format_is_understood);
    tcase_add_test(c, prompts_are_read);
    tcase_add_test(c, prompts_fall_back_to_the_default);
    tcase_add_test(c, plain_hugging_face_directory_pools_the_mean);
    tcase_add_loop_test(c, poolings_are_understood, 0, sizeof POOLINGS / sizeof POOLINGS[0]);
    tcase_add_loop_test(c, families_are_understood, 0, sizeof FAMILIES / sizeof FAMILIES[0]);
    tcase_add_loop_test(c, dense_modules_are_understood, 0, sizeof DENSES / sizeof DENSES[0]);
    tcase_add_loop_test(c, dense_modules_that_are_not_understood_are_refused_by_name, 0,
                        sizeof DENSES_REFUSED / sizeof DENSES_REFUSED[0]);
    tcase_add_test(c, longest_text_is_the_least_of_what_is_said);
    tcase_add_loop_test(c, what_is_not_understood_is_refused_by_name, 0, sizeof REFUSED / sizeof REFUSED[0]);
    tcase_add_test(c, prompt_left_out_of_the_pooling_is_refused);
    tcase_add_test(c, tokenizer_length_below_three_is_refused);
    tcase_add_test(c, missing_files_are_named);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return testing_run(suite());
}
