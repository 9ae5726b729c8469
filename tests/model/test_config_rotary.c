#include "tests/common/testing.h"

#include "base/files.h"
#include "model/model_config.h"

#include <stdio.h>
#include <string.h>

static sem_error error;
static model_config config;

#define SIZES                                                                                                          \
    "\"vocab_size\":100,\"hidden_size\":16,\"num_hidden_layers\":5,\"num_attention_heads\":2,"                         \
    "\"intermediate_size\":24,\"max_position_embeddings\":64"
#define MODERNBERT "\"model_type\":\"modernbert\"," SIZES
#define NOMIC      "\"model_type\":\"nomic_bert\",\"type_vocab_size\":2," SIZES
#define NOMIC_OWN                                                                                                      \
    "\"model_type\":\"nomic_bert\",\"vocab_size\":100,\"n_embd\":24,\"n_layer\":2,\"n_head\":2,\"n_positions\":64,"    \
    "\"rotary_emb_fraction\":1.0,\"rotary_emb_base\":1000"
#define SWIGLU "\"activation_function\":\"swiglu\""

static void put(const char *text)
{
    char path[FILES_PATH_MAX];
    ck_ok(files_join(path, &error, "%s/config.json", testing_folder()));
    ck_ok(files_write(path, text, strlen(text), &error));
}

static void accept(const char *text)
{
    put(text);
    ck_ok(model_config_read(&config, testing_folder(), &error));
    model_config_free(&config); /* what is compared below is not in its memory */
}

/* The local layers as a text: 1 for local. */
static const char *layers(void)
{
    static char text[MODEL_LAYERS_MAX + 1];
    for (size_t i = 0; i < config.layers; i++)
        text[i] = config.local[i] ? '1' : '0';
    text[config.layers] = '\0';
    return text;
}

START_TEST(modernbert_has_the_defaults_of_its_family)
{
    accept("{" MODERNBERT "}");
    ck_assert_uint_eq(config.family, FAMILY_MODERNBERT);
    ck_assert_uint_eq(config.activation, ACT_GELU);
    ck_assert(config.gated && config.prenorm);
    ck_assert(config.no_attention_bias && config.no_up_bias && config.no_down_bias && config.no_norm_bias);
    ck_assert(config.rotary_theta == 160000 && config.local_theta == 10000);
    ck_assert_uint_eq(config.window, 64);
    ck_assert_str_eq(layers(), "01101");
    ck_assert(config.layer_norm_eps == 1e-5f && config.hidden_dropout == 0 && config.attention_dropout == 0);
    ck_assert_uint_eq(config.types, 0);
    ck_assert_uint_eq(config.max_tokens, 64);
}
END_TEST

START_TEST(modernbert_is_read_in_the_old_form_and_in_the_new)
{
    accept("{" MODERNBERT ",\"global_attn_every_n_layers\":2,\"global_rope_theta\":5000,\"local_rope_theta\":300.5,"
           "\"local_attention\":31,\"hidden_activation\":\"silu\",\"norm_eps\":1e-6,\"mlp_bias\":true}");
    ck_assert(config.rotary_theta == 5000 && config.local_theta == 300.5f);
    ck_assert_uint_eq(config.window, 15);
    ck_assert_str_eq(layers(), "01010");
    ck_assert_uint_eq(config.activation, ACT_SILU);
    ck_assert(config.no_attention_bias && !config.no_up_bias && !config.no_down_bias && config.no_norm_bias);

    accept("{" MODERNBERT ",\"global_rope_theta\":5000,\"local_rope_theta\":null}");
    ck_assert(config.rotary_theta == 5000 && config.local_theta == 5000);

    accept("{" MODERNBERT ",\"layer_types\":[\"sliding_attention\",\"full_attention\",\"full_attention\","
           "\"full_attention\",\"sliding_attention\"],\"rope_parameters\":{\"full_attention\":{\"rope_theta\":7000.0,"
           "\"rope_type\":\"default\"},\"sliding_attention\":{\"rope_type\":\"default\",\"rope_theta\":200}},"
           "\"attention_bias\":true,\"norm_bias\":true,\"embedding_dropout\":0.2,\"mlp_dropout\":0.2,"
           "\"attention_dropout\":0.1}");
    ck_assert(config.rotary_theta == 7000 && config.local_theta == 200);
    ck_assert_str_eq(layers(), "10001");
    ck_assert(!config.no_attention_bias && config.no_up_bias && !config.no_norm_bias);
    ck_assert(config.hidden_dropout == 0.2f && config.attention_dropout == 0.1f);
}
END_TEST

START_TEST(nomic_bert_is_read_as_transformers_writes_it)
{
    accept("{" NOMIC "}");
    ck_assert_uint_eq(config.family, FAMILY_NOMIC);
    ck_assert_uint_eq(config.activation, ACT_SILU);
    ck_assert(config.gated && !config.prenorm);
    ck_assert(config.no_attention_bias && config.no_up_bias && config.no_down_bias && !config.no_norm_bias);
    ck_assert(config.rotary_theta == 1000 && config.layer_norm_eps == 1e-12f);
    ck_assert_uint_eq(config.intermediate, 24);
    ck_assert_uint_eq(config.types, 2);
    ck_assert_str_eq(layers(), "00000");
    accept("{" NOMIC ",\"head_dim\":8,\"rope_parameters\":{\"rope_theta\":500.0,\"rope_type\":\"default\"},"
           "\"hidden_dropout_prob\":0.1}");
    ck_assert(config.rotary_theta == 500 && config.hidden_dropout == 0.1f && config.attention_dropout == 0);
}
END_TEST

START_TEST(nomic_bert_is_read_as_its_own_code_writes_it)
{
    accept("{" NOMIC_OWN "," SWIGLU ",\"n_inner\":300,\"pad_vocab_size_multiple\":64,\"qkv_proj_bias\":false,"
           "\"mlp_fc1_bias\":false,\"auto_map\":{\"AutoConfig\":\"nomic-ai/nomic-bert-2048--"
           "configuration_hf_nomic_bert.NomicBertConfig\",\"AutoModel\":\"modeling_hf_nomic_bert.NomicBertModel\"}}");
    ck_assert_uint_eq(config.family, FAMILY_NOMIC);
    ck_assert_uint_eq(config.activation, ACT_SILU);
    ck_assert_uint_eq(config.intermediate, 512); /* to a multiple of 256 */
    ck_assert_uint_eq(config.vocab, 128);
    ck_assert_uint_eq(config.types, 2);
    ck_assert(config.no_attention_bias && config.no_up_bias && !config.no_down_bias && !config.no_norm_bias);
    ck_assert(config.rotary_theta == 1000 && config.layer_norm_eps == 1e-5f && config.hidden_dropout == 0.1f);
    accept("{" NOMIC_OWN ",\"activation_function\":\"geglu\",\"type_vocab_size\":0,\"n_inner\":null}");
    ck_assert_uint_eq(config.activation, ACT_GELU);
    ck_assert_uint_eq(config.intermediate, 256); /* of 8 * 24 / 3 = 64 */
    ck_assert_uint_eq(config.types, 0);
    ck_assert(!config.no_attention_bias && !config.no_up_bias);
}
END_TEST

static const struct {
    const char *text, *first, *second;
} REFUSED[] = {
    {"{\"model_type\":\"modernbert-decoder\"}", "model_type modernbert-decoder", "modernbert and nomic_bert are"},
    {"{\"model_type\":\"new\"}", "model_type new", "not supported"},
    {"{\"model_type\":\"gte\"}", "model_type gte", "not supported"},
    {"{\"model_type\":\"qwen3\"}", "model_type qwen3", "not supported"},
    {"{" MODERNBERT ",\"is_causal\":true}", "is_causal is true", "not supported"},
    {"{" MODERNBERT ",\"sliding_window\":32}", "sliding_window is 32", "not supported"},
    {"{" MODERNBERT ",\"local_attention\":1}", "local_attention", "1"},
    {"{" MODERNBERT ",\"head_dim\":16}", "head_dim is 16", "8 is"},
    {"{" MODERNBERT ",\"rope_scaling\":{\"factor\":2}}", "rope_scaling is {\"factor\":2}", "not supported"},
    {"{" MODERNBERT ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"yarn\"}}}", "rope_type yarn", "default"},
    {"{" MODERNBERT ",\"rope_parameters\":{\"full_attention\":{\"factor\":4.0}}}", "factor is 4.0", "rope_theta"},
    {"{" MODERNBERT ",\"rope_parameters\":{\"rope_theta\":4.0}}", "rope_theta is 4.0", "full_attention"},
    {"{" MODERNBERT ",\"rope_parameters\":[]}", "rope_parameters is []", "an object is"},
    {"{" MODERNBERT ",\"global_rope_theta\":0}", "global_rope_theta is 0", "1 to 1e12"},
    {"{" MODERNBERT ",\"global_attn_every_n_layers\":0}", "global_attn_every_n_layers", "0"},
    {"{" MODERNBERT ",\"layer_types\":[\"full_attention\"]}", "layer_types", "one type a layer"},
    {"{" MODERNBERT ",\"layer_types\":[\"full_attention\",\"x\",\"x\",\"x\",\"x\"]}", "\"x\"", "sliding_attention are"},
    {"{" MODERNBERT ",\"hidden_activation\":\"mish\"}", "hidden_activation mish", "gelu"},
    {"{" MODERNBERT ",\"embedding_dropout\":0.1}", "embedding_dropout 0.1", "mlp_dropout 0"},
    {"{" MODERNBERT ",\"auto_map\":{\"AutoModel\":\"x.Y\"}}", "auto_map", "not supported"},
    {"{\"model_type\":\"modernbert\",\"vocab_size\":100,\"hidden_size\":10,\"num_hidden_layers\":2,"
     "\"num_attention_heads\":2,\"intermediate_size\":16,\"max_position_embeddings\":64}",
     "hidden size of 10", "even width"},
    {"{" NOMIC ",\"rope_parameters\":{\"rope_type\":\"dynamic\"}}", "rope_type dynamic", "default is"},
    {"{" NOMIC ",\"rope_parameters\":7}", "rope_parameters is 7", "an object"},
    {"{" NOMIC ",\"rotary_emb_base\":10000}", "rotary_emb_base is 10000", "not supported"},
    {"{" NOMIC ",\"partial_rotary_factor\":0.5}", "partial_rotary_factor is 0.5", "not supported"},
    {"{" NOMIC ",\"n_embd\":16}", "hidden_size is 16", "not supported"},
    {"{" NOMIC_OWN ",\"activation_function\":\"gelu\"}", "activation_function gelu", "swiglu and geglu are"},
    {"{" NOMIC_OWN "," SWIGLU ",\"prenorm\":true}", "prenorm is true", "not supported"},
    {"{" NOMIC_OWN "," SWIGLU ",\"parallel_block\":true}", "parallel_block is true", "not supported"},
    {"{" NOMIC_OWN "," SWIGLU ",\"use_rms_norm\":true}", "use_rms_norm is true", "not supported"},
    {"{" NOMIC_OWN "," SWIGLU ",\"causal\":true}", "causal is true", "not supported"},
    {"{" NOMIC_OWN "," SWIGLU ",\"rotary_emb_interleaved\":true}", "rotary_emb_interleaved is true", "not supported"},
    {"{" NOMIC_OWN "," SWIGLU ",\"rotary_emb_scale_base\":512}", "rotary_emb_scale_base is 512", "not supported"},
    {"{" NOMIC_OWN "," SWIGLU ",\"rotary_scaling_factor\":2}", "rotary_scaling_factor is 2", "0 is"},
    {"{" NOMIC_OWN "," SWIGLU ",\"moe_every_n_layers\":2}", "moe_every_n_layers is 2", "0 is"},
    {"{" NOMIC_OWN "," SWIGLU ",\"num_heads_kv\":1}", "num_heads_kv is 1", "2 is"},
    {"{\"model_type\":\"nomic_bert\",\"vocab_size\":100,\"n_embd\":24,\"n_layer\":2,\"n_head\":2,\"n_positions\":64,"
     "\"rotary_emb_base\":1000," SWIGLU "}",
     "rotary_emb_fraction is 0", "1 is"},
    {"{\"model_type\":\"nomic_bert\",\"vocab_size\":100,\"n_embd\":24,\"n_layer\":2,\"n_head\":2,\"n_positions\":64,"
     "\"rotary_emb_fraction\":1," SWIGLU "}",
     "rotary_emb_base", "missing"},
    {"{" NOMIC_OWN "," SWIGLU ",\"auto_map\":{\"AutoModel\":\"other/code--modeling_x.NomicBertModel\"}}", "auto_map",
     "nomic-bert's own"},
};

START_TEST(what_is_not_understood_is_refused_by_name)
{
    put(REFUSED[_i].text);
    ck_fails(model_config_read(&config, testing_folder(), &error), SEM_INVALID_ARGUMENT);
    ck_assert_msg(strstr(error.message, "config.json") != NULL, "no file: %s", error.message);
    ck_assert_msg(strstr(error.message, REFUSED[_i].first) != NULL, "no \"%s\": %s", REFUSED[_i].first, error.message);
    ck_assert_msg(strstr(error.message, REFUSED[_i].second) != NULL, "no \"%s\": %s", REFUSED[_i].second,
                  error.message);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model/config_rotary");
    TCase *c = tcase_create("all");
    tcase_add_test(c, modernbert_has_the_defaults_of_its_family);
    tcase_add_test(c, modernbert_is_read_in_the_old_form_and_in_the_new);
    tcase_add_test(c, nomic_bert_is_read_as_transformers_writes_it);
    tcase_add_test(c, nomic_bert_is_read_as_its_own_code_writes_it);
    tcase_add_loop_test(c, what_is_not_understood_is_refused_by_name, 0, sizeof REFUSED / sizeof REFUSED[0]);
    suite_add_tcase(s, c);
    return testing_run(s);
}
