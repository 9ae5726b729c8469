/* Texts to vectors in a worker: tokenised, grouped by length, encoded in slices. */
#ifndef SEM_DAEMON_ENCODING_H
#define SEM_DAEMON_ENCODING_H

#include "base/status.h"
#include "proto/request.h"
#include "daemon/core.h"
#include "daemon/serving.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One a thread. */
typedef struct encoding encoding;

sem_status encoding_create(encoding **out, core *c, sem_error *err);
void encoding_destroy(encoding *e); /* accepts NULL */

typedef struct encoding_job {
    serving *serving;           /* borrowed */
    model_tower tower;          /* which of its models */
    const char *prompt;         /* text put before each text */
    const char *const *prompts; /* [count] one for each text instead, or NULL */
    const span *texts;          /* [count] */
    size_t count;
    bool refuse_long;               /* a text that would be cut is an error */
    const char *field;              /* how the error names a text: "texts", "docs" */
    const size_t *places;           /* [count] and its number there; NULL: as in texts */
    bool alone;                     /* the field is one text and has no numbers: "query" */
    size_t slice_tokens;            /* at most so many (or one text) between two calls of between */
    float *out;                     /* [count, dim], unit length */
    uint32_t *tokens;               /* [count] or NULL */
    bool *truncated;                /* [count] or NULL */
    bool (*between)(void *context); /* or NULL; called between slices; false stops with SEM_CANCELLED */
    void *context;
} encoding_job;

/* Fails because no token came of a text; the caller names the field. */
sem_status encoding_refuse_empty(sem_error *err);

/* Fails because text i of the field was cut. */
sem_status encoding_refuse_cut(const model *m, const char *field, size_t i, sem_error *err);

/* Runs in the calling thread. between may itself call encoding_run, once deep. */
sem_status encoding_run(encoding *e, const encoding_job *job, sem_error *err);

/* The forward pass of a tower alone, of texts that are tokenised: out[batch->texts, dim]. */
sem_status encoding_forward(encoding *e, serving *s, model_tower tower, const token_batch *batch, float *out,
                            sem_error *err);

#endif
