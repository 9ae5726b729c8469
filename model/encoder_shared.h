/* The steps of a forward pass, cut into chunks for a crew (base/crew.h). Each works
 * alone where there is no crew, and gives the same bits with one. */
#ifndef SEM_MODEL_ENCODER_SHARED_H
#define SEM_MODEL_ENCODER_SHARED_H

#include "base/crew.h"
#include "model/attention_serve.h"
#include "model/packed.h"

#include <stddef.h>
#include <stdint.h>

/* y[rows, n] = f(x) weight^T + bias (packed.h). f, where there is one, is applied to
 * x itself by a crew. rows is at most PACKED_BLOCK_ROWS with one. */
void shared_multiply(crew *c, const packed *p, size_t rows, float *x, packed_function *f, float *y, float *space);

typedef struct shared_norm {
    const kernels *k;
    size_t hidden; /* H */
    const float *weight, *bias;
    float eps;
} shared_norm;

/* y[rows, H] = normalised (x + residual); residual may be NULL, y may be x. */
void shared_normalize(crew *c, const shared_norm *n, size_t rows, const float *x, const float *residual, float *y);

/* Attention of texts laid end to end: qkv[T, 3H] -> context[T, H]. Working space
 * for each member of the crew: attention_space of the longest text. */
typedef struct shared_texts {
    const uint32_t *lengths; /* [texts] */
    size_t texts, longest;
} shared_texts;

void shared_attend(crew *c, const attention_level *level, const attention_shape *shape, const shared_texts *t,
                   const float *qkv, float *context, float *space);

#endif
