/* Contrastive training of a sentence encoder: multiple negatives ranking loss
 * (Henderson et al. 2017) with AdamW (Loshchilov and Hutter 2019). */
#ifndef SEM_FINETUNE_TRAINER_H
#define SEM_FINETUNE_TRAINER_H

#include "base/files.h"
#include "base/log.h"
#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "finetune/loss_matryoshka.h"
#include "finetune/loss_mnrl.h"
#include "finetune/train_loop.h"
#include "finetune/train_origin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A hard negative: a text that looks like a pair's document and is none. */
typedef struct train_negative {
    const char *text; /* UTF-8 */
    size_t length;
    uint64_t key;        /* of the document, as a pair's document_key */
    const float *vector; /* as a pair's document_vector */
} train_negative;

typedef struct train_pair {
    const char *query; /* anchor; UTF-8 */
    size_t query_length;
    const char *document; /* positive; UTF-8 */
    size_t document_length;
    uint64_t document_key;           /* equal keys: the same document; never negatives of each other */
    uint64_t query_key;              /* equal keys: the same query; their documents are no negatives either */
    float weight;                    /* > 0; the loss is sum(w l) / sum(w) */
    const train_negative *negatives; /* [negative_count] told from by this batch's queries all */
    size_t negative_count;
    uint32_t domain; /* equal: batches have them together, as of one collection */
    train_origin origin;
    const float *document_vector; /* [dim] unit length: where the document is, for fixed_documents and anchor_weight;
                                   * borrowed, and not looked at without one of them */
} train_pair;

enum { TRAIN_DIMS_MAX = MATRYOSHKA_MOST - 1 };

/* Of the matrix products; weights, optimiser and all else are float32. */
typedef enum train_precision {
    TRAIN_AUTO, /* bfloat16 where the machine multiplies faster in it, else float32 */
    TRAIN_FLOAT32,
    TRAIN_BFLOAT16
} train_precision;

/* "auto", "float32", "bfloat16"; false if it is none of them. */
bool train_precision_of(const char *name, train_precision *out);

typedef struct train_config {
    uint64_t seed;
    double learning_rate; /* peak */
    double warmup_ratio;  /* share of the steps */
    double weight_decay;  /* decoupled; not on biases and LayerNorm */
    double clip_norm;     /* global gradient norm; 0: none */
    double scale;         /* of the cosine */
    mnrl_scale scale_kind;
    double margin;  /* of the ranking loss, 0 or more */
    bool symmetric; /* documents rank queries as well */
    bool frequency; /* documents of many pairs, and queries of many, weigh less as negatives (loss_mnrl.h) */
    char guide[FILES_PATH_MAX]; /* directory of a model by which documents as close to a query as its own, less the
                                 * margin, in cosine, are no negatives (loss_mask.h); "": none */
    double guide_margin;
    double negative_ratio;       /* a pair's own negatives that the guide scores above this times the score of its
                                  * document are left out; above 0 */
    bool fixed_documents;        /* documents and negatives have the vectors that are given and are not computed: what
                                  * is trained encodes queries alone */
    double anchor_weight;        /* of what keeps documents where they are (loss_anchor.h), 0 or more; not with
                                  * fixed_documents, which stay anyway */
    size_t dim_count;            /* of first dimensions that count beside all (loss_matryoshka.h); 0: none */
    size_t dims[TRAIN_DIMS_MAX]; /* rising; the model's own width weighs 1 where it is not among them */
    double dim_weights[TRAIN_DIMS_MAX];
    schedule_shape schedule;
    size_t accumulate;  /* batches a step */
    double layer_decay; /* param_groups.h, as the next two */
    bool freeze_embeddings;
    size_t freeze_layers;
    double average; /* below 1: what comes out is the weights' moving average (adamw.h); 0: the last */
    train_precision precision;
    double dropout;     /* below 0: the model's own */
    size_t batch_size;  /* pairs */
    double temperature; /* of what is drawn of replayed pairs and of own text (pair_order.h), at least 1: all of it */
    double mixed_share; /* of a domain's pairs, in batches of all domains */
    size_t epochs;      /* of one every new pair is a part, once */
    size_t max_steps;   /* 0: no limit */
    size_t max_tokens;  /* of a text in training; 0: the model's */
    train_shape shape;  /* of what is computed: packed, or padded to a few lengths */
    unsigned threads;
    niceness nice;           /* of the helpers: `added` 0 to 20 (base/niceness.h) */
    size_t tape_bytes;       /* about, for activations kept for the backward pass, over all threads: a batch
                              * that needs more is computed in pieces, to the same gradients, a quarter slower */
    const char *checkpoint;  /* path of the run's state, from which it goes on if it is there; NULL: none. The
                              * caller removes it when the result is saved */
    size_t checkpoint_every; /* steps */
} train_config;

void train_config_defaults(train_config *config);
/* Names the field, what was found and what is allowed. */
sem_status train_config_check(const train_config *config, sem_error *err);

/* Trains a copy of the model's weights on the pairs, at least 2 (prompts applied as in
 * serving). With fixed_documents or an anchor_weight every pair and every negative has a
 * vector, as wide as the model's. *params is malloc'd, in the layout of the model's encoder; the
 * caller owns it. The same seed, pairs and threads give the same bits, in one go or
 * from checkpoints. SEM_CANCELLED when *cancel became true; other errors as of
 * train_loop_run. */
sem_status train_mnrl(const model *base, const train_pair *pairs, size_t count, const train_config *config,
                      const train_control *control, float **params, train_report *report, sem_error *err);

#endif
