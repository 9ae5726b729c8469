/* What connections that watch are told: jobs as they go on, generations as they become
 * current. Any thread. */
#ifndef SEM_DAEMON_NOTICES_H
#define SEM_DAEMON_NOTICES_H

#include "proto/pack.h"
#include "daemon/core.h"
#include "daemon/job_status.h"

#include <stdint.h>

/* A generation has become current. reason: what kind of job, or who else, made it so. */
void notices_generation(core *c, uint32_t generation, const char *reason);

/* A job as it is now: it was accepted, has entered a phase, or has ended. */
void notices_job(core *c, job_status *status);

/* The names of the topics (TOPIC_ bits), as an array. */
void notices_pack_topics(packer *p, unsigned topics);

#endif
