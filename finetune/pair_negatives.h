/* The hard negatives of pairs in memory, in one list, pair by pair. */
#ifndef SEM_FINETUNE_PAIR_NEGATIVES_H
#define SEM_FINETUNE_PAIR_NEGATIVES_H

#include "finetune/trainer.h"

typedef struct pair_negatives {
    const train_negative **items; /* [count] borrowed from the pairs */
    size_t *from;                 /* [pairs + 1] where each pair's begin */
    size_t pairs, count;
} pair_negatives;

/* Zeroed before: none. */
sem_status pair_negatives_list(pair_negatives *out, const train_pair *pairs, size_t count, sem_error *err);
void pair_negatives_free(pair_negatives *n);

/* Of one pair, at most. */
size_t pair_negatives_most(const pair_negatives *n);

/* Leaves out those for which keep [count] is false, in place; keep may be freed then. */
void pair_negatives_keep(pair_negatives *n, const bool *keep);

#endif
