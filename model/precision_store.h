/* What was measured of a model's precisions, kept in its directory, so that the next
 * start does not measure again: semd_precision.json. */
#ifndef SEM_MODEL_PRECISION_STORE_H
#define SEM_MODEL_PRECISION_STORE_H

#include "base/log.h"
#include "model/encoder.h"
#include "model/precision.h"

#include <stdint.h>

#define PRECISION_STORE_FILE "semd_precision.json"

/* What a measurement is of: it counts for this and for nothing else. */
typedef struct precision_key {
    uint64_t files;    /* names, sizes, times of change and sampled contents of the model's files */
    uint64_t texts;    /* the measured texts' tokens */
    char kernels[160]; /* the level and names of the kernels that computed */
} precision_key;

/* The key of e, of the model in dir, measured over batch. */
sem_status precision_key_create(precision_key *out, const char *dir, const encoder *e, const token_batch *batch,
                                sem_error *err);

/* What is stored under this key, of e. Knows nothing where there is no file; one that is
 * damaged or of another key is passed over with a line in the log (may be NULL). */
precision_measured precision_store_read(const char *dir, const precision_key *key, const encoder *e, sem_log *log);

/* Puts it in place of what is stored, all at once and to stay after a crash. */
sem_status precision_store_write(const char *dir, const precision_key *key, const precision_measured *measured,
                                 sem_error *err);

#endif
