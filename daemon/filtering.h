/* The documents that a filter leaves: from the columns of meta, or from the
 * stored documents one by one until the columns are ready. */
#ifndef SEM_DAEMON_FILTERING_H
#define SEM_DAEMON_FILTERING_H

#include "base/status.h"
#include "index/docset.h"
#include "index/filter.h"
#include "index/store.h"
#include "daemon/core.h"
#include "daemon/task.h"

/* *out, to be freed by docset_free, holds the documents that pass at one moment,
 * at which every write is seen that was answered before the call. That moment is
 * not quite that of r, so whoever shows a document asks filter_match about the
 * meta that he shows. t ends it at its deadline; NULL: it has none. Any
 * thread. */
sem_status filtering_documents(core *c, store_read *r, uint32_t collection, const filter *f, const task *t,
                               docset **out, sem_error *err);

/* --- after a commit; writer thread */

/* Documents as they were put; of one that stands twice the last counts. What goes
 * wrong is logged, and the columns are filled anew. */
void filtering_put(core *c, uint32_t collection, const store_put *puts, size_t count);
void filtering_remove(core *c, uint32_t collection, const uint32_t *docnos, size_t count);

#endif
