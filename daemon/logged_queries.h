/* What was asked of a collection lately, as queries to measure recall with: an index
 * promises a recall for the queries that come, and its own documents only stand in for
 * them. */
#ifndef SEM_DAEMON_LOGGED_QUERIES_H
#define SEM_DAEMON_LOGGED_QUERIES_H

#include "base/status.h"
#include "daemon/core.h"
#include "daemon/encoding.h"
#include "daemon/serving.h"
#include "daemon/space.h"

#include <stdatomic.h>

enum { LOGGED_QUERIES_MAX = 400 };

/* Gives the index the vectors of the last LOGGED_QUERIES_MAX different texts that the
 * event log has for its collection, encoded by s, which serves it. *with: to encode with,
 * made when it is first needed; the caller's. stop ends it early (SEM_CANCELLED).
 * Index thread. */
sem_status logged_queries_give(core *c, serving *s, space_index *i, encoding **with, const atomic_bool *stop,
                               sem_error *err);

#endif
