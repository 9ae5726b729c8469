/* What serving and training share: the checked shape of a model, where each of
 * its parameters lies, and with what it is computed. */
#ifndef SEM_MODEL_ENCODER_PLAN_H
#define SEM_MODEL_ENCODER_PLAN_H

#include "model/attention.h"
#include "model/dense.h"
#include "model/embedding.h"
#include "model/encoder.h"
#include "model/kernels.h"
#include "model/rotary.h"

/* Entries of a param_layout at most: the embedding's, each layer's, the last LayerNorm's, the Dense modules'. */
enum { LAYER_PARAMS = 16, OTHER_PARAMS_MAX = 6 + 2 + 2 * MODEL_DENSE_MAX };

/* Tokens of one batch: sizes of matrices then fit in the 32-bit integers of a BLAS. */
enum { ENCODER_TOKENS_MAX = 1 << 22 };

/* The offset of a LayerNorm that a layer does not have. */
#define PARAM_NOWHERE SIZE_MAX

/* Offsets of one layer's parameters; biases that the model does not have lie in the layout's zeros. */
typedef struct layer_params {
    size_t qkv_weight, qkv_bias;     /* [3H, H], [3H] */
    size_t out_weight, out_bias;     /* [H, H], [H] */
    size_t norm1_weight, norm1_bias; /* [H]; of the attention's sum, or of its input where config->prenorm */
    size_t up_weight, up_bias;       /* [F, H], [F]; where config->gated [2F, H], [2F] */
    size_t down_weight, down_bias;   /* [H, F], [H] */
    size_t norm2_weight, norm2_bias; /* [H] */
    bool local;                      /* its tokens see those up to config->window away */
} layer_params;

/* All in which the families differ stands here: what encoder.c and
 * encoder_train.c do is the same for each. */
typedef struct encoder_plan {
    const model_config *config; /* borrowed */
    const gemm *g;              /* borrowed */
    const kernels *k;
    embedding_shape embedding;
    attention_shape attention;               /* of layers that are not local; its bias is set by encoder_plan_bind */
    size_t norm_weight, norm_bias;           /* of the embedding */
    size_t last_norm_weight, last_norm_bias; /* behind the last layer, where config->prenorm */
    size_t relative_bias;                    /* offset, where attention.buckets is not NULL */
    void (*activate)(const float *x, size_t n, float *y); /* of the feed-forward layers */
    void (*activate_backward)(float *u, float *d, size_t n);
    bool drops_attention_output; /* dropout behind the attention's output: all but DistilBERT */
    layer_params *layers;        /* [L], owned */
    uint8_t *buckets;            /* attention's, owned; NULL where there is no bias */
    rotary_table rotary, local_rotary;
    dense_head head;
    size_t total;              /* floats of the layout */
    size_t zeros, zeros_count; /* of the layout */
} encoder_plan;

/* Refuses what the encoder cannot compute. */
sem_status encoder_plan_create(encoder_plan *out, const model_config *config, const param_layout *layout, const gemm *g,
                               sem_error *err);
void encoder_plan_free(encoder_plan *plan);
/* Says from which parameters attention takes its bias, until the next call. */
void encoder_plan_bind(encoder_plan *plan, const float *params);

/* Columns of the feed-forward layer's first product: F, or 2F where it is gated. */
size_t encoder_up_columns(const model_config *config);
/* What the widest activations of a layer share: the larger of that and 3H. */
size_t encoder_wide_columns(const model_config *config);
/* What a layer's attention is computed with, and the table of its rotary
 * positions, NULL where it has none. Both are borrowed from the plan. */
attention_shape encoder_layer_attention(const encoder_plan *plan, const layer_params *layer);
const rotary_table *encoder_layer_rotary(const encoder_plan *plan, const layer_params *layer);
/* From u[rows, 2F] to f(u[, F]) * u[, F ..), with no gaps between the rows. */
void encoder_gate(const encoder_plan *plan, void (*f)(const float *x, size_t n, float *y), size_t rows, float *u);

/* A batch's size, and that ids and lengths are in range. */
typedef struct batch_size {
    size_t texts, tokens, longest;
} batch_size;

sem_status encoder_batch_check(const encoder_plan *plan, const int32_t *ids, const uint32_t *lengths, size_t texts,
                               batch_size *out, sem_error *err);

/* A floating-point working area that only grows. Zeroed is empty. */
typedef struct float_area {
    float *data; /* owned */
    size_t capacity;
} float_area;

/* Room for count floats; the content is lost when it grows. */
sem_status float_area_reserve(float_area *area, size_t count, sem_error *err);

/* The error of an embedding without a direction. */
sem_status encoder_fail_length(size_t text, float length, sem_error *err);

#endif
