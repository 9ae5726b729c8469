/* Finds the few matrices that int8 costs most agreement with float32, so that they
 * can be computed in a wider precision and all others in int8. */
#ifndef SEM_MODEL_PRECISION_MIX_H
#define SEM_MODEL_PRECISION_MIX_H

#include "model/encoder.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Texts and what float32 makes of them. */
typedef struct agreement {
    const token_batch *batch;
    const float *right;        /* [texts, E] float32's embeddings */
    float *found;              /* [texts, E] room for the encoder's */
    const atomic_bool *cancel; /* may be NULL; asked before each pass over texts, which then ends with SEM_CANCELLED */
} agreement;

/* SEM_CANCELLED when it is time to end. */
sem_status agreement_check(const agreement *a, sem_error *err);

/* out[texts, E] = the encoder's embeddings of the batch. */
sem_status agreement_embed(const encoder *e, const token_batch *batch, float *out, sem_error *err);
/* *least = the smallest cosine between the encoder's embeddings and float32's. */
sem_status agreement_measure(const encoder *e, const agreement *a, double *least, sem_error *err);

/* The encoder is packed in int8, with which the smallest cosine is *least, and records
 * what its matrices multiply. Greedily, one matrix at a time moves to the wide precision:
 * each is tried on the texts that agree least, and the one that gains most for what it
 * costs stays. Ends where all texts agree by target, or where so many have moved that
 * the gain in speed is not worth it. The encoder is then packed as *table says, which
 * is the best that was found, with the smallest cosine *least. The same on every run. */
sem_status precision_mix(encoder *e, const agreement *a, packed_precision wide, double target,
                         encoder_precisions *table, double *least, sem_error *err);

#endif
