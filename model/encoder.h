/* The transformer encoder: parameters, forward pass for serving, forward with
 * kept activations and backward pass for training.
 *
 * Devlin et al. 2019, "BERT"; Reimers and Gurevych 2019, "Sentence-BERT".
 * Letters: B texts, T tokens of a batch (laid end to end, no padding), H hidden
 * size, A heads, D = H / A, F intermediate size, L layers, E embedding width. */
#ifndef SEM_MODEL_ENCODER_H
#define SEM_MODEL_ENCODER_H

#include "base/crew.h"
#include "base/status.h"
#include "model/gemm.h"
#include "model/model_config.h"
#include "model/packed.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* --- parameters: one flat float32 array and a table that says what lies where */

/* What a parameter is for. Those of one layer and role lie behind each other. */
typedef enum param_role {
    PARAM_WORDS,
    PARAM_POSITIONS,
    PARAM_TYPES,
    PARAM_NORM_WEIGHT, /* of the embedding's LayerNorm */
    PARAM_NORM_BIAS,
    PARAM_RELATIVE_BIAS,
    PARAM_QKV_WEIGHT, /* from here to PARAM_NORM2_BIAS: of a layer */
    PARAM_QKV_BIAS,
    PARAM_OUT_WEIGHT,
    PARAM_OUT_BIAS,
    PARAM_NORM1_WEIGHT,
    PARAM_NORM1_BIAS,
    PARAM_UP_WEIGHT,
    PARAM_UP_BIAS,
    PARAM_DOWN_WEIGHT,
    PARAM_DOWN_BIAS,
    PARAM_NORM2_WEIGHT,
    PARAM_NORM2_BIAS,
    PARAM_LAST_NORM_WEIGHT, /* of the LayerNorm behind the last layer */
    PARAM_LAST_NORM_BIAS,
    PARAM_DENSE_WEIGHT,
    PARAM_DENSE_BIAS
} param_role;

typedef struct param {
    /* As in the checkpoint, e.g. "encoder.layer.0.attention.self.query.weight";
     * before the names of a module with a file of its own stands its folder,
     * e.g. "2_Dense/linear.weight". */
    char name[120];
    param_role role;
    size_t part;   /* the number of its layer or Dense module */
    size_t folder; /* bytes of the name up to the slash and with it; mostly 0 */
    size_t rows;   /* 1 for a vector */
    size_t cols;
    size_t offset;    /* floats from the start */
    bool vector;      /* of one dimension in the checkpoint */
    bool decay;       /* weight decay applies: not for biases and LayerNorm */
    bool rows_sparse; /* a token table: a step touches only some rows */
    bool packed;      /* a layer's matrix: served from a packed copy, and not in memory as it is */
} param;

typedef struct param_layout {
    param *items; /* owned */
    size_t count;
    /* Floats behind the last parameter that stay 0: every bias that the model
     * does not have is read from here. They belong to no item. */
    size_t zeros, zeros_count;
    size_t total; /* floats */
} param_layout;

/* The parameters of a model, in the checkpoint's order of use. */
sem_status param_layout_create(param_layout *out, const model_config *config, sem_error *err);
void param_layout_free(param_layout *layout);
/* NULL when there is none of that name. */
const param *param_layout_find(const param_layout *layout, const char *name);

/* Finds every parameter of the layout that lies in folder ("" for the model's own,
 * else with the slash) in that folder's checkpoint (an optional prefix such as
 * "bert." or "0.auto_model." before the names is accepted), with shapes and types
 * checked; views has layout->count places. Tensors that the model has no use for
 * (pooler, position_ids, an output head) are ignored by name, others refused. */
sem_status params_find(const param_layout *layout, const char *folder, const safetensors *file,
                       const tensor_view **views, sem_error *err);
/* Elements [first, first + count) of what was found, all of them finite numbers. */
sem_status params_read_some(const tensor_view *view, size_t first, size_t count, float *out, sem_error *err);
/* Finds and reads all of them; out has layout->total floats. */
sem_status params_read(const param_layout *layout, const char *folder, const safetensors *file, float *out,
                       sem_error *err);

/* --- serving */

typedef struct encoder encoder;                 /* immutable; shared by all workers */
typedef struct encoder_scratch encoder_scratch; /* one a thread */

/* What the encoder's parameters are read from: model/weights.h. */
typedef struct model_weights model_weights;

/* Takes ownership of w (of the same config) on success. config and g must outlive
 * the encoder. It computes in float32. */
sem_status encoder_open(encoder **out, const model_config *config, model_weights *w, const gemm *g, sem_error *err);
/* The same over params (malloc'd, layout of config), which then stay in memory. */
sem_status encoder_create(encoder **out, const model_config *config, float *params, const gemm *g, sem_error *err);
void encoder_destroy(encoder *e); /* accepts NULL */
/* Whether a model of this configuration can be computed. */
sem_status encoder_check(const model_config *config, sem_error *err);
/* The precision of each of the layers' matrices, layer after layer, and in a layer
 * those of queries, keys and values, of attention's output, and the feed-forward
 * layer's two: one letter each, the first of packed_precision_name. */
enum { ENCODER_MATRICES_MAX = 4 * MODEL_LAYERS_MAX };
typedef struct encoder_precisions {
    char letters[ENCODER_MATRICES_MAX + 1]; /* of encoder_matrices, ends with 0 */
} encoder_precisions;

size_t encoder_matrices(const encoder *e);
/* Weights of one of them: what a product with it costs. */
size_t encoder_matrix_size(const encoder *e, size_t matrix);
/* All of them alike. */
encoder_precisions encoder_all_in(const encoder *e, packed_precision precision);
/* Packs the layers' matrices as table says. One matrix after the other takes the
 * place of what was there, which bounds the memory that this takes: on failure some
 * are in the old precision and some in the new one. Nothing else may use the
 * encoder meanwhile. */
sem_status encoder_pack(encoder *e, const encoder_precisions *table, sem_error *err);
/* Packs one of them in another precision, until encoder_untry puts back what was there. */
sem_status encoder_try(encoder *e, size_t matrix, packed_precision precision, sem_error *err);
void encoder_untry(encoder *e);
/* To be called when what is packed stays: puts it where it is read fastest. */
void encoder_settle(encoder *e);
/* From now on what the matrices multiply is recorded, by forward passes of one thread,
 * and encoder_pack rounds to int8 so that products with it change least; until
 * encoder_forget. */
sem_status encoder_record(encoder *e, sem_error *err);
void encoder_forget(encoder *e);
/* From here to encoder_release_rows it computes texts of these tokens only, from rows
 * of the token table that are read for it: the mapped file stays untouched. */
sem_status encoder_hold_rows(encoder *e, const int32_t *ids, size_t count, sem_error *err);
void encoder_release_rows(encoder *e);
/* out[layout->total] = the parameters as float32, read from the model's files where
 * they are not in memory. Fails where the files were changed meanwhile. Any thread. */
sem_status encoder_read_params(const encoder *e, float *out, sem_error *err);
/* The same in new memory, the caller's; *out is NULL where it fails. */
sem_status encoder_copy_params(const encoder *e, float **out, sem_error *err);
const param_layout *encoder_layout(const encoder *e);
size_t encoder_width(const encoder *e); /* E */
/* Whether this machine computes faster in this precision than in float32. */
bool encoder_is_fast(const encoder *e, packed_precision precision);
/* The instruction set in use: "generic", "avx2", "avxvnni", "avx512", "amx". */
const char *encoder_simd(const encoder *e);

/* Memory for batches of up to max_tokens tokens (grown when a batch is larger). */
sem_status encoder_scratch_create(encoder_scratch **out, const encoder *e, size_t max_tokens, sem_error *err);
void encoder_scratch_destroy(encoder_scratch *s); /* accepts NULL */

/* out[B, E] = unit-length embeddings of the batch's texts. lengths are at least
 * 1 and at most config->max_tokens; ids are below vocab (both checked). */
sem_status encoder_forward(const encoder *e, encoder_scratch *s, const int32_t *ids, const uint32_t *lengths,
                           size_t texts, float *out, sem_error *err);

/* The same, bit for bit, with the help of threads that call crew_help(c) meanwhile
 * (base/crew.h); the caller leads c. For batches of up to ENCODER_SHARED_TOKENS
 * tokens: a larger one is computed by the caller alone. */
enum { ENCODER_SHARED_TOKENS = 64 };
sem_status encoder_forward_shared(const encoder *e, encoder_scratch *s, crew *c, const int32_t *ids,
                                  const uint32_t *lengths, size_t texts, float *out, sem_error *err);

/* --- training */

/* One pass's kept activations; used by one thread at a time. */
typedef struct encoder_tape encoder_tape;

sem_status encoder_tape_create(encoder_tape **out, const model_config *config, const param_layout *layout,
                               const gemm *g, sem_error *err);
void encoder_tape_destroy(encoder_tape *t); /* accepts NULL */

/* Matrices packed for training (model/train_weights.h). */
typedef struct train_weights train_weights;

/* From now on products with the layers' matrices are those of w, borrowed, which must be packed from
 * the params that each pass is given. Without it they are g's. */
sem_status encoder_tape_use(encoder_tape *t, const train_weights *w, sem_error *err);
/* Packs the share number `part` of `parts` of w, which the tape uses; others may do theirs meanwhile. */
void encoder_tape_pack(encoder_tape *t, train_weights *w, const float *params, size_t part, size_t parts);

/* From the next forward pass on, backward passes give no gradient to the lowest `layers`
 * layers, and none to what stands before the first layer and to relative positions if
 * embeddings says so: then they end at the lowest layer that learns, and of the layers
 * below it only what the last one gave is kept. */
void encoder_tape_freeze(encoder_tape *t, bool embeddings, size_t layers);

/* Bytes that the tape takes for each token of a batch, about. */
size_t encoder_tape_token_bytes(const encoder_tape *t);

typedef struct dropout {
    float hidden; /* probability; 0 turns it off */
    float attention;
    uint64_t seed; /* masks are a pure function of seed and position */
} dropout;

/* Forward with everything kept that backward needs. out[B, E] is unit length. */
sem_status encoder_train_forward(encoder_tape *t, const float *params, const int32_t *ids, const uint32_t *lengths,
                                 size_t texts, const dropout *drop, float *out, sem_error *err);

/* Adds the gradient of the loss to grads (the params' layout), given
 * d_out[B, E], the gradient with respect to what encoder_train_forward
 * returned. Must follow it, with the same params. Token-table rows that were
 * touched are the batch's ids. */
sem_status encoder_train_backward(encoder_tape *t, const float *params, const float *d_out, float *grads,
                                  sem_error *err);

/* What is kept of a forward pass whose tape another one takes before it is gone back: what the
 * layers gave, normalised. All between is computed again, layer by layer, which is less than a
 * forward pass (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost"). Empty at
 * first, used again for other passes. */
typedef struct encoder_outline encoder_outline;
sem_status encoder_outline_create(encoder_outline **out, sem_error *err);
void encoder_outline_destroy(encoder_outline *o); /* accepts NULL */
/* Bytes that an outline of the tape's passes takes for each token, about. */
size_t encoder_outline_token_bytes(const encoder_tape *t);

/* Must follow encoder_train_forward: backward can come now or after encoder_train_resume. */
sem_status encoder_train_note(const encoder_tape *t, encoder_outline *o, sem_error *err);
/* The tape as forward left it when o was noted, with the same params, batch and dropout, so
 * that backward can follow: its gradient is the same as if it had come at once, bit for bit
 * in float32. */
sem_status encoder_train_resume(encoder_tape *t, const float *params, const int32_t *ids, const uint32_t *lengths,
                                size_t texts, const dropout *drop, const encoder_outline *o, sem_error *err);

#endif
