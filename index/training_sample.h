/* What k-means sees of the rows of an index. Index thread, with helpers. */
#ifndef SEM_INDEX_TRAINING_SAMPLE_H
#define SEM_INDEX_TRAINING_SAMPLE_H

#include "base/status.h"
#include "index/nearest.h"
#include "index/training.h"

#include <stddef.h>
#include <stdint.h>

/* A row as k-means takes it: of unit length, for metric dot with the dimension that makes
 * all equally long. */
size_t training_point_dim(const training *t);

/* Lengths of the live rows below seen; 1 for cosine. */
void training_lengths(const training *t, uint32_t seen, float *longest, float *typical);

/* At most `want` of the live rows below seen, at random, in order: drawn (malloc'd). *live: how
 * many there are. */
sem_status training_draw(const training *t, uint32_t seen, size_t want, uint64_t seed, uint32_t **drawn, size_t *count,
                         size_t *live, sem_error *err);

/* These rows as points: [count, training_point_dim], malloc'd; and in bytes (out is zeroed). */
sem_status training_points(const training *t, const uint32_t *drawn, size_t count, float longest, float **out,
                           sem_error *err);
sem_status training_byte_points(const training *t, const uint32_t *drawn, size_t count, float longest, byte_rows *out,
                                sem_error *err);

#endif
