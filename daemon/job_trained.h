/* Up to which judgement a model was trained: kept beside its weights, in semd_generation.json, so
 * that it goes with them through flips and rollbacks. */
#ifndef SEM_DAEMON_JOB_TRAINED_H
#define SEM_DAEMON_JOB_TRAINED_H

#include "base/status.h"
#include "index/store.h"

#include <stdint.h>

enum { JOB_STORE_MARK = 17 /* bytes, NUL included */ };

/* Names a store without telling its key: numbers of judgements mean nothing in another one. */
void job_store_mark(const store *s, char out[JOB_STORE_MARK]);

/* The number that the model in the directory was trained up to in this store; 0: it was not, or it
 * does not say so. */
uint64_t job_trained_upto(const store *s, const char *dir);

#endif
