/* Many texts to vectors in the background, on several threads of low priority. */
#ifndef SEM_FINETUNE_BULK_ENCODE_H
#define SEM_FINETUNE_BULK_ENCODE_H

#include "base/patience.h"
#include "base/status.h"
#include "model/model.h"

#include <stdatomic.h>
#include <stddef.h>

typedef struct bulk_text {
    const char *text; /* UTF-8; borrowed */
    size_t length;
} bulk_text;

typedef struct bulk_job {
    const model *model;
    const char *prompt;     /* put before each text */
    const bulk_text *texts; /* [count] */
    size_t count;
    size_t max_tokens; /* of a text; 0: the model's own limit */
    unsigned threads;  /* at least 1 */
    niceness nice;
    const atomic_bool *cancel; /* may be NULL */
    float *out;                /* [count, dim], unit length */
} bulk_job;

/* Returns when all is done; SEM_CANCELLED when *cancel became true. Any thread. */
sem_status bulk_encode(const bulk_job *job, sem_error *err);

#endif
