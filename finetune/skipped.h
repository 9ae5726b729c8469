/* Hard negatives from clicks: who clicks a document has most likely looked at those above
 * it and passed them by (Joachims et al. 2005, "Accurately Interpreting Clickthrough Data
 * as Implicit Feedback": a click is preferred over what was skipped above). */
#ifndef SEM_FINETUNE_SKIPPED_H
#define SEM_FINETUNE_SKIPPED_H

#include "base/status.h"
#include "finetune/text_pool.h"
#include "finetune/trust.h"

#include <stddef.h>
#include <stdint.h>

enum {
    SKIPPED_ABOVE = 5 /* those nearest to a click that are looked at: people read upwards of it with less care the
                       * farther (Joachims et al. 2005, figure 3) */
};

/* A document, by its text's number, that was shown above the one clicked in a pair. */
typedef struct skip {
    uint32_t pair;
    uint32_t document;
} skip;

typedef struct skipped_report {
    size_t candidates, known, same_text; /* left out by each rule, in this order */
} skipped_report;

/* Keeps in skips [*count] the documents that may be negatives of their pair, at most `most`
 * each, pair by pair, those skipped most often first. Left out, as in mining (mine.h): a
 * positive of the same query in any pair that weighs anything, and what differs from the
 * pair's positive or query in case and white space only. What a guide thinks of them is
 * asked later (pair_guide.h). */
sem_status skipped_choose(skip *skips, size_t *count, const trust_pair *pairs, size_t pair_count,
                          const text_pool *texts, size_t most, skipped_report *report, sem_error *err);

#endif
