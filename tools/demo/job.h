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

/* Is called with the name of each phase when it is seen to begin. */
typedef struct job_watcher {
    void (*phase)(void *context, const char *name);
    void *context;
} job_watcher;

/* Starts a job of this mode and draws its progress until it is over. Fails if the job fails, with
 * SEM_FAILED_PRECONDITION where the daemon finds too little to learn from; a discarded candidate is
 * no failure here. watcher: may be NULL. */
sem_status job_run(client *c, const char *mode, const job_watcher *watcher, job_report *report, sem_error *err);

#endif
