/* What a guide, another model, says of pairs in memory: how close each query is to each
 * document, so that documents as close as the right one are not taken for wrong ones. */
#ifndef SEM_FINETUNE_PAIR_GUIDE_H
#define SEM_FINETUNE_PAIR_GUIDE_H

#include "finetune/trainer.h"

typedef struct pair_guide pair_guide;

/* Computes the vectors of all texts of pairs [count] under the model that config->guide names, each
 * with its prompt: 8 bytes a pair and number. cancel may be NULL. Batches are of config->batch_size
 * pairs at most; g is borrowed. */
sem_status pair_guide_create(pair_guide **out, const train_pair *pairs, size_t count, const train_config *config,
                             const gemm *g, const atomic_bool *cancel, sem_error *err);
void pair_guide_destroy(pair_guide *g); /* accepts NULL */

/* [n, n] cosines of the queries and documents of the pairs members [n]; valid until the next
 * call. */
const float *pair_guide_cosines(pair_guide *g, const uint32_t *members, size_t n);

/* `before`, and all the vectors. */
uint64_t pair_guide_fingerprint(const pair_guide *g, uint64_t before);

#endif
