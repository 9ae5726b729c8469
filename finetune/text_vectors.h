/* Texts of training data as vectors: bulk_encode for data_text. */
#ifndef SEM_FINETUNE_TEXT_VECTORS_H
#define SEM_FINETUNE_TEXT_VECTORS_H

#include "base/patience.h"
#include "model/model.h"
#include "finetune/bulk_encode.h"
#include "finetune/data_example.h"

#include <stdbool.h>

/* *out = [count, dim], malloc'd, unit length; as_query chooses the prompt. NULL after a
 * failure. */
sem_status text_vectors(const model *m, const data_text *texts, size_t count, bool as_query, unsigned threads,
                        niceness nice, float **out, sem_error *err);

/* The cosine of two such vectors [dim]. */
double text_vectors_cosine(const float *a, const float *b, size_t dim);

#endif
