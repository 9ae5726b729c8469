/* Scaled dot-product attention of the tokens of one text (Vaswani et al. 2017,
 * section 3.2). */
#ifndef SEM_MODEL_ATTENTION_H
#define SEM_MODEL_ATTENTION_H

#include "model/dropout.h"
#include "model/kernels.h"

#include <stddef.h>

typedef struct attention_shape {
    size_t hidden; /* H */
    size_t heads;  /* A */
    size_t width;  /* D = H / A */
    /* A bias for each distance of key and query and each head, added to the
     * scaled scores (Shaw et al. 2018; with buckets Raffel et al. 2020, section
     * 2.1); NULL where there is none. */
    const float *bias;      /* [buckets, A] among the parameters */
    const uint8_t *buckets; /* [2 reach - 1]: the bucket of key - query + reach - 1 */
    size_t reach;           /* tokens of the longest text */
    /* Keys that a query sees to each side of itself (Beltagy et al. 2020, section
     * 3.1); 0: all. */
    size_t window;
} attention_shape;

/* Floats of working space for texts of up to n tokens; forward's grows with n,
 * backward's with n^2. */
size_t attention_forward_space(const attention_shape *shape, size_t n);
size_t attention_backward_space(const attention_shape *shape, size_t n);

/* qkv[n, 3H] (queries, keys, values, each of A heads) -> context[n, H].
 * first is the number of the text's first token in the batch; with the head it
 * numbers the rows of the dropout site. */
void attention_forward(const kernels *k, const attention_shape *shape, const float *qkv, size_t n,
                       const dropout_site *drop, size_t first, float *context, float *space);

/* d_qkv[n, 3H] (overwritten; may be qkv) from context[n, H], the gradient of what forward gave,
 * which becomes that itself: the probabilities are computed again, so it costs one product.
 * Adds to d_bias[buckets, A] where there is a bias and d_bias is not NULL. */
void attention_backward(const kernels *k, const attention_shape *shape, const float *qkv, float *context, size_t n,
                        const dropout_site *drop, size_t first, float *d_qkv, float *d_bias, float *space);

#endif
