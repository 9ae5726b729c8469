/* What a Hugging Face / sentence-transformers directory says about its model:
 * config.json, modules.json with the modules' own files, sentence_bert_config.json,
 * tokenizer_config.json and config_sentence_transformers.json, in the old and
 * in the new form. What is not understood is refused by name, never guessed. */
#ifndef SEM_MODEL_MODEL_CONFIG_H
#define SEM_MODEL_MODEL_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum model_family { FAMILY_BERT } model_family;
typedef enum model_activation { ACT_GELU } model_activation;
/* Several may be joined; then they are concatenated in this order. */
typedef enum model_pooling {
    POOL_CLS = 1,
    POOL_MAX = 2,
    POOL_MEAN = 4,
    POOL_MEAN_SQRT_LEN = 8,
    POOL_WEIGHTED_MEAN = 16,
    POOL_LAST_TOKEN = 32
} model_pooling;

typedef struct model_prompt {
    char *name; /* "query", "document", ... */
    char *text; /* put before the text as it is */
} model_prompt;

typedef struct model_config {
    model_family family;
    char family_name[32]; /* config.json's model_type */
    size_t vocab;         /* V */
    size_t hidden;        /* H */
    size_t layers;        /* L */
    size_t heads;         /* A; H = A * D */
    size_t intermediate;  /* F, width of the feed-forward layer */
    size_t positions;     /* rows of the position table */
    size_t types;         /* rows of the token type table */
    float layer_norm_eps;
    float hidden_dropout;    /* probability, used in training only */
    float attention_dropout; /* probability, used in training only */
    model_activation activation;
    unsigned pooling;      /* model_pooling bits */
    bool normalize;        /* a Normalize module is present (what encode returns is unit length anyway) */
    size_t dim;            /* width of an embedding */
    size_t max_tokens;     /* special tokens included; <= what positions allow */
    model_prompt *prompts; /* owned */
    size_t prompt_count;
    char *default_prompt; /* owned; a prompt's name or NULL */
} model_config;

/* Reads the directory. On success the caller frees *out's content with model_config_free. */
sem_status model_config_read(model_config *out, const char *dir, sem_error *err);
void model_config_free(model_config *config);

/* The text of the named prompt, or NULL. */
const char *model_config_prompt(const model_config *config, const char *name);
/* The prompt for queries (`query`, else the default) or documents (`document`,
 * else `passage`, else the default); "" where there is none. */
const char *model_config_query_prompt(const model_config *config);
const char *model_config_document_prompt(const model_config *config);
/* "mean", "cls", ... or "cls+mean" when several are joined; static or inside buffer. */
const char *model_config_pooling_name(const model_config *config, char *buffer, size_t size);

#endif
