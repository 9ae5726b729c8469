/* Weight matrices packed once for the processor's product instructions, in
 * float32, bfloat16 or int8, and shared read-only by all workers.
 *
 * int8: each row of x is rotated (kernels.h) and rounded when it is multiplied,
 * between its own smallest and largest value (Jacob et al. 2018, section 2.1). The
 * weights are rotated alike, which leaves the product as it was, and rounded for each
 * output column, symmetric. Sums are exact integers, scaled back to float32 at the end. */
#ifndef SEM_MODEL_PACKED_H
#define SEM_MODEL_PACKED_H

#include "base/status.h"
#include "model/covariance.h"

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
packed_kernels packed_choose(const char *name);
/* Whether the machine multiplies faster in this precision than in float32. */
bool packed_is_fast(const packed_kernels *k, packed_precision precision);

typedef struct packed packed; /* immutable */

/* level, weight[n, k] and bias[n] (NULL: zeros) are copied. Refuses int8 for k so large
 * that sums could overflow. */
sem_status packed_create(packed **out, const packed_kernels *level, packed_precision precision, size_t n, size_t k,
                         const float *weight, const float *bias, sem_error *err);
/* The same with int8 weights rounded by what the matrix was recorded to multiply
 * (NULL: each to the nearest). */
sem_status packed_create_recorded(packed **out, const packed_kernels *level, packed_precision precision, size_t n,
                                  size_t k, const float *weight, const float *bias, covariance *record, sem_error *err);
void packed_destroy(packed *p); /* accepts NULL */
packed_precision packed_get_precision(const packed *p);
/* Bytes of the weights alone, a multiple of 64. */
size_t packed_weight_bytes(const packed *p);
/* Moves the weights to memory of the caller's, aligned to 64 bytes, which must stay as long as p. */
void packed_move(packed *p, void *to);
size_t packed_width(const packed *p); /* k */

/* Floats of working space that packed_multiply needs for a matrix of k columns. */
size_t packed_space(size_t k);

/* y[rows, n] = f(x)[rows, k] weight^T + bias. f is applied to each row of x on
 * its way in (an activation; NULL: none): x itself stays as it is. */
typedef void packed_function(const float *x, size_t n, float *y);
void packed_multiply(const packed *p, size_t rows, const float *x, packed_function *f, float *y, float *space);

/* From now on packed_multiply adds the rows, as int8 would round them, to record
 * (NULL: no more). Used by one thread meanwhile. */
void packed_record(packed *p, covariance *record);

/* --- the same product in parts, for several threads */

/* Rows of x that are converted at a time: a multiple of every tile's rows, and few
 * enough for the converted rows to stay in the second-level cache while all panels
 * pass by. */
enum { PACKED_BLOCK_ROWS = 96 };

/* Rows as the product reads them. */
typedef struct packed_rows {
    size_t count;
    const char *rows; /* converted, or x itself where nothing is to be converted */
    size_t stride;    /* bytes */
    char *converted;  /* where packed_convert puts them, in the working space */
    float *exact;     /* room on the way there, the same */
    float scale[PACKED_BLOCK_ROWS];
    int32_t zero[PACKED_BLOCK_ROWS];
} packed_rows;

/* Says where `rows` rows of x, at most PACKED_BLOCK_ROWS, lie as the product reads
 * them, and returns whether they must be converted to be there. x and space must
 * stay where they are until the product is done. */
bool packed_rows_begin(const packed *p, packed_rows *b, size_t rows, const float *x, float *space);
/* Converts the rows from first up to, without, last. Threads may do different rows. */
void packed_convert(const packed *p, packed_rows *b, const float *x, size_t first, size_t last);
/* Columns are cut into panels; y gets those of the panels from first up to, without,
 * last. next: the panel that this thread is likely to multiply after these, which is
 * fetched meanwhile. Bit for bit what packed_multiply gives. */
size_t packed_panels(const packed *p);
void packed_multiply_panels(const packed *p, const packed_rows *b, size_t first, size_t last, size_t next, float *y);

#endif
