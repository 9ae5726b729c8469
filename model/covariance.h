/* Rounds a weight matrix to integers so that its products with the rows it will
 * meet change least, not its values: each value's rounding error is made up for by
 * the values behind it that are used together with it (Frantar et al. 2023, "GPTQ",
 * section 3). What is used together is measured on rows of the model's own.
 *
 * Columns are taken in blocks, between which errors are not carried. */
#ifndef SEM_MODEL_COVARIANCE_H
#define SEM_MODEL_COVARIANCE_H

#include "base/status.h"
#include "model/kernels.h"

#include <stddef.h>
#include <stdint.h>

typedef struct covariance covariance;

/* Of rows of k values. */
sem_status covariance_create(covariance **out, const kernels *level, size_t k, sem_error *err);
void covariance_destroy(covariance *c); /* accepts NULL */
/* Adds x[rows, k] to what was measured. */
void covariance_add(covariance *c, size_t rows, const float *x);
/* After the last row and before the first covariance_round; again changes nothing. */
sem_status covariance_finish(covariance *c, sem_error *err);
/* out[k] = integers of -127 to 127 that times scale are about w[k]; w is used up. */
void covariance_round(const covariance *c, float *w, float scale, int8_t *out);

#endif
