/* Which items, examples of a window or pairs in memory, share a batch. Each stands in exactly one. Within a batch
 * texts that could only be masked, equal ones and those of one label, are avoided as
 * far as there are other batches (finetune/sampler.h). */
#ifndef SEM_FINETUNE_MIX_PLAN_H
#define SEM_FINETUNE_MIX_PLAN_H

#include "base/status.h"
#include "finetune/sampler.h"

#include <stdbool.h>
typedef struct mix_plan mix_plan;

typedef struct mix_plan_options {
    size_t batch_size;       /* at most */
    const uint64_t *domains; /* [count] equal: of one domain; NULL: all are of one */
    double mixed_share;      /* of every domain's examples, that stand in batches of all domains. So do
                              * those of a domain with less than half a batch of others */
    uint64_t seed;
} mix_plan_options;

/* keys [count], at least one, in random order. */
sem_status mix_plan_make(mix_plan **out, const sampler_keys *keys, size_t count, const mix_plan_options *options,
                         sem_error *err);
void mix_plan_free(mix_plan *p); /* accepts NULL */

size_t mix_plan_batches(const mix_plan *p);

/* The items' numbers in a batch; *mixed: of all domains. */
const uint32_t *mix_plan_batch(const mix_plan *p, size_t batch, size_t *count, bool *mixed);

#endif
