/* Matrix products of training, on the kernels of packed.h: with weights that change in
 * every step and so are packed anew, in place, and those that give the weights' gradient.
 *
 * In float32, or in bfloat16 with sums in float32; weights, activations and gradients
 * are float32 outside of the product. Letters: T tokens, I inputs, O outputs. */
#ifndef SEM_MODEL_PRODUCTS_H
#define SEM_MODEL_PRODUCTS_H

#include "base/status.h"
#include "model/packed.h"

#include <stdbool.h>
#include <stddef.h>

/* Tokens that products_backward_weight takes at a time: whoever calls it block by block should
 * make blocks of so many. A multiple of PACKED_BLOCK_ROWS. */
enum { PRODUCT_TOKENS = 2 * PACKED_BLOCK_ROWS };

typedef struct products products; /* immutable; shared by all threads */

/* On the level that kernels_choose gives; precision is float32 or bfloat16. */
sem_status products_create(products **out, packed_precision precision, sem_error *err);
/* The same up to the level of that name. */
sem_status products_create_at(products **out, packed_precision precision, const char *level, sem_error *err);
/* The precision in which the level that kernels_choose gives multiplies fastest. */
sem_status products_quickest(packed_precision *out, sem_error *err);
void products_destroy(products *p); /* accepts NULL */
packed_precision products_precision(const products *p);
/* Whether the level has kernels of its own for this. */
bool products_are_fast(const products *p);

/* One matrix W[O, I], packed for products with its transpose (forward) and itself (back). */
typedef struct product_weights {
    size_t outputs, inputs;
    char *forward, *back; /* in what product_weights_create was given */
} product_weights;

/* Bytes that both take, a multiple of 64. */
size_t product_weights_bytes(const products *p, size_t outputs, size_t inputs);
/* In `memory`, zeroed, aligned to 64 bytes, of the caller's. */
void product_weights_create(product_weights *w, const products *p, size_t outputs, size_t inputs, char *memory);
/* Packs the share number `part` of `parts` of weight[O, I]; threads may do different shares. */
void product_weights_pack(const product_weights *w, const products *p, const float *weight, size_t part, size_t parts,
                          void *space);

/* Bytes of working space, aligned to 64, for matrices of up to so many inputs and outputs. */
size_t products_space(const products *p, size_t inputs, size_t outputs);

/* y[T, O] = x[T, I] W^T + bias[O] */
void products_forward(const products *p, const product_weights *w, size_t tokens, const float *x, const float *bias,
                      float *y, void *space);
/* dx[T, I] = dy[T, O] W, or dx += that. */
void products_backward_input(const products *p, const product_weights *w, size_t tokens, const float *dy, bool add,
                             float *dx, void *space);
/* d_weight[O, I] += dy[T, O]^T x[T, I], d_bias[O] += the sums of dy's columns. */
void products_backward_weight(const products *p, size_t tokens, size_t inputs, size_t outputs, const float *x,
                              const float *dy, float *d_weight, float *d_bias, void *space);

#endif
