/* A model with one more module: a linear map to embeddings of another width. */
#ifndef SEM_MODEL_MODEL_WIDEN_H
#define SEM_MODEL_MODEL_WIDEN_H

#include "model/model.h"

/* Writes a copy of m's directory to the new directory `to`, whose embeddings have `width`
 * numbers: a Dense module (sentence-transformers' name) without an activation behind the others
 * and before Normalize, with weights uniform in +-1/sqrt(in) from seed and biases of 0. Refused
 * where m has as many Dense modules as a model may. */
sem_status model_save_widened(const model *m, const char *to, size_t width, uint64_t seed, sem_error *err);

#endif
