/* The layers' matrices of a model that is being trained, packed for the products of a step
 * (products.h) and shared by all tapes. */
#ifndef SEM_MODEL_TRAIN_WEIGHTS_H
#define SEM_MODEL_TRAIN_WEIGHTS_H

#include "model/encoder_plan.h"
#include "model/products.h"

/* Those of one layer. */
typedef enum layer_matrix { MATRIX_QKV, MATRIX_OUT, MATRIX_UP, MATRIX_DOWN, LAYER_MATRICES } layer_matrix;

typedef struct layer_matrix_shape {
    size_t inputs, outputs;
    size_t weight, bias; /* offsets among the parameters */
} layer_matrix_shape;

layer_matrix_shape layer_matrix_shape_of(const encoder_plan *plan, const layer_params *at, layer_matrix which);

/* Owned by whoever creates them; the products are borrowed. */
sem_status train_weights_create(train_weights **out, const model_config *config, const param_layout *layout,
                                const gemm *g, const products *p, sem_error *err);
void train_weights_destroy(train_weights *w); /* accepts NULL */

/* Packs the share number `part` of `parts` of all matrices; threads may do different shares,
 * each with space of its own. */
void train_weights_pack(train_weights *w, const float *params, size_t part, size_t parts, void *space);

const products *train_weights_products(const train_weights *w);
const product_weights *train_weights_at(const train_weights *w, size_t layer, layer_matrix which);
/* Bytes of working space for packing and for any product with them. */
size_t train_weights_space(const train_weights *w);
/* Bytes in which one layer's gradients are gathered, and these, in memory aligned to 64 bytes. */
size_t train_weights_gradient_bytes(const train_weights *w);
void train_weights_gradients(const train_weights *w, char *memory, product_gradient out[LAYER_MATRICES]);

#endif
