/* Which pairs in memory share a batch, and which batch comes when.
 *
 * Pairs are new, replayed, or made from the collections' own text. An epoch has every pair of
 * the first of these that there is, once, and of the others as many, drawn anew for each epoch, as
 * the temperature T says: of n pairs of one origin beside N of all (n / N)^(1/T) to the others' like
 * numbers (mix_weights.h), and at most each once. T 1: all of them; the larger T, the more
 * alike are the three. Batches are kept inside a domain, but for a share of every
 * domain's pairs (mix_plan.h).
 *
 * All of it is a pure function of pairs, options and the number of the epoch. */
#ifndef SEM_FINETUNE_PAIR_ORDER_H
#define SEM_FINETUNE_PAIR_ORDER_H

#include "base/status.h"
#include "finetune/trainer.h"

#include <stddef.h>
#include <stdint.h>

typedef struct pair_order pair_order;

typedef struct pair_order_options {
    size_t batch_size;
    double temperature; /* at least 1 */
    double mixed_share; /* 0 to 1 */
    uint64_t seed;
} pair_order_options;

/* pairs [count], at least one, are borrowed. */
sem_status pair_order_create(pair_order **out, const train_pair *pairs, size_t count, const pair_order_options *options,
                             sem_error *err);
void pair_order_destroy(pair_order *o); /* accepts NULL */

/* Pairs of each origin that an epoch has: [TRAIN_ORIGINS], the order's own. */
const size_t *pair_order_drawn(const pair_order *o);

/* *out = batches of the first epochs; `most` where there are more (0: no bound). */
sem_status pair_order_count(pair_order *o, size_t epochs, size_t most, size_t *out, sem_error *err);

/* members [*count] = the numbers of the next batch's pairs; valid until the next call. Epochs go
 * on without end. */
sem_status pair_order_next(pair_order *o, const uint32_t **members, size_t *count, sem_error *err);
/* Goes to where so many batches were given. */
sem_status pair_order_skip(pair_order *o, size_t batches, sem_error *err);

#endif
