/* attention.h with products of products.h: in bfloat16 the factors of all of them are rounded, and
 * scores, softmax and sums stay float32. What lies between two products of a head is bounded by n^2. */
#ifndef SEM_MODEL_ATTENTION_PRODUCTS_H
#define SEM_MODEL_ATTENTION_PRODUCTS_H

#include "model/attention.h"
#include "model/products.h"

/* Bytes of working space for texts of up to n tokens, of both directions. */
size_t attention_products_space(const products *p, const attention_shape *shape, size_t n);

/* As attention_forward and attention_backward. */
void attention_products_forward(const products *p, const kernels *k, const attention_shape *shape, const float *qkv,
                                size_t n, const dropout_site *drop, size_t first, float *context, void *space);
void attention_products_backward(const products *p, const kernels *k, const attention_shape *shape, const float *qkv,
                                 float *context, size_t n, const dropout_site *drop, size_t first, float *d_qkv,
                                 float *d_bias, void *space);

#endif
