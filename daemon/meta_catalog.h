/* The columns of meta of every collection, by its number.
 *
 * The writer adds, drops and changes; requests match; the columns thread fills
 * what the start left empty and merges. */
#ifndef SEM_DAEMON_META_CATALOG_H
#define SEM_DAEMON_META_CATALOG_H

#include "base/log.h"
#include "base/status.h"
#include "index/meta_columns.h"
#include "index/store.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct meta_catalog meta_catalog;

/* With columns for each collection in the store, which are ready only where it
 * has no documents. */
sem_status meta_catalog_create(meta_catalog **out, store_read *r, sem_error *err);
void meta_catalog_destroy(meta_catalog *c); /* accepts NULL */

/* Columns of a new, empty collection; no effect if they are there. Writer thread. */
sem_status meta_catalog_add(meta_catalog *c, uint32_t collection, sem_error *err);
void meta_catalog_drop(meta_catalog *c, uint32_t collection);
/* The columns, to be released; NULL if there are none, or no catalog. Any thread. */
meta_columns *meta_catalog_acquire(meta_catalog *c, uint32_t collection);

/* One round over all collections: fills the columns that are not ready from the
 * store's documents as they are, and merges what came since. Columns thread.
 * What goes wrong is logged and tried again at the next round. */
void meta_catalog_work(meta_catalog *c, store *s, const atomic_bool *stop, sem_log *log);

#endif
