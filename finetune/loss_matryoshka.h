/* Any loss over the first dimensions of embeddings as well (Kusupati et al. 2022,
 * "Matryoshka Representation Learning"): the sum, by weights, of the inner loss over
 * the first m dimensions, made unit vectors again, for each m of a list. A teacher's
 * vectors are cut and made unit vectors in the same way, except at their full
 * width. Keys, weights, scores and guides of a batch hold for each m. */
#ifndef SEM_FINETUNE_LOSS_MATRYOSHKA_H
#define SEM_FINETUNE_LOSS_MATRYOSHKA_H

#include "finetune/loss.h"

enum { MATRYOSHKA_MOST = 16 };

/* dims [count] rise and end at most at dim, the embeddings' width; weights [count] are
 * above 0. Owns inner from now on, on failure too. */
sem_status loss_matryoshka_create(loss **out, loss *inner, const size_t *dims, const double *weights, size_t count,
                                  size_t dim, sem_error *err);

#endif
