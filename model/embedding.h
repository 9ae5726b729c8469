/* BERT's input: token, position and token type (always 0) vectors, added. */
#ifndef SEM_MODEL_EMBEDDING_H
#define SEM_MODEL_EMBEDDING_H

#include "model/kernels.h"

#include <stddef.h>
#include <stdint.h>

/* One text of n tokens: y[n, H] = words[ids] + positions[0 .. n) + type[H]. */
void embedding_forward(const kernels *k, size_t hidden, const int32_t *ids, size_t n, const float *words,
                       const float *positions, const float *type, float *y);

/* Adds dy[n, H] to the rows of the three tables that forward read. */
void embedding_backward(const kernels *k, size_t hidden, const int32_t *ids, size_t n, const float *dy, float *d_words,
                        float *d_positions, float *d_type);

#endif
