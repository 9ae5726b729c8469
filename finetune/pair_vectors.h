/* Where documents are: the vectors of what pairs have as documents and negatives, out of the
 * store where it has them, else made by the model that makes those in the store. */
#ifndef SEM_FINETUNE_PAIR_VECTORS_H
#define SEM_FINETUNE_PAIR_VECTORS_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"
#include "index/store.h"
#include "finetune/pairs.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pair_vectors_options {
    store *store;
    uint32_t space;     /* that has vectors of documents by the model */
    const model *model; /* encodes documents; borrowed */
    size_t max_tokens;  /* texts are cut to so many, and a longer document's stored vector is not taken; 0: as the
                         * store has them */
    unsigned threads;
    niceness nice;
    const atomic_bool *cancel; /* may be NULL */
} pair_vectors_options;

typedef struct pair_vectors {
    float *rows;            /* [the set's document_count, dim] unit length */
    size_t stored, encoded; /* documents whose vector was taken, and made */
} pair_vectors;

/* Gives every pair and negative of the set its vector, which lies in out until it is freed. A
 * stored one is taken where the document has that very text still and one vector of it:
 * what is cut into passages has none of its whole. Reads in short transactions. 4 dim bytes a
 * document. SEM_CANCELLED when *cancel became true. */
sem_status pair_vectors_give(pair_vectors *out, pair_set *set, const pair_vectors_options *options, sem_error *err);
void pair_vectors_free(pair_vectors *v);

#endif
