/* Weight matrices packed once for the processor's product instructions, in
 * float32, bfloat16 or int8, and shared read-only by all workers.
 *
 * int8: weights are rounded for each output column, symmetric; each row of x is
 * rounded when it is multiplied, between its own smallest and largest value
 * (Jacob et al. 2018, section 2.1). Sums are exact integers, scaled back to
 * float32 at the end. */
#ifndef SEM_MODEL_PACKED_H
#define SEM_MODEL_PACKED_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum packed_precision { PACKED_FLOAT32, PACKED_BFLOAT16, PACKED_INT8, PACKED_PRECISIONS } packed_precision;

/* "float32", "bfloat16", "int8" */
const char *packed_precision_name(packed_precision precision);

/* The kernels of one instruction set. */
typedef struct packed_kernels packed_kernels;

/* Those up to the level of kernels (model/kernels.h) that is called name: the
 * best that the machine has of that level and below, for each precision. */
const packed_kernels *packed_choose(const char *name);
/* Whether the machine multiplies faster in this precision than in float32. */
bool packed_is_fast(const packed_kernels *k, packed_precision precision);

typedef struct packed packed; /* immutable */

/* weight[n, k] and bias[n] (NULL: zeros) are copied. Refuses int8 for k so large
 * that sums could overflow. */
sem_status packed_create(packed **out, const packed_kernels *kernels, packed_precision precision, size_t n, size_t k,
                         const float *weight, const float *bias, sem_error *err);
void packed_destroy(packed *p); /* accepts NULL */
packed_precision packed_get_precision(const packed *p);
size_t packed_bytes(const packed *p);

/* Floats of working space that packed_multiply needs for a matrix of k columns. */
size_t packed_space(size_t k);

/* y[rows, n] = f(x)[rows, k] weight^T + bias. f is applied to each row of x on
 * its way in (an activation; NULL: none): x itself stays as it is. */
typedef void packed_function(const float *x, size_t n, float *y);
void packed_multiply(const packed *p, size_t rows, const float *x, packed_function *f, float *y, float *space);

#endif
