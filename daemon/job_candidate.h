/* What a job has made and may make current: a model for queries and documents, a query model for
 * the vectors that are there, or the two models of a directory that was loaded. */
#ifndef SEM_DAEMON_JOB_CANDIDATE_H
#define SEM_DAEMON_JOB_CANDIDATE_H

#include "daemon/job.h"

#include <stdbool.h>

typedef struct job_candidate {
    char folder[STORE_MODEL_MAX + 1]; /* in the job's, later below models/ */
    serving *now;                     /* the generation that it would follow; a reference */
    model *query;                     /* owned */
    model *document;                  /* owned unless it is `query`; NULL: documents keep now's, and their vectors */
} job_candidate;

/* Opens the folder in the job's folder (job_folder.h), in the precision in which it would be served: the gate judges
 * what users would get. keeps_vectors: it is a query model alone. */
sem_status job_candidate_open(job_candidate *out, const job *j, const char *folder, bool keeps_vectors, sem_error *err);
void job_candidate_close(job_candidate *c); /* accepts one that was not opened, all zero */

/* Compares it with what serves (job_gate). */
sem_status job_candidate_judge(const job_candidate *c, job *j, const pair_set *pairs, bool *promote, sem_error *err);

/* job_auto.c: trains both kinds and opens the better in *chosen where the gate lets one pass. */
sem_status job_auto(job *j, pair_set *pairs, job_candidate *chosen, bool *promote, sem_error *err);

/* Makes it current, and its generation's mode is that; closes it first, since its files may move. */
sem_status job_candidate_promote(job_candidate *c, job *j, const char *mode, sem_error *err);

#endif
