/* What other models say of a batch's texts: a teacher's vectors, that the student shall have
 * too, and a guide's cosines, by which false negatives are known. */
#ifndef SEM_FINETUNE_MIX_OTHERS_H
#define SEM_FINETUNE_MIX_OTHERS_H

#include "base/status.h"
#include "model/gemm.h"
#include "finetune/kept_vectors.h"
#include "finetune/mix.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct mix_others mix_others;

typedef struct mix_others_options {
    kept_vectors *teacher, *guide; /* borrowed; either may be NULL */
    const gemm *g;
    size_t max_pairs, max_texts; /* of a batch */
} mix_others_options;

sem_status mix_others_create(mix_others **out, const mix_others_options *options, sem_error *err);
void mix_others_destroy(mix_others *o); /* accepts NULL */

/* *out = [2 pairs, dim] what the teacher wants of the batch's anchors, and then of its positives:
 * its own vectors of these, or, unless each is true, its vectors of the anchors for both, since
 * they mean the same and the teacher may not know the positives' language. Each under the
 * prompt that its side has. Valid until the next call. There is a teacher. */
sem_status mix_others_teach(mix_others *o, const mix_batch *batch, bool each, const float **out, sem_error *err);

/* *out = [pairs, texts - pairs] the guide's cosines of anchors and candidates, texts in the order
 * of finetune/loss.h; NULL where there is no guide. Valid until the next call. */
sem_status mix_others_guide(mix_others *o, const data_text *texts, size_t pairs, size_t count, const float **out,
                            sem_error *err);

#endif
