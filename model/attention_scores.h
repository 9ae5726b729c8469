/* What attention of training does to the scores of one head, whatever multiplies.
 * n tokens of a text; rows of scores lie N apart. */
#ifndef SEM_MODEL_ATTENTION_SCORES_H
#define SEM_MODEL_ATTENTION_SCORES_H

#include "model/attention.h"

/* n as rows of scores have it: a multiple of KERNEL_COLUMNS. */
size_t attention_padded(size_t n);

/* Where the shape has biases by distance: line[2n - 1] = the head's of distances -(n - 1) to n - 1, for
 * scores that are scaled only after they were added. */
void attention_bias_line(const attention_shape *shape, size_t head, size_t n, float *line);

/* Adds biases (where the shape has some) to the rows [rows, N] of scores of the queries from `query` on,
 * and takes away keys outside of the window. */
void attention_adjust(const kernels *k, const attention_shape *shape, const float *line, size_t n, size_t query,
                      size_t rows, float *scores, size_t N);

/* From scores of all queries in p[n, N] and gradients of the dropped probabilities in ds[n, N] to dropped
 * probabilities in p and gradients of the scores, before scaling, in ds. row numbers the first
 * query's row of the dropout site. */
void attention_scores_backward(const kernels *k, const attention_shape *shape, float *p, float *ds, size_t n,
                               const dropout_site *drop, size_t row);

/* Adds to d_bias[buckets, A] what ds says; line[2n - 1] is overwritten. */
void attention_bias_backward(const kernels *k, const attention_shape *shape, size_t head, size_t n, const float *ds,
                             float *line, float *d_bias);

#endif
