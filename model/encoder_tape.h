/* What a tape of training holds: encoder_tape.c is its memory, encoder_train.c fills it on the
 * way forward and reads it on the way back.
 *
 * Training keeps, for each token and layer, queries, keys, values, context, the
 * two normalised sums (or inputs) and the feed-forward layer before its activation:
 * 6 H + F floats, or 6 H + 2 F where it is gated. Everything else is computed again on the way back. */
#ifndef SEM_MODEL_ENCODER_TAPE_H
#define SEM_MODEL_ENCODER_TAPE_H

#include "model/encoder_plan.h"
#include "model/train_weights.h"

/* What is kept of one layer. */
typedef struct layer_tape {
    float *qkv;           /* [T, 3H] */
    float *context;       /* [T, H] */
    float *xhat1, *rstd1; /* [T, H], [T] */
    float *up;            /* [T, F] before the activation, or [T, 2F] */
    float *xhat2, *rstd2; /* [T, H], [T] */
    dropout_site drop_p, drop_out, drop_down;
} layer_tape;

struct encoder_tape {
    encoder_plan plan;
    layer_tape *layers; /* [L] */
    float_area kept;
    float *xhat, *rstd; /* the embedding's LayerNorm */
    float *last_xhat;   /* that behind the last layer, where config->prenorm */
    float *last_rstd;
    float *out, *lengths_out; /* [B, E] unit vectors and [B] their lengths before */
    float *head;              /* [B, dense_head_space] */
    dropout_site drop_embedding;
    float_area work;
    float *x, *y;       /* [T, H] a layer's input and middle */
    float *dx;          /* [T, H] */
    float *d;           /* [T, H] gradient behind a dropout */
    float *wide;        /* [T, max(3H, F)] */
    float *d_embedding; /* [2, max(E, dense_head_width)] */
    float *attention;
    const train_weights *weights; /* borrowed; NULL: products are g's, with the parameters themselves */
    void *space;                  /* of products with weights, owned */
    int32_t *ids;                 /* [T] */
    uint32_t *lengths;            /* [B] */
    size_t ids_capacity, lengths_capacity;
    batch_size size;
    size_t frozen_layers; /* the lowest ones get no gradient */
    bool frozen_embeddings;
    bool ready; /* forward has filled the tape and backward has not used it up */
};

/* Room for the batch of t->size, and a copy of it. */
sem_status encoder_tape_reserve(encoder_tape *t, const int32_t *ids, const uint32_t *lengths, sem_error *err);
/* Layers from here on are passed on the way back. */
size_t encoder_tape_lowest(const encoder_tape *t);
/* Floats of an embedding's gradient on its way through the Dense modules. */
size_t encoder_gradient_width(const encoder_plan *p);

#endif
