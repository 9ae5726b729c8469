/* Which queries are never trained on: a share of them chosen by a keyed hash, the same ones
 * in every round; and, for one round, those that came last. Queries that differ in case and
 * white space only are one query: what is held out is trained on in no spelling. */
#ifndef SEM_FINETUNE_HOLDOUT_H
#define SEM_FINETUNE_HOLDOUT_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names a query, however it is spelt; key: 16 secret bytes, so that nobody outside can choose
 * a query that is held out, or that is not. */
uint64_t holdout_key(const unsigned char key[16], const char *query, size_t length);

/* Whether the query of this name is held out in every round; share: of all queries, 0 to 1. */
bool holdout_takes(uint64_t query, double share);

/* queries [count]: the names of judgements' queries, in order of time. Of the queries whose
 * first judgement has at least number `since` the share, rounded down, that was judged first
 * last: newest [count] gets true for their judgements. */
sem_status holdout_newest(const uint64_t *queries, size_t count, size_t since, double share, bool *newest,
                          sem_error *err);

#endif
