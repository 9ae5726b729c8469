/* What a tape of training holds: encoder_tape.c is its memory, encoder_train.c fills it on the
 * way forward and reads it on the way back.
 *
 * Training keeps, for each token and layer, queries, keys and values, the two normalised sums
 * (or inputs) and the feed-forward layer before its activation: 5 H + F values, or 5 H + 2 F
 * where it is gated; in bfloat16 where products are, else in float32. All else is computed again
 * on the way back.
 *
 * What is between two attentions depends on each token alone: it is computed in blocks of
 * TAPE_BLOCK tokens, whose values are still in the cache for what comes next. */
#ifndef SEM_MODEL_ENCODER_TAPE_H
#define SEM_MODEL_ENCODER_TAPE_H

#include "model/encoder_plan.h"
#include "model/train_weights.h"

/* Even, so that a block of bfloat16 fills whole pairs. */
enum { TAPE_BLOCK = PRODUCT_TOKENS };

/* Letters: U = F, or 2F where the feed-forward layer is gated. */

/* Rows that are kept: as they are, or a block's first and second half as pairs of bfloat16. */
typedef struct kept_rows {
    float *floats;    /* [T, n]; NULL where there are halves */
    uint32_t *halves; /* [(T n + 1) / 2] */
} kept_rows;

/* What is kept of one layer. */
typedef struct layer_tape {
    kept_rows qkv;          /* [T, 3H] */
    kept_rows xhat1, xhat2; /* [T, H] */
    float *rstd1, *rstd2;   /* [T] */
    kept_rows up;           /* [T, U] before the activation */
    dropout_site drop_p, drop_out, drop_down;
} layer_tape;

/* A working area in huge pages: it is written from one end to the other in every pass. */
typedef struct tape_area {
    float *data; /* owned */
    size_t capacity;
} tape_area;

struct encoder_tape {
    encoder_plan plan;
    layer_tape *layers; /* [L] */
    tape_area kept;
    float *xhat, *rstd; /* the embedding's LayerNorm */
    float *last_xhat;   /* that behind the last layer, where config->prenorm */
    float *last_rstd;
    float *out, *lengths_out; /* [B, E] unit vectors and [B] their lengths before */
    float *head;              /* [B, dense_head_space] */
    dropout_site drop_embedding;
    tape_area work;
    float *x, *dx;  /* [T, H] a layer's input, then output; their gradients */
    float *context; /* [T, H] attention's output, and its gradient */
    float *qkv;     /* [T, 3H] of the layer under way, and their gradients; the tape's where that has floats */
    /* [TAPE_BLOCK, H] of a block: what stands in the middle of a layer, the gradient behind a
     * dropout, one more, and a normalised sum on its way to the tape or from it */
    float *y, *d, *spare, *xhat_block;
    float *wide, *up;                           /* [TAPE_BLOCK, U] */
    float *d_embedding;                         /* [2, max(E, dense_head_width)] */
    float *attention;                           /* its working space */
    const train_weights *weights;               /* borrowed; NULL: products are g's, with the parameters themselves */
    void *space;                                /* of products with weights, owned, space_bytes */
    product_gradient gradients[LAYER_MATRICES]; /* of the layer under way; only with weights */
    char *gathered;                             /* their memory, owned, gathered_bytes */
    size_t space_bytes, gathered_bytes;
    int32_t *ids;      /* [T] */
    uint32_t *lengths; /* [B] */
    size_t ids_capacity, lengths_capacity;
    batch_size size;
    size_t frozen_layers; /* the lowest ones get no gradient */
    bool frozen_embeddings;
    bool ready; /* forward has filled the tape and backward has not used it up */
    bool again; /* the tape has what an outline has: backward computes each layer's rest first */
};

/* Room for the batch of t->size, and a copy of it. */
sem_status encoder_tape_reserve(encoder_tape *t, const int32_t *ids, const uint32_t *lengths, sem_error *err);
/* Brings back what encoder_train_note has kept of a batch of t->size, for which there must be room. */
sem_status encoder_outline_read(const encoder_outline *o, encoder_tape *t, sem_error *err);
/* The products that attention takes too for a text of n tokens; NULL: the kernels'. Only where they are quicker is it
 * worth rounding. */
const products *encoder_tape_attention(const encoder_tape *t, size_t n);
/* Layers from here on are passed on the way back. */
size_t encoder_tape_lowest(const encoder_tape *t);
/* Floats of an embedding's gradient on its way through the Dense modules. */
size_t encoder_gradient_width(const encoder_plan *p);

#endif
