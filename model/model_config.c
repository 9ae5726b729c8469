#include "model/model_config.h"

#include "base/files.h"
#include "model/config_parts.h"
#include "model/json.h"
#include "model/model_modules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONFIG_FILE_MAX = 16 << 20, /* bytes; tokenizer_config.json lists every added token */
    MIN_TOKENS = 3              /* [CLS], one of the text, [SEP] */
};

/* --- config.json */

/* Settings that change what the model computes and that nothing here follows. */
static sem_status refuse_unsupported(const model_config *out, const json_t *c, const char *where, sem_error *err)
{
    const char *position = "absolute";
    sem_status status = json_get_string(c, where, "position_embedding_type", false, &position, err);
    if (status != SEM_OK)
        return status;
    if (strcmp(position, "absolute") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: position_embedding_type %.64s is not supported; absolute is",
                        where, position);
    static const char *const FLAGS[] = {"is_decoder", "add_cross_attention"};
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++) {
        bool set = false;
        status = json_get_bool(c, where, FLAGS[i], false, &set, err);
        if (status != SEM_OK)
            return status;
        if (set)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is true, which is not supported", where, FLAGS[i]);
    }
    static const char *const PARTS[] = {"quantization_config", "pruned_heads", "auto_map"};
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        const json_t *part = json_object_get(c, PARTS[i]);
        if (out->family == FAMILY_NOMIC && strcmp(PARTS[i], "auto_map") == 0 && json_is_object(part)) {
            status = config_check_nomic_code(part, where, err);
            if (status != SEM_OK)
                return status;
            continue;
        }
        if (part != NULL && !json_is_null(part) && !(json_is_object(part) && json_object_size(part) == 0))
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is not supported", where, PARTS[i]);
    }
    return SEM_OK;
}

/* What the families call the same things; nothing where config_rotary.c reads it. */
typedef struct family_keys {
    const char *type; /* model_type */
    model_family family;
    const char *activation, *hidden, *layers, *heads, *intermediate;
    const char *dropout, *attention_dropout;
} family_keys;

#define BERT_KEYS                                                                                                      \
    "hidden_act", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",                      \
        "hidden_dropout_prob", "attention_probs_dropout_prob"

static const family_keys FAMILIES[] = {
    {"bert", FAMILY_BERT, BERT_KEYS},
    {"roberta", FAMILY_ROBERTA, BERT_KEYS},
    {"xlm-roberta", FAMILY_ROBERTA, BERT_KEYS},
    {"mpnet", FAMILY_MPNET, BERT_KEYS},
    {"distilbert", FAMILY_DISTILBERT, "activation", "dim", "n_layers", "n_heads", "hidden_dim", "dropout",
     "attention_dropout"},
    {"modernbert", FAMILY_MODERNBERT, NULL, NULL, NULL, NULL, NULL, NULL, NULL},
    {"nomic_bert", FAMILY_NOMIC, NULL, NULL, NULL, NULL, NULL, NULL, NULL},
};

static const struct {
    const char *name;
    model_activation activation;
} ACTIVATIONS[] = {
    {"gelu", ACT_GELU}, {"gelu_new", ACT_GELU_TANH}, {"gelu_pytorch_tanh", ACT_GELU_TANH},
    {"relu", ACT_RELU}, {"silu", ACT_SILU},          {"swish", ACT_SILU},
};

sem_status config_read_activation(model_activation *out, const char *key, const char *standard, const json_t *c,
                                  const char *where, sem_error *err)
{
    const char *name = standard;
    sem_status status = json_get_string(c, where, key, standard == NULL, &name, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < sizeof ACTIVATIONS / sizeof ACTIVATIONS[0]; i++)
        if (strcmp(name, ACTIVATIONS[i].name) == 0) {
            *out = ACTIVATIONS[i].activation;
            return SEM_OK;
        }
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "%s: %s %.64s is not supported; gelu, gelu_new, gelu_pytorch_tanh, relu and silu are", where, key,
                    name);
}

static sem_status read_family(model_config *out, const family_keys **keys, const json_t *c, const char *where,
                              sem_error *err)
{
    const char *type = NULL;
    sem_status status = json_get_string(c, where, "model_type", true, &type, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < sizeof FAMILIES / sizeof FAMILIES[0]; i++)
        if (strcmp(type, FAMILIES[i].type) == 0) {
            *keys = &FAMILIES[i];
            out->family = FAMILIES[i].family;
            snprintf(out->family_name, sizeof out->family_name, "%s", type);
            return SEM_OK;
        }
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "%s: model_type %.64s is not supported; bert, distilbert, roberta, xlm-roberta, mpnet, modernbert "
                    "and nomic_bert are",
                    where, type);
}

/* How a family tells tokens their places. */
static sem_status read_places(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    sem_status status = SEM_OK;
    size_t pad = 1;
    if (out->family == FAMILY_BERT || out->family == FAMILY_ROBERTA)
        status = json_get_size(c, where, "type_vocab_size", true, 1, CONFIG_WIDTH_MAX, &out->types, err);
    if (status == SEM_OK && out->family == FAMILY_ROBERTA)
        status = json_get_size(c, where, "pad_token_id", false, 0, out->vocab - 1, &pad, err);
    if (status != SEM_OK)
        return status;
    /* MPNet's padding is 1 whatever pad_token_id says: transformers has it in the code. */
    if (out->family == FAMILY_ROBERTA || out->family == FAMILY_MPNET)
        out->position_start = pad + 1;
    if (out->family != FAMILY_MPNET)
        return SEM_OK;
    out->relative_buckets = 32;
    /* transformers computes the buckets for a table of 32 rows and no other. */
    return json_get_size(c, where, "relative_attention_num_buckets", false, 32, 32, &out->relative_buckets, err);
}

sem_status config_read_sizes(const config_size *sizes, size_t count, const json_t *c, const char *where, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; status == SEM_OK && i < count; i++)
        status = json_get_size(c, where, sizes[i].key, true, 1, sizes[i].max, sizes[i].out, err);
    return status;
}

static sem_status read_sizes(model_config *out, const family_keys *keys, const json_t *c, const char *where,
                             sem_error *err)
{
    const config_size sizes[] = {
        {"vocab_size", CONFIG_VOCAB_MAX, &out->vocab},
        {keys->hidden, CONFIG_WIDTH_MAX, &out->hidden},
        {keys->layers, MODEL_LAYERS_MAX, &out->layers},
        {keys->heads, CONFIG_WIDTH_MAX, &out->heads},
        {keys->intermediate, CONFIG_WIDTH_MAX * 4, &out->intermediate},
        {"max_position_embeddings", CONFIG_POSITIONS_MAX, &out->positions},
    };
    sem_status status = config_read_sizes(sizes, sizeof sizes / sizeof sizes[0], c, where, err);
    if (status != SEM_OK)
        return status;
    if (out->hidden % out->heads != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s %zu is no multiple of %s %zu", where, keys->hidden,
                        out->hidden, keys->heads, out->heads);
    return read_places(out, c, where, err);
}

sem_status config_read_fraction(const json_t *c, const char *where, const char *key, double standard, float *out,
                                sem_error *err)
{
    double value = standard;
    sem_status status = json_get_double(c, where, key, false, &value, err);
    if (status != SEM_OK)
        return status;
    if (!(value >= 0 && value < 1))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: %s is %g, expected 0 or more and less than 1", where, key,
                        value);
    *out = (float)value;
    return SEM_OK;
}

/* The families whose positions are a table. */
static sem_status read_table_family(model_config *out, const family_keys *keys, const json_t *c, const char *where,
                                    sem_error *err)
{
    sem_status status = config_read_activation(&out->activation, keys->activation, NULL, c, where, err);
    if (status == SEM_OK)
        status = refuse_unsupported(out, c, where, err);
    if (status == SEM_OK)
        status = read_sizes(out, keys, c, where, err);
    out->layer_norm_eps = 1e-12f; /* DistilBERT's, which its configuration can't change */
    if (status == SEM_OK && out->family != FAMILY_DISTILBERT)
        status = config_read_fraction(c, where, "layer_norm_eps", 1e-12, &out->layer_norm_eps, err);
    if (status == SEM_OK)
        status = config_read_fraction(c, where, keys->dropout, 0.1, &out->hidden_dropout, err);
    return status == SEM_OK ? config_read_fraction(c, where, keys->attention_dropout, 0.1, &out->attention_dropout, err)
                            : status;
}

static sem_status read_rotary_family(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    sem_status status = refuse_unsupported(out, c, where, err);
    if (status != SEM_OK)
        return status;
    return out->family == FAMILY_NOMIC ? config_read_nomic(out, c, where, err)
                                       : config_read_modernbert(out, c, where, err);
}

static sem_status read_config(model_config *out, const char *dir, sem_error *err)
{
    char path[FILES_PATH_MAX];
    json_t *c;
    const family_keys *keys = NULL;
    sem_status status = files_join(path, err, "%s/config.json", dir);
    if (status == SEM_OK)
        status = json_load_path(&c, path, CONFIG_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    status = read_family(out, &keys, c, path, err);
    if (status == SEM_OK)
        status = out->family == FAMILY_NOMIC || out->family == FAMILY_MODERNBERT
                     ? read_rotary_family(out, c, path, err)
                     : read_table_family(out, keys, c, path, err);
    json_decref(c);
    return status;
}

/* --- how long a text may be */

static sem_status check_sentence_config(const json_t *c, const char *where, sem_error *err)
{
    bool lower = false;
    sem_status status = json_get_bool(c, where, "do_lower_case", false, &lower, err);
    if (status != SEM_OK)
        return status;
    if (lower)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: do_lower_case is true, which is not supported: let tokenizer.json lower the case", where);
    const char *task = "feature-extraction";
    status = json_get_string(c, where, "transformer_task", false, &task, err);
    if (status != SEM_OK)
        return status;
    if (strcmp(task, "feature-extraction") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: transformer_task %.64s is not supported; feature-extraction is",
                        where, task);
    const char *output = "last_hidden_state";
    const json_t *text = json_object_get(json_object_get(c, "modality_config"), "text");
    if (text != NULL)
        status = json_get_string(text, where, "method_output_name", false, &output, err);
    if (status == SEM_OK && strcmp(output, "last_hidden_state") != 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT,
                          "%s: method_output_name %.64s is not supported; last_hidden_state is", where, output);
    return status;
}

/* max_seq_length of sentence_bert_config.json (or of the same under another
 * model's name); unchanged where nothing is said. */
static sem_status read_sentence_config(size_t *max, const char *dir, sem_error *err)
{
    static const char *const NAMES[] = {"bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"};
    char path[FILES_PATH_MAX];
    bool found = false;
    for (size_t i = 0; !found && i < sizeof NAMES / sizeof NAMES[0]; i++) {
        sem_status status = files_join(path, err, "%s/sentence_%s_config.json", dir, NAMES[i]);
        if (status != SEM_OK)
            return status;
        found = access(path, F_OK) == 0;
    }
    if (!found)
        return SEM_OK;
    json_t *c;
    sem_status status = json_load_path(&c, path, CONFIG_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    status = check_sentence_config(c, path, err);
    if (status == SEM_OK)
        status = json_get_size(c, path, "max_seq_length", false, MIN_TOKENS, INT32_MAX, max, err);
    json_decref(c);
    return status;
}

/* model_max_length of tokenizer_config.json, which is 10^30 where nobody set it. */
static sem_status read_tokenizer_config(size_t *max, const char *dir, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/tokenizer_config.json", dir);
    if (status != SEM_OK || access(path, F_OK) != 0)
        return status;
    json_t *c;
    status = json_load_path_reals(&c, path, CONFIG_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    double length = (double)SIZE_MAX;
    status = json_get_double(c, path, "model_max_length", false, &length, err);
    if (status == SEM_OK && !(length >= MIN_TOKENS))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model_max_length is %g, expected at least %d", path, length,
                          MIN_TOKENS);
    if (status == SEM_OK && length < (double)*max)
        *max = (size_t)length;
    json_decref(c);
    return status;
}

static sem_status read_max_tokens(model_config *out, const char *dir, sem_error *err)
{
    size_t max = 0; /* not set */
    sem_status status = read_sentence_config(&max, dir, err);
    if (status == SEM_OK && max == 0) {
        max = INT32_MAX;
        status = read_tokenizer_config(&max, dir, err);
    }
    if (status != SEM_OK)
        return status;
    if (out->positions < out->position_start + MIN_TOKENS)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: max_position_embeddings is %zu, expected at least %zu", dir,
                        out->positions, out->position_start + MIN_TOKENS);
    size_t places = out->positions - out->position_start;
    out->max_tokens = max < places ? max : places;
    return SEM_OK;
}

/* --- config_sentence_transformers.json */

static sem_status add_prompt(model_config *out, const char *where, const char *name, const json_t *text, sem_error *err)
{
    if (!json_is_string(text) && !json_is_null(text))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: prompts.%.64s is %s, expected a string", where, name,
                        json_type_name(text));
    model_prompt *prompt = &out->prompts[out->prompt_count];
    prompt->name = strdup(name);
    prompt->text = strdup(json_is_null(text) ? "" : json_string_value(text));
    out->prompt_count++;
    return prompt->name == NULL || prompt->text == NULL ? sem_fail_memory(err, "the prompts") : SEM_OK;
}

static sem_status read_prompts(model_config *out, const json_t *c, const char *where, sem_error *err)
{
    const json_t *prompts = json_object_get(c, "prompts");
    if (prompts != NULL && !json_is_null(prompts) && !json_is_object(prompts))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: prompts is %s, expected an object", where,
                        json_type_name(prompts));
    out->prompts = calloc(json_object_size(prompts) + 1, sizeof *out->prompts);
    if (out->prompts == NULL)
        return sem_fail_memory(err, "the prompts");
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)prompts, name, text)
    {
        sem_status status = add_prompt(out, where, name, text, err);
        if (status != SEM_OK)
            return status;
    }
    const char *standard = NULL;
    sem_status status = json_get_string(c, where, "default_prompt_name", false, &standard, err);
    if (status != SEM_OK || standard == NULL)
        return status;
    if (model_config_prompt(out, standard) == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: default_prompt_name %.64s is not among the prompts", where,
                        standard);
    out->default_prompt = strdup(standard);
    return out->default_prompt == NULL ? sem_fail_memory(err, "the prompts") : SEM_OK;
}

/* What this file may ask for and is not done is refused by name. */
static sem_status check_sentence_transformers(const model_config *out, const json_t *c, const char *where,
                                              sem_error *err)
{
    const char *kind = "SentenceTransformer", *similarity = "cosine";
    sem_status status = json_get_string(c, where, "model_type", false, &kind, err);
    if (status == SEM_OK)
        status = json_get_string(c, where, "similarity_fn_name", false, &similarity, err);
    size_t dim = out->dim;
    if (status == SEM_OK)
        status = json_get_size(c, where, "truncate_dim", false, 1, SIZE_MAX >> 1, &dim, err);
    if (status != SEM_OK)
        return status;
    if (strcmp(kind, "SentenceTransformer") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: model_type %.64s is not supported; SentenceTransformer is",
                        where, kind);
    if (strcmp(similarity, "cosine") != 0 && strcmp(similarity, "dot") != 0 && strcmp(similarity, "euclidean") != 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "%s: similarity_fn_name %.64s is not supported; cosine, dot and euclidean are (all rank alike "
                        "on unit vectors)",
                        where, similarity);
    if (dim != out->dim)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: truncate_dim is %zu, which is not supported; the model has %zu",
                        where, dim, out->dim);
    const json_t *requirements = json_object_get(c, "requirements");
    if (json_object_size(requirements) > 0 || json_array_size(requirements) > 0 || json_string_length(requirements) > 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: requirements cannot be honoured", where);
    return SEM_OK;
}

static sem_status read_sentence_transformers(model_config *out, const char *dir, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/config_sentence_transformers.json", dir);
    if (status != SEM_OK || access(path, F_OK) != 0)
        return status;
    json_t *c;
    status = json_load_path(&c, path, CONFIG_FILE_MAX, err);
    if (status != SEM_OK)
        return status;
    status = check_sentence_transformers(out, c, path, err);
    if (status == SEM_OK)
        status = read_prompts(out, c, path, err);
    json_decref(c);
    return status;
}

/* --- the whole directory */

static sem_status check_prompt_pooling(const model_config *config, bool include_prompt, const char *dir, sem_error *err)
{
    for (size_t i = 0; !include_prompt && i < config->prompt_count; i++)
        if (config->prompts[i].text[0] != '\0')
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "%s: the pooling's include_prompt is false and prompt %.64s is not empty: leaving prompt "
                            "tokens out of the pooling is not supported",
                            dir, config->prompts[i].name);
    return SEM_OK;
}

sem_status model_config_read(model_config *out, const char *dir, sem_error *err)
{
    model_config config = {0};
    bool include_prompt = true;
    sem_status status = read_config(&config, dir, err);
    if (status == SEM_OK)
        status = model_modules_read(&config, dir, &include_prompt, err);
    if (status == SEM_OK)
        status = read_max_tokens(&config, dir, err);
    if (status == SEM_OK)
        status = read_sentence_transformers(&config, dir, err);
    if (status == SEM_OK)
        status = check_prompt_pooling(&config, include_prompt, dir, err);
    if (status != SEM_OK) {
        model_config_free(&config);
        return status;
    }
    *out = config;
    return SEM_OK;
}

void model_config_free(model_config *config)
{
    for (size_t i = 0; i < config->prompt_count; i++) {
        free(config->prompts[i].name);
        free(config->prompts[i].text);
    }
    free(config->prompts);
    free(config->default_prompt);
    config->prompts = NULL;
    config->default_prompt = NULL;
    config->prompt_count = 0;
}

const char *model_config_prompt(const model_config *config, const char *name)
{
    for (size_t i = 0; i < config->prompt_count; i++)
        if (strcmp(config->prompts[i].name, name) == 0)
            return config->prompts[i].text;
    return NULL;
}

/* The first of the names that is there, else the default prompt, else "". */
static const char *prompt_or_default(const model_config *config, const char *first, const char *second)
{
    const char *text = model_config_prompt(config, first);
    if (text == NULL && second != NULL)
        text = model_config_prompt(config, second);
    if (text == NULL && config->default_prompt != NULL)
        text = model_config_prompt(config, config->default_prompt);
    return text != NULL ? text : "";
}

const char *model_config_query_prompt(const model_config *config)
{
    return prompt_or_default(config, "query", NULL);
}

const char *model_config_document_prompt(const model_config *config)
{
    return prompt_or_default(config, "document", "passage");
}
