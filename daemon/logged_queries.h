/* What was asked of a collection lately, as queries to measure recall with: an index
 * promises a recall for the queries that come, and its own documents only stand in for
 * them. */
#ifndef SEM_DAEMON_LOGGED_QUERIES_H
#define SEM_DAEMON_LOGGED_QUERIES_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/encoding.h"
#include "daemon/serving.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { LOGGED_QUERIES_MAX = 400 };

/* The vectors [*count, dim] of the last LOGGED_QUERIES_MAX different texts that the event log
 * has for a collection, encoded by s, into *out, malloc'd; NULL where there are none. *with: to
 * encode with, made when it is first needed; the caller's. stop ends it early
 * (SEM_CANCELLED). Index thread. */
sem_status logged_queries_encode(core *c, serving *s, uint32_t collection, encoding **with, const atomic_bool *stop,
                                 float **out, size_t *count, sem_error *err);

#endif
