/* Chooses the precision in which a model serves, by measuring how well each
 * agrees with float32 on the model itself. */
#ifndef SEM_MODEL_PRECISION_H
#define SEM_MODEL_PRECISION_H

#include "base/log.h"
#include "model/encoder.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct precision_choice {
    packed_precision precision; /* of all matrices but a few */
    packed_precision wide;      /* of these few, where precision is int8 */
    size_t wider;               /* how many they are */
    encoder_precisions table;   /* which they are */
    double cosine;              /* the smallest between its embeddings and float32's; 1 for float32 */
    char reason[128];
} precision_choice;

/* How a precision came out that was tried. */
typedef struct precision_attempt {
    bool known;
    double bound; /* the cosine that was asked for: int8 moves matrices until it is reached */
    double cosine;
    encoder_precisions table;
} precision_attempt;

typedef struct precision_measured {
    precision_attempt attempts[PACKED_PRECISIONS];
    bool fresh; /* they were measured just now */
} precision_measured;

/* What a choice goes by. */
typedef struct precision_request {
    const char *wanted;        /* see precision_choose() */
    double min_cosine;         /* of auto */
    const char *name;          /* of the model, for the log; may be NULL */
    sem_log *log;              /* may be NULL */
    const atomic_bool *cancel; /* may be NULL; measuring, which takes from parts of a second to minutes, ends by it with
                                * SEM_CANCELLED, and the encoder is of no use then */
} precision_request;

/* wanted: "float32" and "bfloat16" are taken as they are, "int8" with as few matrices in
 * bfloat16 (float32 where the machine is not fast in that) as are needed for a cosine of
 * 0.995; "auto" takes the fastest that this machine has instructions for and whose
 * smallest cosine over the texts of batch is at least min_cosine, int8 with some wider
 * matrices among them. Where *measured suffices for the choice nothing is measured, else it
 * becomes what was; the encoder must be the one that was measured then. The encoder is in
 * float32 before and used by nothing else. */
sem_status precision_choose(encoder *e, const token_batch *batch, const precision_request *request,
                            precision_measured *measured, precision_choice *out, sem_error *err);

#endif
