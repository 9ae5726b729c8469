/* Watching a fine-tune job. */
#ifndef SEM_TOOLS_DEMO_JOB_H
#define SEM_TOOLS_DEMO_JOB_H

#include "proto/client.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct job_report {
    bool promoted;
    uint64_t generation;                                  /* the current one after it */
    size_t pairs;                                         /* trained on */
    double training_s, evaluating_s, embedding_s, flip_s; /* embedding: with catching up */
    double total_s;
    char reason[512]; /* what the job says of itself */
} job_report;

/* Starts a job of mode full and draws its progress until it is over. Fails if the
 * job fails; a discarded candidate is no failure here. */
sem_status job_run(client *c, job_report *report, sem_error *err);

#endif
