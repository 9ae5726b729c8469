/* The Dense modules between pooling and normalising: each is activation(W x + b)
 * of one text's vector. Once a text, so plain loops and libm do. */
#ifndef SEM_MODEL_DENSE_H
#define SEM_MODEL_DENSE_H

#include "model/kernels.h"
#include "model/model_config.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct dense_layer {
    size_t in, out;
    size_t weight, bias; /* offsets in the parameters: [out, in], [out] */
    bool has_bias;
    dense_activation activation;
} dense_layer;

/* All of them; count is 0 for most models. */
typedef struct dense_head {
    dense_layer layers[MODEL_DENSE_MAX];
    size_t count;
} dense_head;

/* Floats that a text's inputs and sums before activation take; 0 without layers. */
size_t dense_head_space(const dense_head *head);
/* Floats of the widest vector among pooled, hidden and out. */
size_t dense_head_width(const dense_head *head);

/* Where to put the pooled vector: into kept[dense_head_space], or straight into
 * out[E] where there are no layers. */
float *dense_head_input(const dense_head *head, float *kept, float *out);

/* From the pooled vector in kept to out[E]; kept is what backward needs. */
void dense_head_forward(const kernels *k, const dense_head *head, const float *params, float *kept, float *out);

/* d[dense_head_width] holds the gradient of out and then that of the pooled
 * vector; spare has as many floats. Adds to grads. */
void dense_head_backward(const kernels *k, const dense_head *head, const float *params, const float *kept, float *d,
                         float *spare, float *grads);

#endif
