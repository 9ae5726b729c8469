/* A mix of data sets as the trainer's batches: tokenized, with keys that keep true
 * matches from being negatives. */
#ifndef SEM_FINETUNE_MIX_SOURCE_H
#define SEM_FINETUNE_MIX_SOURCE_H

#include "base/status.h"
#include "model/model.h"
#include "finetune/checkpoint.h"
#include "finetune/kept_vectors.h"
#include "finetune/loss_choice.h"
#include "finetune/mix.h"
#include "finetune/mix_frequency.h"
#include "finetune/train_step.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MIX_NEGATIVES_MAX = 64 };

/* What is learnt from the pairs of a set. */
typedef struct mix_lesson {
    loss_name loss;
    bool each; /* of LOSS_MSE: both texts of a pair have a teacher's vector of their own (mix_others.h) */
} mix_lesson;

typedef struct mix_source_options {
    const mix_lesson *lessons; /* [the mix's sets]; all alike where a batch is of several sets */
    size_t batch_size;         /* the mix's */
    size_t negatives;          /* hard ones of each example, at most, where the loss is for them: of more, so many
                                * that stand behind each other are taken, from a place that seed and step decide */
    size_t max_tokens;         /* of a text; 0: the model's own limit */
    uint64_t seed;
    kept_vectors *teacher; /* borrowed; needed where a lesson is LOSS_MSE. Its vectors are as wide as the model's */
    kept_vectors *guide;   /* borrowed; NULL: none */
    const mix_frequency *frequency; /* of the mix's sets, borrowed; NULL: not counted */
} mix_source_options;

typedef struct mix_source mix_source;

/* base and m are borrowed. */
sem_status mix_source_create(mix_source **out, const model *base, mix *m, const mix_source_options *options,
                             sem_error *err);
void mix_source_destroy(mix_source *s); /* accepts NULL */

size_t mix_source_max_texts(const mix_source *s); /* of a batch */

/* The mix's next batch: anchors, positives, then all negatives, each with the prompt
 * that it has in serving; valid until the next call. context is a mix_source. Equal
 * texts, anchors of one key and examples of one label are no negatives of each other. */
sem_status mix_source_next(void *context, train_batch *batch, sem_error *err);

/* The mix's place, into and from a section of a checkpoint. context is a mix_source. */
sem_status mix_source_save(void *context, checkpoint_writer *w, sem_error *err);
sem_status mix_source_load(void *context, const checkpoint_reader *c, sem_error *err);

#endif
