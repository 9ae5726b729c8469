/* What becomes of a job that an earlier process of the daemon has left unfinished. */
#ifndef SEM_DAEMON_JOB_RESUME_H
#define SEM_DAEMON_JOB_RESUME_H

#include "daemon/job.h"
#include "daemon/jobs.h"

enum { JOB_CRASHES_MAX = 3 /* in one phase, one after the other: then it is given up */ };

/* The job to go on with, which jobs_free() frees; NULL if there is none. One that can't go on is
 * marked as failed in the store. Before the job thread starts. */
job *job_resume(jobs *j, core *c);

#endif
