/* How often each text of a mix of data sets comes, counted beforehand: what comes often comes
 * often as a negative, and the ranking loss makes up for that (loss_mnrl.h). */
#ifndef SEM_FINETUNE_MIX_FREQUENCY_H
#define SEM_FINETUNE_MIX_FREQUENCY_H

#include "base/status.h"
#include "finetune/mix.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct mix_frequency mix_frequency;

typedef struct mix_frequency_options {
    const mix_set *sets;  /* [set_count] borrowed */
    const bool *counted;  /* [set_count] whether anybody asks for the set's */
    const double *shares; /* [set_count] mix_shares: read where batches are of all sets */
    size_t set_count;
    bool cross_dataset;        /* batches are of all sets */
    const char *folder;        /* for the table, which lies in a file (disk_table.h) */
    const atomic_bool *cancel; /* may be NULL */
} mix_frequency_options;

/* Reads the first pass of each set. */
sem_status mix_frequency_count(mix_frequency **out, const mix_frequency_options *options, sem_error *err);
void mix_frequency_destroy(mix_frequency *f); /* accepts NULL */

/* The natural log of how many pairs of the set have it: as the anchor, by the anchor's key, or
 * as positive or hard negative, by the text's. Where batches are of all sets, of how many
 * of all sets do, each set's by how much more often its pairs are drawn than they would be by the
 * sets' sizes. 0 for what was not met. */
float mix_frequency_anchor(const mix_frequency *f, size_t set, uint64_t key);
float mix_frequency_candidate(const mix_frequency *f, size_t set, uint64_t text_key);

#endif
