/* Vectors of texts under another model, a teacher or a guide, each computed when it is first
 * asked for, and kept in a file for later passes and runs (docs/format.md has its form). The
 * model is opened when a vector is missing, and not at all where none is.
 *
 * A text's vector goes by model, prompt and text: the file serves any data. One process at
 * a time, and in it one thread. */
#ifndef SEM_FINETUNE_KEPT_VECTORS_H
#define SEM_FINETUNE_KEPT_VECTORS_H

#include "base/patience.h"
#include "base/status.h"
#include "finetune/data_example.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct kept_vectors kept_vectors;

typedef struct kept_options {
    const char *model; /* directory */
    const char *path;  /* of the file; NULL: nothing is kept, all is computed each time */
    unsigned threads;
    niceness nice;
    const atomic_bool *cancel; /* may be NULL */
    /* Told, for people, that a file is damaged or of another model, and computed anew; may be NULL. */
    void (*tell)(void *context, const char *message);
    void *context;
} kept_options;

/* Checks all that the file has. SEM_INVALID_ARGUMENT for a file that holds something else,
 * SEM_FAILED_PRECONDITION for one that another process has open. */
sem_status kept_vectors_open(kept_vectors **out, const kept_options *options, sem_error *err);
void kept_vectors_close(kept_vectors *k); /* accepts NULL */

size_t kept_vectors_dim(const kept_vectors *k);
uint64_t kept_vectors_fingerprint(const kept_vectors *k); /* of the model */

typedef struct kept_text {
    data_text text;
    bool as_query; /* which of the model's prompts it gets */
} kept_text;

/* out[count, dim] = the texts' vectors, of unit length, equal bits for equal texts. SEM_CANCELLED
 * when *cancel became true. */
sem_status kept_vectors_get(kept_vectors *k, const kept_text *texts, size_t count, float *out, sem_error *err);

typedef struct kept_counts {
    uint64_t computed; /* by this process */
    uint64_t kept;     /* in the file */
} kept_counts;

kept_counts kept_vectors_counts(const kept_vectors *k);

#endif
