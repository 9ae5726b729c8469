/* Documents that are made from their number, and queries whose right answers are known. */
#ifndef SEM_BENCH_START_DATA_H
#define SEM_BENCH_START_DATA_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { START_QUERIES = 64, START_K = 10 };

typedef struct start_data {
    size_t documents, dim, clusters; /* the caller's, set before start_data_create() */
    float *centres;                  /* [clusters, dim] owned, as is all that follows */
    float *queries;                  /* [START_QUERIES, dim] */
    uint32_t *nearest;               /* [START_QUERIES, START_K] best first */
    float *vector, *own;             /* [dim] scratch */
} start_data;

/* Compares all vectors with all queries. */
sem_status start_data_create(start_data *d, sem_error *err);
void start_data_free(start_data *d); /* accepts all zero */

/* Of document n: float32 [dim] of unit length, around centre n % clusters. d's scratch `own` is
 * used. */
void start_data_vector(start_data *d, size_t n, float *out);

/* A made text of so many bytes, of some thousand words; text gets a NUL behind it. */
void start_data_text(size_t n, char *text, size_t bytes);

/* Whether an answer's hits have the scores of their vectors, each of another document, and stand
 * in their order. *right: how many of the nearest they are. */
sem_status start_data_check(start_data *d, size_t query, const uint32_t ids[START_K], const float scores[START_K],
                            size_t *right, sem_error *err);

#endif
