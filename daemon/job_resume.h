/* What becomes of a job that an earlier process of the daemon has left unfinished. */
#ifndef SEM_DAEMON_JOB_RESUME_H
#define SEM_DAEMON_JOB_RESUME_H

#include "daemon/job.h"

#include <stdbool.h>

enum { JOB_CRASHES_MAX = 3 /* in one phase, one after the other: then it is given up */ };

/* Makes `work`, a job as jobs_make() has it, the one to go on with; false if there is none. One that can't
 * go on is marked as failed in the store. Before the job thread starts. */
bool job_resume(job *work);

#endif
