/* Training in fixed shapes: each text is padded to 64, 128, 196 or 256 tokens, and each of
 * these widths has one plan for all passes of the run. A plan is a number of rows, and for
 * each helper a tape whose memory is laid out for just so many tokens and the list of
 * its passes' texts; it is built when the first text of its width comes. The texts of a
 * batch fill passes of their width, the last one of them with rows of nothing, so that all
 * passes of a plan have the same number of tokens however many pairs, and of however many
 * texts, a batch has.
 *
 * What pads a row is a text of its own behind the real one: nobody attends to it, and
 * its gradient is 0. */
#ifndef SEM_FINETUNE_TRAIN_SHAPES_H
#define SEM_FINETUNE_TRAIN_SHAPES_H

#include "base/status.h"
#include "finetune/team.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRAIN_BUCKETS = 4 };

/* Tokens of a text in each; the last is the most that a text may have. */
extern const size_t train_bucket_widths[TRAIN_BUCKETS];

typedef enum train_shape {
    TRAIN_SHAPE_PACKED, /* nothing is padded */
    TRAIN_SHAPE_BUCKETS
} train_shape;

/* "packed" and "buckets"; false for other names. */
bool train_shape_of(const char *name, train_shape *out);

/* Of this process; all 0 where nothing is padded. */
typedef struct train_shape_report {
    size_t plans_built;
    size_t plans_reused;         /* times that a step used a plan that was there */
    size_t steps[TRAIN_BUCKETS]; /* steps (batches, where they are added up) that used it */
    uint64_t passes[TRAIN_BUCKETS];
    uint64_t tokens;  /* that were computed, forward */
    uint64_t padding; /* of those, that stand for nothing */
} train_shape_report;

typedef struct train_shapes train_shapes;
struct train_step;

/* For the batches of a step, which is created but for its helpers' passes. */
sem_status train_shapes_create(train_shapes **out, const struct train_step *s, sem_error *err);
void train_shapes_destroy(train_shapes *f); /* accepts NULL */

/* Divides the step's batch (s->lengths are set) into passes, and those over the helpers; builds
 * plans that are missing. By the leader. */
sem_status train_shapes_divide(train_shapes *f, sem_error *err);
/* As train_part_forward and train_part_backward, by all helpers; context is the step. */
team_part train_shapes_forward;
team_part train_shapes_backward;

const train_shape_report *train_shapes_report(const train_shapes *f);

#endif
