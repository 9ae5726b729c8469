/* The encoder's input: word, position and token type (always 0) vectors, added. */
#ifndef SEM_MODEL_EMBEDDING_H
#define SEM_MODEL_EMBEDDING_H

#include "model/kernels.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct embedding_shape {
    size_t hidden;                  /* H */
    size_t words, positions, types; /* offsets of the tables in the parameters */
    const float *table;             /* [V, H] where the words lie apart from the parameters; else NULL */
    bool has_types;
    bool no_positions; /* there is no table of them */
    /* Positions count from here; where it is above 0, the id before it is the
     * padding's, which has the position of that number and is not counted. */
    size_t position_start;
} embedding_shape;

/* One text of n tokens: y[n, H] = words[ids] + positions[its place] + types[0], as far as there are such. */
void embedding_forward(const kernels *k, const embedding_shape *shape, const int32_t *ids, size_t n,
                       const float *params, float *y);

/* Adds dy[n, H] to the rows of the tables that forward read. */
void embedding_backward(const kernels *k, const embedding_shape *shape, const int32_t *ids, size_t n, const float *dy,
                        float *grads);

#endif
