/* What a guide, another model, says of pairs in memory: how close each query is to each
 * document, so that documents as close as the right one are not taken for wrong ones. */
#ifndef SEM_FINETUNE_PAIR_GUIDE_H
#define SEM_FINETUNE_PAIR_GUIDE_H

#include "finetune/pair_negatives.h"
#include "finetune/trainer.h"

typedef struct pair_guide pair_guide;

/* Computes the vectors of all texts of pairs [count], and of their negatives, under the model that
 * config->guide names, each with its prompt: 8 bytes a pair and number, 4 a negative. Negatives that it
 * scores above config->negative_ratio times the score of their pair's document are likely to be right as
 * well, and are left out of `negatives`, as in mining (mine.h). cancel may be NULL. Batches are of
 * config->batch_size pairs at most; g is borrowed, as are pairs and negatives, which stay as they are then. */
sem_status pair_guide_create(pair_guide **out, const train_pair *pairs, size_t count, pair_negatives *negatives,
                             const train_config *config, const gemm *g, const atomic_bool *cancel, sem_error *err);
void pair_guide_destroy(pair_guide *g); /* accepts NULL */

/* [n, C] cosines of the queries and the C candidates of the pairs members [n]: their documents, then
 * the negatives of the first, of the second, and so on. Valid until the next call. */
const float *pair_guide_cosines(pair_guide *g, const uint32_t *members, size_t n);

/* `before`, and all the vectors. */
uint64_t pair_guide_fingerprint(const pair_guide *g, uint64_t before);

#endif
