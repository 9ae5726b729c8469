/* Training's blocks of tokens (encoder_tape.h): what depends on each token alone, forward and
 * backward: products with a layer's matrices, LayerNorms, and what is kept for the way back. */
#ifndef SEM_MODEL_ENCODER_BLOCK_H
#define SEM_MODEL_ENCODER_BLOCK_H

#include "model/encoder_tape.h"

/* Tokens that follow each other, at most TAPE_BLOCK. */
typedef struct block {
    size_t first, count;
} block;

static inline block block_next(const encoder_tape *t, size_t first)
{
    const size_t rest = t->size.tokens - first;
    return (block){first, rest < TAPE_BLOCK ? rest : TAPE_BLOCK};
}

/* Where the block's rows of width n begin. */
static inline float *block_rows(block b, float *x, size_t n)
{
    return x + b.first * n;
}

/* y[n, out] = x[n, in] W^T + bias, for one of the layer's matrices W[out, in]. */
void block_multiply(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, size_t n,
                    const float *x, float *y);
/* dx[n, in] = dy[n, out] W, or dx += that. */
void block_input_backward(const encoder_tape *t, const float *w, const layer_tape *l, layer_matrix which, size_t n,
                          const float *dy, bool add, float *dx);
/* Adds to the gradients of W and its bias, from its input x[n, in] and the gradient dy[n, out] of its output;
 * nothing where the layer is frozen. Those of weights are there when block_weights_finish has been called behind
 * the layer's last block. */
void block_weight_backward(encoder_tape *t, const layer_tape *l, layer_matrix which, size_t n, const float *x,
                           const float *dy, float *dw);
void block_weights_finish(encoder_tape *t, const layer_tape *l, float *dw);

/* Where count values from number `first` (even) on are written and read: on the tape itself where it
 * keeps floats, else in `room`. */
float *block_kept_at(const kept_rows *kept, size_t first, float *room);
/* Rounds what was written in room; block_keep_again widens it there. */
void block_keep(const encoder_tape *t, const kept_rows *kept, size_t first, size_t count, const float *room);
float *block_keep_again(const encoder_tape *t, const kept_rows *kept, size_t first, size_t count, float *room);

/* A LayerNorm: where it is among the parameters and on the tape. */
typedef struct block_norm {
    size_t weight, bias;
    const kept_rows *xhat; /* [T, H] */
    float *rstd;           /* [T] */
} block_norm;

/* The first and the second one of a layer. */
block_norm block_norm1(const layer_params *at, const layer_tape *l);
block_norm block_norm2(const layer_params *at, const layer_tape *l);

/* y[n, H] from a block of x (and of the residual, which may be NULL). */
void block_norm_forward(const encoder_tape *t, const float *w, block_norm n, block b, const float *x,
                        const float *residual, float *y);
/* d[n, H] from the gradient of what block_norm_forward gave to that of what it read. */
void block_norm_backward(const encoder_tape *t, const float *w, block_norm n, block b, float *d, float *dw);
/* What block_norm_forward gave. */
void block_norm_again(const encoder_tape *t, const float *w, block_norm n, block b, float *y);

#endif
