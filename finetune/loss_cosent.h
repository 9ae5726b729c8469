/* Graded similarities (Su 2022, "CoSENT"): of any two pairs, that which is scored
 * higher shall have the higher cosine. With c the pairs' cosines the loss is
 *
 *   log(1 + sum over all (i, j) with score i > score j of exp(scale (c[j] - c[i])))
 *
 * A pair's weight, relative to the mean of the weights, counts that pair in each
 * comparison: the term of (i, j) is multiplied with both. */
#ifndef SEM_FINETUNE_LOSS_COSENT_H
#define SEM_FINETUNE_LOSS_COSENT_H

#include "finetune/loss.h"

/* scale: above 0; 20 is usual. */
sem_status loss_cosent_create(loss **out, double scale, size_t max_pairs, sem_error *err);

#endif
