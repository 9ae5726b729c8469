/* Contrastive training of a sentence encoder: multiple negatives ranking loss
 * (Henderson et al. 2017) with AdamW (Loshchilov and Hutter 2019). */
#ifndef SEM_FINETUNE_TRAINER_H
#define SEM_FINETUNE_TRAINER_H

#include "base/log.h"
#include "base/status.h"
#include "model/model.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct train_pair {
    const char *query; /* anchor; UTF-8 */
    size_t query_length;
    const char *document; /* positive; UTF-8 */
    size_t document_length;
    uint64_t document_key; /* equal keys: the same document; never negatives of each other */
    uint64_t query_key;    /* equal keys: the same query; their documents are no negatives either */
    float weight;          /* > 0; the loss is sum(w l) / sum(w) */
} train_pair;

typedef struct train_config {
    uint64_t seed;
    double learning_rate; /* peak */
    double warmup_ratio;  /* share of the steps */
    double weight_decay;  /* decoupled; not on biases and LayerNorm */
    double clip_norm;     /* global gradient norm; 0: none */
    double scale;         /* of the cosine */
    double dropout;       /* below 0: the model's own */
    size_t batch_size;    /* pairs */
    size_t epochs;
    size_t max_steps;  /* 0: no limit */
    size_t max_tokens; /* of a text in training; 0: the model's */
    unsigned threads;
    int nice;          /* added to the helpers' nice value, 0 to 19 */
    size_t tape_bytes; /* about, for activations kept for the backward pass, over all threads: a batch
                              * that needs more is computed in pieces, to the same gradients, a quarter slower */
} train_config;

void train_config_defaults(train_config *config);
/* Names the field, what was found and what is allowed. */
sem_status train_config_check(const train_config *config, sem_error *err);

typedef struct train_progress {
    size_t step, steps;
    double loss; /* of the step */
    double learning_rate;
    double pairs_per_s;
    double eta_s;
} train_progress;

typedef struct train_control {
    const atomic_bool *cancel;                                  /* may be NULL */
    void (*progress)(void *context, const train_progress *now); /* may be NULL; after every step */
    void *context;
} train_control;

typedef struct train_report {
    size_t steps, pairs;
    double first_loss, last_loss; /* means over the first and last tenth of the steps */
    double seconds;
} train_report;

/* Trains a copy of the model's weights on the pairs, at least 2 (prompts applied as in
 * serving). *params is malloc'd, in the layout of the model's encoder; the
 * caller owns it. The same seed, pairs and threads give the same bits.
 * SEM_CANCELLED when *cancel became true. */
sem_status train_mnrl(const model *base, const train_pair *pairs, size_t count, const train_config *config,
                      const train_control *control, float **params, train_report *report, sem_error *err);

#endif
