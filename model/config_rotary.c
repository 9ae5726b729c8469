/* config.json of ModernBERT (Warner et al. 2024) and of nomic-bert (Nussbaum et
 * al. 2024), the latter as its own code writes it and as transformers does. */
#include "model/config_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    NOMIC_FEED_MULTIPLE = 256, /* nomic-bert's own code widens its feed-forward layers to a multiple of this */
    LOCAL_ATTENTION_MAX = 1 << 24
};

/* --- values that change what is computed and that nothing here follows */

static sem_status refuse(const json_t *value, const char *where, const char *key, const char *supported, sem_error *err)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    sem_status status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is %.64s, which is not supported; %s", where, key,
                                 text != NULL ? text : "unknown", supported);
    free(text);
    return status;
}

/* Each key must be missing, null or false. */
static sem_status refuse_set(const char *const *keys, const json_t *c, const char *where, sem_error *err)
{
    for (; *keys != NULL; keys++) {
        const json_t *value = json_object_get(c, *keys);
        if (value != NULL && !json_is_null(value) && !json_is_false(value))
            return refuse(value, where, *keys, "nothing or false is", err);
    }
    return SEM_OK;
}

/* c[key], where it is there, must be this number. */
static sem_status refuse_other(const char *key, double number, const json_t *c, const char *where, sem_error *err)
{
    char supported[40];
    const json_t *value = json_object_get(c, key);
    if (value == NULL || json_is_null(value) || (json_is_number(value) && json_number_value(value) == number))
        return SEM_OK;
    snprintf(supported, sizeof supported, "%g is", number);
    return refuse(value, where, key, supported, err);
}

/* --- parts */

static sem_status read_theta(const json_t *c, const char *where, const char *key, bool required, float *out,
                             sem_error *err)
{
    double theta = (double)*out;
    sem_status status = json_get_double(c, where, key, required, &theta, err);
    if (status != SEM_OK)
        return status;
    if (!(theta >= 1 && theta <= 1e12))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is %g, expected 1 to 1e12", where, key, theta);
    *out = (float)theta;
    return SEM_OK;
}

/* {"rope_type": "default", "rope_theta": ...} and nothing else. */
static sem_status read_rope(const json_t *rope, const char *where, float *theta, sem_error *err)
{
    const char *key, *type = "default";
    const json_t *value;
    if (!json_is_object(rope))
        return refuse(rope, where, "rope_parameters", "an object of rope_type and rope_theta is", err);
    json_object_foreach((json_t *)rope, key, value)
    {
        if (strcmp(key, "rope_type") != 0 && strcmp(key, "rope_theta") != 0)
            return refuse(value, where, key, "rope_parameters of rope_type and rope_theta are", err);
    }
    sem_status status = json_get_string(rope, where, "rope_type", false, &type, err);
    if (status == SEM_OK && strcmp(type, "default") != 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: rope_type %.64s is not supported; default is", where, type);
    return status == SEM_OK ? read_theta(rope, where, "rope_theta", false, theta, err) : status;
}

/* Whether there is a linear bias; *none says that there is not. */
static sem_status read_bias(const json_t *c, const char *where, const char *key, bool standard, bool *none,
                            sem_error *err)
{
    bool there = standard;
    sem_status status = json_get_bool(c, where, key, false, &there, err);
    *none = !there;
    return status;
}

/* Pairs of columns turn: every head must have an even number. */
static sem_status check_heads(const model_config *out, const char *where, sem_error *err)
{
    if (out->hidden % out->heads != 0 || out->hidden / out->heads % 2 != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: a hidden size of %zu does not divide into %zu heads of an even width", where, out->hidden,
                        out->heads);
    return SEM_OK;
}

/* --- ModernBERT */

static sem_status read_layer_types(model_config *out, const json_t *types, const char *where, sem_error *err)
{
    if (!json_is_array(types) || json_array_size(types) != out->layers)
        return refuse(types, where, "layer_types", "a list of one type a layer is", err);
    for (size_t i = 0; i < out->layers; i++) {
        const json_t *type = json_array_get(types, i);
        const char *name = json_is_string(type) ? json_string_value(type) : "";
        out->local[i] = strcmp(name, "sliding_attention") == 0;
        if (!out->local[i] && strcmp(name, "full_attention") != 0)
            return refuse(type, where, "layer_types", "full_attention and sliding_attention are", err);
    }
    return SEM_OK;
}

/* Which layers see only a window: listed in new files, every so many in old ones. */
static sem_status read_layers(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    size_t wide = 128, every = 3;
    sem_status status = json_get_size(c, where, "local_attention", false, 2, LOCAL_ATTENTION_MAX, &wide, err);
    if (status != SEM_OK)
        return status;
    out->window = wide / 2;
    const json_t *types = json_object_get(c, "layer_types");
    if (types != NULL && !json_is_null(types))
        return read_layer_types(out, types, where, err);
    status = json_get_size(c, where, "global_attn_every_n_layers", false, 1, MODEL_LAYERS_MAX, &every, err);
    for (size_t i = 0; i < out->layers; i++)
        out->local[i] = i % every != 0;
    return status;
}

/* rope_parameters of new files, before which the two thetas of old ones do not count. */
static sem_status read_thetas(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    out->rotary_theta = 160000;
    sem_status status = read_theta(c, where, "global_rope_theta", false, &out->rotary_theta, err);
    out->local_theta = json_is_null(json_object_get(c, "local_rope_theta")) ? out->rotary_theta : 10000;
    if (status == SEM_OK)
        status = read_theta(c, where, "local_rope_theta", false, &out->local_theta, err);
    const json_t *ropes = json_object_get(c, "rope_parameters");
    if (status != SEM_OK || ropes == NULL || json_is_null(ropes))
        return status;
    if (!json_is_object(ropes))
        return refuse(ropes, where, "rope_parameters", "an object is", err);
    const char *key;
    const json_t *rope;
    json_object_foreach((json_t *)ropes, key, rope)
    {
        float *theta = strcmp(key, "full_attention") == 0      ? &out->rotary_theta
                       : strcmp(key, "sliding_attention") == 0 ? &out->local_theta
                                                               : NULL;
        if (theta == NULL)
            return refuse(rope, where, key, "rope_parameters of full_attention and sliding_attention are", err);
        status = json_is_null(rope) ? SEM_OK : read_rope(rope, where, theta, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

/* What both families have in common; sizes but for the ones of their own. */
static sem_status read_shape(model_config *out, const char *const *unsupported, const char *activation_key,
                             const char *activation, const json_t *c, const char *where, sem_error *err)
{
    const config_size sizes[] = {
        {"vocab_size", CONFIG_VOCAB_MAX, &out->vocab},
        {"hidden_size", CONFIG_WIDTH_MAX, &out->hidden},
        {"num_hidden_layers", MODEL_LAYERS_MAX, &out->layers},
        {"num_attention_heads", CONFIG_WIDTH_MAX, &out->heads},
        {"intermediate_size", CONFIG_WIDTH_MAX * 4, &out->intermediate},
        {"max_position_embeddings", CONFIG_POSITIONS_MAX, &out->positions},
    };
    sem_status status = refuse_set(unsupported, c, where, err);
    if (status == SEM_OK)
        status = config_read_sizes(sizes, sizeof sizes / sizeof sizes[0], c, where, err);
    if (status == SEM_OK)
        status = check_heads(out, where, err);
    const size_t head = status == SEM_OK ? out->hidden / out->heads : 0;
    if (status == SEM_OK)
        status = refuse_other("head_dim", (double)head, c, where, err);
    return status == SEM_OK ? config_read_activation(&out->activation, activation_key, activation, c, where, err)
                            : status;
}

static sem_status read_modernbert_dropout(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    float embedding;
    sem_status status = config_read_fraction(c, where, "attention_dropout", 0, &out->attention_dropout, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "mlp_dropout", 0, &out->hidden_dropout, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "embedding_dropout", 0, &embedding, err);
    if (status == SEM_OK && embedding != out->hidden_dropout)
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "%s: embedding_dropout %g and mlp_dropout %g are not supported; equal ones are", where,
                          (double)embedding, (double)out->hidden_dropout);
    return status;
}

sem_status config_read_modernbert(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    static const char *const UNSUPPORTED[] = {"is_causal",    "causal_mask",           "sliding_window",
                                              "rope_scaling", "partial_rotary_factor", NULL};
    out->gated = true;
    out->prenorm = true;
    sem_status status = read_shape(out, UNSUPPORTED, "hidden_activation", "gelu", c, where, err);
    if (status == SEM_OK)
        status = read_bias(c, where, "attention_bias", false, &out->no_attention_bias, err);
    if (status == SEM_OK)
        status = read_bias(c, where, "mlp_bias", false, &out->no_up_bias, err);
    if (status == SEM_OK)
        status = read_bias(c, where, "norm_bias", false, &out->no_norm_bias, err);
    out->no_down_bias = out->no_up_bias;
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "norm_eps", 1e-5, &out->layer_norm_eps, err);
    if (status == SEM_OK)
        status = read_layers(out, c, where, err);
    if (status == SEM_OK)
        status = read_thetas(out, c, where, err);
    return status == SEM_OK ? read_modernbert_dropout(out, c, where, err) : status;
}

/* --- nomic-bert */

sem_status config_check_nomic_code(const json_t *auto_map, const char *where, sem_error *err)
{
    const char *key;
    const json_t *value;
    json_object_foreach((json_t *)auto_map, key, value)
    {
        const char *name = json_is_string(value) ? json_string_value(value) : "";
        if (strstr(name, "configuration_hf_nomic_bert.NomicBert") == NULL &&
            strstr(name, "modeling_hf_nomic_bert.NomicBert") == NULL)
            return refuse(value, where, "auto_map", "nomic-bert's own configuration and model are", err);
    }
    return SEM_OK;
}

/* As transformers writes it. */
static sem_status read_nomic_new(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    static const char *const UNSUPPORTED[] = {
        "rope_scaling",        "partial_rotary_factor",  "rotary_emb_base", /* of unfinished versions of transformers */
        "rotary_emb_fraction", "rotary_emb_interleaved", "rotary_emb_scale_base", NULL};
    const config_size types = {"type_vocab_size", CONFIG_WIDTH_MAX, &out->types};
    sem_status status = read_shape(out, UNSUPPORTED, "hidden_act", "silu", c, where, err);
    if (status == SEM_OK)
        status = config_read_sizes(&types, 1, c, where, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "layer_norm_eps", 1e-12, &out->layer_norm_eps, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "hidden_dropout_prob", 0, &out->hidden_dropout, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "attention_probs_dropout_prob", 0, &out->attention_dropout, err);
    out->no_attention_bias = out->no_up_bias = out->no_down_bias = true;
    out->rotary_theta = 1000;
    if (status == SEM_OK)
        status = read_theta(c, where, "rope_theta", false, &out->rotary_theta, err);
    const json_t *rope = json_object_get(c, "rope_parameters");
    if (status == SEM_OK && rope != NULL && !json_is_null(rope))
        status = read_rope(rope, where, &out->rotary_theta, err);
    return status;
}

static sem_status read_nomic_gate(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    const char *name = NULL;
    sem_status status = json_get_string(c, where, "activation_function", true, &name, err);
    if (status != SEM_OK)
        return status;
    if (strcmp(name, "swiglu") != 0 && strcmp(name, "geglu") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: activation_function %.64s is not supported; swiglu and geglu are", where, name);
    out->activation = strcmp(name, "swiglu") == 0 ? ACT_SILU : ACT_GELU;
    out->intermediate = 8 * out->hidden / 3;
    status = json_get_size(c, where, "n_inner", false, 1, (size_t)CONFIG_WIDTH_MAX * 4, &out->intermediate, err);
    out->intermediate = (out->intermediate + NOMIC_FEED_MULTIPLE - 1) / NOMIC_FEED_MULTIPLE * NOMIC_FEED_MULTIPLE;
    return status;
}

static sem_status read_nomic_tables(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    size_t multiple = 1;
    out->types = 2;
    sem_status status = json_get_size(c, where, "type_vocab_size", false, 0, CONFIG_WIDTH_MAX, &out->types, err);
    if (status == SEM_OK)
        status = json_get_size(c, where, "pad_vocab_size_multiple", false, 1, CONFIG_WIDTH_MAX, &multiple, err);
    out->vocab = (out->vocab + multiple - 1) / multiple * multiple;
    return status;
}

/* Positions turn whole heads; a length beyond those of training changes nothing. */
static sem_status read_nomic_rotary(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    double fraction = 0;
    sem_status status = json_get_double(c, where, "rotary_emb_fraction", false, &fraction, err);
    if (status == SEM_OK && fraction != 1)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: rotary_emb_fraction is %g, which is not supported; 1 is",
                          where, fraction);
    if (status == SEM_OK)
        status = refuse_other("rotary_scaling_factor", 0, c, where, err);
    return status == SEM_OK ? read_theta(c, where, "rotary_emb_base", true, &out->rotary_theta, err) : status;
}

/* As nomic-bert's own code writes it. */
static sem_status read_nomic_own(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    static const char *const UNSUPPORTED[] = {
        "prenorm", "parallel_block",         "parallel_block_tied_norm", "use_rms_norm", "rotary_head_dim",
        "causal",  "rotary_emb_interleaved", "rotary_emb_scale_base",    "hidden_size",  NULL};
    const config_size sizes[] = {
        {"vocab_size", CONFIG_VOCAB_MAX, &out->vocab},
        {"n_embd", CONFIG_WIDTH_MAX, &out->hidden},
        {"n_layer", MODEL_LAYERS_MAX, &out->layers},
        {"n_head", CONFIG_WIDTH_MAX, &out->heads},
        {"n_positions", CONFIG_POSITIONS_MAX, &out->positions},
    };
    sem_status status = refuse_set(UNSUPPORTED, c, where, err);
    if (status == SEM_OK)
        status = config_read_sizes(sizes, sizeof sizes / sizeof sizes[0], c, where, err);
    if (status == SEM_OK)
        status = check_heads(out, where, err);
    if (status == SEM_OK)
        status = refuse_other("num_heads_kv", (double)out->heads, c, where, err);
    if (status == SEM_OK)
        status = refuse_other("moe_every_n_layers", 0, c, where, err);
    if (status == SEM_OK)
        status = read_nomic_gate(out, c, where, err);
    if (status == SEM_OK)
        status = read_nomic_tables(out, c, where, err);
    if (status == SEM_OK)
        status = read_nomic_rotary(out, c, where, err);
    if (status == SEM_OK)
        status = read_bias(c, where, "qkv_proj_bias", true, &out->no_attention_bias, err);
    if (status == SEM_OK)
        status = read_bias(c, where, "mlp_fc1_bias", true, &out->no_up_bias, err);
    if (status == SEM_OK)
        status = read_bias(c, where, "mlp_fc2_bias", true, &out->no_down_bias, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "layer_norm_epsilon", 1e-5, &out->layer_norm_eps, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, "resid_pdrop", 0.1, &out->hidden_dropout, err);
    return status == SEM_OK ? config_read_fraction(c, where, "attn_pdrop", 0.1, &out->attention_dropout, err) : status;
}

sem_status config_read_nomic(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    out->gated = true;
    return json_object_get(c, "n_embd") != NULL ? read_nomic_own(out, c, where, err)
                                                : read_nomic_new(out, c, where, err);
}
