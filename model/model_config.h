/* What a Hugging Face / sentence-transformers directory says about its model:
 * config.json, modules.json with the modules' own files, sentence_bert_config.json,
 * tokenizer_config.json and config_sentence_transformers.json, in the old and
 * in the new form. What is not understood is refused by name, never guessed. */
#ifndef SEM_MODEL_MODEL_CONFIG_H
#define SEM_MODEL_MODEL_CONFIG_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum model_family {
    FAMILY_BERT,
    FAMILY_ROBERTA, /* XLM-RoBERTa too: positions count from behind the padding's id */
    FAMILY_DISTILBERT,
    FAMILY_MPNET,
    FAMILY_MODERNBERT,
    FAMILY_NOMIC
} model_family;
/* Of the feed-forward layers: x Phi(x), its approximation by tanh, max(x, 0), x sigmoid(x). */
typedef enum model_activation { ACT_GELU, ACT_GELU_TANH, ACT_RELU, ACT_SILU } model_activation;
/* Several may be joined; then they are concatenated in this order. */
typedef enum model_pooling {
    POOL_CLS = 1,
    POOL_MAX = 2,
    POOL_MEAN = 4,
    POOL_MEAN_SQRT_LEN = 8,
    POOL_WEIGHTED_MEAN = 16,
    POOL_LAST_TOKEN = 32
} model_pooling;

/* A Dense module behind the pooling: activation(W x + b). */
typedef enum dense_activation {
    DENSE_TANH, /* where the module names none */
    DENSE_IDENTITY,
    DENSE_RELU,
    DENSE_GELU,
    DENSE_SILU,
    DENSE_SIGMOID
} dense_activation;

typedef struct model_dense {
    char folder[64]; /* below the model's own */
    size_t in, out;
    bool bias;
    dense_activation activation;
} model_dense;

enum { MODEL_DENSE_MAX = 4, MODEL_LAYERS_MAX = 512 };

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
    size_t positions;     /* rows of the position table, or where positions are rotary what the model was made for */
    /* 0, or the padding's id + 1 where a text's positions count from there; then
     * the padding token itself, should a text spell it, has the position of its id. */
    size_t position_start;
    size_t types;            /* rows of the token type table; 0: there is none */
    size_t relative_buckets; /* rows of the table of relative position biases; 0: there is none */
    /* Rotary positions (model/rotary.h) instead of a table: columns i and i + D / 2
     * of a head turn by position / theta^(2i / D). 0: there are none. */
    float rotary_theta;
    /* Layers whose tokens see only those at most window away, and their theta. */
    bool local[MODEL_LAYERS_MAX];
    size_t window;
    float local_theta;
    /* The feed-forward layer is f(x W) * (x V) (Shazeer 2020, "GLU variants"), its first matrix [2F, H]. */
    bool gated;
    /* Layers normalise what they read and one LayerNorm follows the last (Xiong
     * et al. 2020), instead of normalising their sums. */
    bool prenorm;
    bool no_attention_bias, no_up_bias, no_down_bias, no_norm_bias;
    float layer_norm_eps;
    float hidden_dropout;    /* probability, used in training only */
    float attention_dropout; /* probability, used in training only */
    model_activation activation;
    unsigned pooling;                   /* model_pooling bits */
    model_dense dense[MODEL_DENSE_MAX]; /* applied in this order to what is pooled */
    size_t dense_count;
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
/* "Tanh", "Identity", ... */
const char *model_config_dense_activation_name(dense_activation activation);
/* "mean", "cls", ... or "cls+mean" when several are joined; static or inside buffer. */
const char *model_config_pooling_name(const model_config *config, char *buffer, size_t size);

#endif
