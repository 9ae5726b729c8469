/* The lexical index: full-text tables of every collection with lexical on, in one
 * SQLite file below the store. A cache of the store: what it holds is made from
 * documents and the write log, rows and the number up to which the log was
 * applied are committed together, and a file that is missing, damaged or of
 * another store is made anew.
 *
 * One thread works on it; lexical_search.h reads it from any other. */
#ifndef SEM_INDEX_LEXICAL_INDEX_H
#define SEM_INDEX_LEXICAL_INDEX_H

#include "base/log.h"
#include "base/status.h"
#include "index/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lexical_index lexical_index;

/* Opens the file, or makes it; then every collection with lexical on waits to be
 * built. A file that does not fit the store is replaced, which is logged. */
sem_status lexical_index_open(lexical_index **out, store *s, sem_log *log, sem_error *err);
void lexical_index_close(lexical_index *x); /* accepts NULL */
/* Removes the file of a closed index: the next open makes a new one. */
sem_status lexical_index_remove(const store *s, sem_error *err);

/* The log is applied up to here. */
uint64_t lexical_index_seq(const lexical_index *x);
/* Numbers of the collections that are being built; *out is malloc'd, NULL when memory is out or there are none. */
void lexical_index_building(const lexical_index *x, uint32_t **out, size_t *count);
/* Whether an error said that the file is no good. */
bool lexical_index_damaged(const lexical_index *x);

/* One step in one transaction: a batch of the log, or, where that is applied, a
 * batch of documents of a collection that is being built. r: the newest
 * snapshot. *more: another step has something to do. On an error nothing of the
 * step has happened. Where the log no longer has what comes next, the file counts as
 * damaged. */
sem_status lexical_index_step(lexical_index *x, store_read *r, bool *more, sem_error *err);
/* Removes the tables of collections that are gone from the snapshot. */
sem_status lexical_index_forget(lexical_index *x, store_read *r, sem_error *err);
/* Makes what was committed last through a crash of the machine; *durable: up to
 * which number of the log that is so now. */
sem_status lexical_index_checkpoint(lexical_index *x, uint64_t *durable, sem_error *err);

#endif
