/* Chooses the precision in which a model serves, by measuring how well each
 * agrees with float32 on the model itself. */
#ifndef SEM_MODEL_PRECISION_H
#define SEM_MODEL_PRECISION_H

#include "base/log.h"
#include "model/encoder.h"

typedef struct precision_choice {
    packed_precision precision;
    packed_precision projections; /* to queries, keys and values */
    double cosine;                /* the smallest between its embeddings and float32's; 1 for float32 */
    const char *reason;           /* a static text */
} precision_choice;

/* wanted: "float32" and "bfloat16" are taken as they are, "int8" with projections in
 * bfloat16 where that is needed for a cosine of 0.995; "auto" takes the
 * fastest that this machine has instructions for and whose smallest cosine over
 * the texts of batch is at least min_cosine. The encoder is in float32 before and
 * used by nothing else; name is for the log (may be NULL). */
sem_status precision_choose(encoder *e, const token_batch *batch, const char *wanted, double min_cosine,
                            const char *name, sem_log *log, precision_choice *out, sem_error *err);

#endif
