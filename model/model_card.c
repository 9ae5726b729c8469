#include "model/model_card.h"

#include "base/buffer.h"
#include "base/files.h"
#include "model/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CONFIG_FILE_MAX = 16 << 20, CARD_FILE_MAX = 4 << 20 }; /* bytes */

/* --- files */

static sem_status write_json(const char *dir, const char *name, const json_t *value, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", dir, name);
    if (status != SEM_OK)
        return status;
    return json_write_path(path, value, err);
}

/* Loads dir/name; *out is NULL when there is none. */
static sem_status load_json(json_t **out, const char *dir, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX];
    *out = NULL;
    sem_status status = files_join(path, err, "%s/%s", dir, name);
    if (status != SEM_OK || access(path, F_OK) != 0)
        return status;
    return json_load_path(out, path, CONFIG_FILE_MAX, err);
}

/* --- configuration */

/* transformers 4 reads torch_dtype, transformers 5 dtype. */
static sem_status write_config(const char *dir, sem_error *err)
{
    json_t *c;
    sem_status status = load_json(&c, dir, "config.json", err);
    if (status != SEM_OK)
        return status;
    bool ok = json_object_set_new(c, "torch_dtype", json_string("float32")) == 0;
    if (ok && json_object_get(c, "dtype") != NULL)
        ok = json_object_set_new(c, "dtype", json_string("float32")) == 0;
    status = ok ? write_json(dir, "config.json", c, err) : sem_fail_memory(err, "config.json");
    json_decref(c);
    return status;
}

static sem_status write_pooling(const char *dir, const char *folder, const model_config *config, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", dir, folder);
    if (status == SEM_OK)
        status = files_make_folder(path, err);
    if (status != SEM_OK)
        return status;
    json_t *c = json_pack("{s:I, s:b, s:b, s:b, s:b}", "word_embedding_dimension", (json_int_t)config->hidden,
                          "pooling_mode_cls_token", (config->pooling & POOL_CLS) != 0, "pooling_mode_mean_tokens",
                          (config->pooling & POOL_MEAN) != 0, "pooling_mode_max_tokens",
                          (config->pooling & POOL_MAX) != 0, "pooling_mode_mean_sqrt_len_tokens",
                          (config->pooling & POOL_MEAN_SQRT_LEN) != 0);
    bool ok = c != NULL; /* the oldest readers refuse keys that they do not know: only where they say something */
    if (ok && (config->pooling & POOL_WEIGHTED_MEAN) != 0)
        ok = json_object_set_new(c, "pooling_mode_weightedmean_tokens", json_true()) == 0;
    if (ok && (config->pooling & POOL_LAST_TOKEN) != 0)
        ok = json_object_set_new(c, "pooling_mode_lasttoken", json_true()) == 0;
    status = ok ? write_json(path, "config.json", c, err) : sem_fail_memory(err, path);
    json_decref(c);
    return status;
}

/* Without the keys that only new readers know: the defaults mean the same. */
static sem_status write_dense(const char *dir, const model_dense *dense, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", dir, dense->folder);
    if (status != SEM_OK)
        return status;
    json_t *c =
        json_pack("{s:I, s:I, s:b, s:o}", "in_features", (json_int_t)dense->in, "out_features", (json_int_t)dense->out,
                  "bias", (int)dense->bias, "activation_function",
                  json_sprintf("torch.nn.modules.%s.%s", dense->activation == DENSE_IDENTITY ? "linear" : "activation",
                               model_config_dense_activation_name(dense->activation)));
    status = write_json(path, "config.json", c, err);
    json_decref(c);
    return status;
}

/* Old names of the types; what model_config_read has accepted has no others. */
static sem_status write_modules(const char *dir, const model_config *config, sem_error *err)
{
    json_t *modules;
    sem_status status = load_json(&modules, dir, "modules.json", err);
    if (status != SEM_OK)
        return status;
    if (modules == NULL)
        modules = json_pack("[{s:i,s:s,s:s,s:s},{s:i,s:s,s:s,s:s}]", "idx", 0, "name", "0", "path", "", "type",
                            "Transformer", "idx", 1, "name", "1", "path", "1_Pooling", "type", "Pooling");
    bool ok = modules != NULL;
    for (size_t i = 0; ok && i < json_array_size(modules); i++) {
        json_t *module = json_array_get(modules, i);
        const char *type = json_string_value(json_object_get(module, "type"));
        const char *dot = type == NULL ? NULL : strrchr(type, '.');
        ok = type != NULL &&
             json_object_set_new(module, "type",
                                 json_sprintf("sentence_transformers.models.%s", dot != NULL ? dot + 1 : type)) == 0;
    }
    status = ok ? write_json(dir, "modules.json", modules, err) : sem_fail_memory(err, "modules.json");
    const char *pooling = json_string_value(json_object_get(json_array_get(modules, 1), "path"));
    if (status == SEM_OK)
        status = write_pooling(dir, pooling != NULL ? pooling : "1_Pooling", config, err);
    for (size_t i = 0; status == SEM_OK && i < config->dense_count; i++)
        status = write_dense(dir, &config->dense[i], err);
    json_decref(modules);
    return status;
}

static sem_status write_lengths(const char *dir, const model_config *config, sem_error *err)
{
    json_t *c = json_pack("{s:I, s:b}", "max_seq_length", (json_int_t)config->max_tokens, "do_lower_case", 0);
    sem_status status = write_json(dir, "sentence_bert_config.json", c, err);
    json_decref(c);
    return status;
}

/* transformers 5 writes a class name that transformers 4 does not know, for what
 * both know as PreTrainedTokenizerFast. The text is edited, not parsed and
 * written, because its integers may exceed 64 bits. */
static sem_status write_tokenizer_class(const char *dir, sem_error *err)
{
    static const char NEW_CLASS[] = "\"TokenizersBackend\"", OLD_CLASS[] = "\"PreTrainedTokenizerFast\"";
    char path[FILES_PATH_MAX];
    char *text;
    size_t size;
    sem_status status = files_join(path, err, "%s/tokenizer_config.json", dir);
    if (status != SEM_OK || access(path, F_OK) != 0)
        return status;
    status = files_read(path, CONFIG_FILE_MAX, &text, &size, err);
    if (status != SEM_OK)
        return status;
    const char *found = strstr(text, NEW_CLASS);
    buffer out = {0};
    if (found != NULL) {
        const char *rest = found + strlen(NEW_CLASS);
        bool ok = buffer_append(&out, text, (size_t)(found - text)) &&
                  buffer_append(&out, OLD_CLASS, strlen(OLD_CLASS)) &&
                  buffer_append(&out, rest, size - (size_t)(rest - text));
        status = ok ? files_write(path, out.data, out.size, err) : sem_fail_memory(err, path);
    }
    buffer_free(&out);
    free(text);
    return status;
}

sem_status model_card_write_configs(const char *dir, const model_config *config, sem_error *err)
{
    sem_status status = write_config(dir, err);
    if (status == SEM_OK)
        status = write_modules(dir, config, err);
    if (status == SEM_OK)
        status = write_lengths(dir, config, err);
    if (status == SEM_OK)
        status = write_tokenizer_class(dir, err);
    return status;
}

/* --- README.md */

__attribute__((format(printf, 2, 3))) static bool add(buffer *b, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return n >= 0 && buffer_append(b, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

/* The lines of the parent's front matter that a derived model has to keep. */
static bool add_kept_lines(buffer *b, const char *card)
{
    static const char *const KEPT[] = {"license:", "license_name:", "license_link:", "language:"};
    if (strncmp(card, "---\n", 4) != 0)
        return true;
    bool inside = false; /* of a list that belongs to a kept key */
    for (const char *line = card + 4; *line != '\0' && strncmp(line, "---", 3) != 0;) {
        size_t length = strcspn(line, "\n");
        if (line[0] != ' ' && line[0] != '-') {
            inside = false;
            for (size_t i = 0; i < sizeof KEPT / sizeof KEPT[0]; i++)
                inside = inside || strncmp(line, KEPT[i], strlen(KEPT[i])) == 0;
        }
        if (inside && !(buffer_append(b, line, length) && buffer_append(b, "\n", 1)))
            return false;
        line += length;
        line += *line == '\n' ? 1 : 0;
    }
    return true;
}

static bool add_dense(buffer *b, const model_config *config)
{
    bool ok = true;
    for (size_t i = 0; ok && i < config->dense_count; i++)
        ok = add(b, "- then a dense layer: %zu to %zu, %s\n", config->dense[i].in, config->dense[i].out,
                 model_config_dense_activation_name(config->dense[i].activation));
    return ok;
}

/* Quoted as in JSON: a prompt may end in a space or hold a line break. */
static bool add_prompts(buffer *b, const model_config *config)
{
    bool ok = true;
    for (size_t i = 0; ok && i < config->prompt_count; i++) {
        if (config->prompts[i].text[0] == '\0')
            continue;
        json_t *pair = json_pack("{s:s}", config->prompts[i].name, config->prompts[i].text);
        char *text = pair == NULL ? NULL : json_dumps(pair, JSON_COMPACT);
        ok = text != NULL && add(b, "- prompt `") && buffer_append(b, text, strlen(text)) && add(b, "`\n");
        free(text);
        json_decref(pair);
    }
    return ok;
}

static bool add_body(buffer *b, const model_config *config, bool has_generation)
{
    char pooling[128];
    return add(b,
               "# A sentence embedding model, made by semd\n\n"
               "It maps texts to vectors of %zu numbers whose cosine says how well they match.\n\n",
               config->dim) &&
           add(b, "- family: %s, %zu layers, %zu wide\n- vector: %zu float32\n", config->family_name, config->layers,
               config->hidden, config->dim) &&
           add(b, "- longest text: %zu tokens\n- pooling: %s%s\n", config->max_tokens,
               model_config_pooling_name(config, pooling, sizeof pooling),
               config->normalize ? ", then normalised" : "") &&
           add_dense(b, config) && add_prompts(b, config) &&
           add(b, "\n```python\nfrom sentence_transformers import SentenceTransformer\n\n"
                  "model = SentenceTransformer(\"path/to/this/folder\")\n"
                  "vectors = model.encode([\"a text\", \"another one\"], normalize_embeddings=True)\n```\n") &&
           (!has_generation ||
            add(b, "\n`semd_generation.json` says which model it came from, on what data it was tuned, and how it "
                   "compared.\n"));
}

sem_status model_card_write_readme(const char *parent, const char *dir, const model_config *config, bool has_generation,
                                   sem_error *err)
{
    char path[FILES_PATH_MAX];
    char *card = NULL;
    size_t size;
    sem_status status = files_join(path, err, "%s/README.md", parent);
    if (status == SEM_OK && access(path, F_OK) == 0)
        status = files_read(path, CARD_FILE_MAX, &card, &size, err);
    if (status == SEM_OK)
        status = files_join(path, err, "%s/README.md", dir);
    if (status != SEM_OK) {
        free(card);
        return status;
    }
    buffer b = {0};
    bool ok = add(&b, "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n") &&
              (card == NULL || add_kept_lines(&b, card)) &&
              add(&b, "tags:\n- sentence-transformers\n- sentence-similarity\n- feature-extraction\n- semd\n---\n\n") &&
              add_body(&b, config, has_generation);
    status = ok ? files_write(path, b.data, b.size, err) : sem_fail_memory(err, path);
    buffer_free(&b);
    free(card);
    return status;
}
