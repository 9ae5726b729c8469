/* Matrix products of training, on the kernels of packed.h: with weights that change in
 * every step and so are packed anew, in place, and those that give the weights' gradient.
 *
 * In float32, or in bfloat16 with sums in float32; weights, activations and gradients
 * are float32 outside of the product. Where bfloat16 is multiplied much faster than float32,
 * products of float32 are made of it without loss (packed_split_body.h). Letters: T tokens, I inputs, O outputs. */
#ifndef SEM_MODEL_PRODUCTS_H
#define SEM_MODEL_PRODUCTS_H

#include "base/status.h"
#include "model/packed.h"

#include <stdbool.h>
#include <stddef.h>

/* Tokens of which gradients are gathered in one go: whoever calls products block by block should make blocks of
 * at most so many. */
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
/* Whether they multiply faster than those of float32. */
bool products_beat_float32(const products *p);

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
/* d_weight[O, I] += dy[T, O]^T x[T, I]. Both factors are gathered block by block and multiplied together, so
 * that d_weight, which is larger than caches are, is read and written once for all of them. */
typedef struct product_gradient {
    size_t inputs, outputs;
    size_t tokens, most; /* gathered, and for how many there is room */
    char *left, *right;  /* in what product_gradient_create was given */
} product_gradient;

/* Bytes that it takes, a multiple of 64. */
size_t product_gradient_bytes(const products *p, size_t inputs, size_t outputs);
/* In `memory`, aligned to 64 bytes, of the caller's. */
void product_gradient_create(product_gradient *g, const products *p, size_t inputs, size_t outputs, char *memory);
/* Gathers a block of at most PRODUCT_TOKENS tokens, multiplies what is gathered where another one might not fit, and
 * adds the sums of dy's columns to d_bias[O]. Only the last block before product_gradient_finish may have an odd
 * number. */
void product_gradient_add(product_gradient *g, const products *p, size_t tokens, const float *x, const float *dy,
                          float *d_weight, float *d_bias, void *space);
/* Multiplies what is gathered still. */
void product_gradient_finish(product_gradient *g, const products *p, float *d_weight);

/* --- products of two matrices that are both new: left[M, K] right[K, N], sums over K */

/* A factor as the kernels read it. */
typedef struct product_factor {
    const char *memory;  /* the caller's, or the matrix itself */
    size_t count, depth; /* rows M of a left one, columns N of a right one; K */
    size_t stride;       /* bytes from a row, or a panel, to the next */
} product_factor;

/* Bytes of memory, a multiple of 64 and aligned to so many, for a left and for a right factor. */
size_t product_rows_bytes(const products *p, size_t m, size_t k);
size_t product_panels_bytes(const products *p, size_t k, size_t n);
/* The left factor whose rows are those of a, or whose columns are, `apart` floats from each other. */
product_factor product_rows_of(const products *p, const float *a, size_t apart, size_t m, size_t k, char *memory);
product_factor product_rows_of_columns(const products *p, const float *a, size_t apart, size_t m, size_t k,
                                       char *memory);
/* The right factor whose rows are those of b, or whose columns are. */
product_factor product_panels_of(const products *p, const float *b, size_t apart, size_t k, size_t n, char *memory);
product_factor product_panels_of_rows(const products *p, const float *b, size_t apart, size_t k, size_t n,
                                      char *memory);
/* y[M, N] = left right, rows of y `apart` floats from each other. */
void products_multiply(const products *p, const product_factor *left, const product_factor *right, float *y,
                       size_t apart);

#endif
