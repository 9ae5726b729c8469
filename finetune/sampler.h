/* Which pairs share a batch. Every epoch is a new shuffle of all pairs, a pure
 * function of seed and epoch, cut into batches of nearly equal size. Pairs of
 * one document or one query are spread over different batches as far as there
 * are batches: in one batch they could only be masked, never teach. */
#ifndef SEM_FINETUNE_SAMPLER_H
#define SEM_FINETUNE_SAMPLER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct sampler sampler;

typedef struct sampler_keys {
    uint64_t document;
    uint64_t query;
} sampler_keys;

/* keys [count] is copied. batch_size: the most pairs in a batch, at least 1. */
sem_status sampler_create(sampler **out, const sampler_keys *keys, size_t count, size_t batch_size, uint64_t seed,
                          sem_error *err);
void sampler_destroy(sampler *s); /* accepts NULL */

/* Batches of an epoch. */
size_t sampler_batches(const sampler *s);

/* Plans the epoch; needed before sampler_batch, again for every epoch. */
void sampler_begin_epoch(sampler *s, size_t epoch);

/* The pairs' numbers in a batch of the epoch begun; valid until the next. */
const uint32_t *sampler_batch(const sampler *s, size_t batch, size_t *count);

#endif
