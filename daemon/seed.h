/* The store at the daemon's start: opened, and seeded if it is new. */
#ifndef SEM_DAEMON_SEED_H
#define SEM_DAEMON_SEED_H

#include "base/log.h"
#include "base/status.h"
#include "index/store.h"
#include "daemon/config.h"

/* Opens the store. A new one gets the collection "default" and generation 1, a
 * copy of the directory model.path. On an older one a model.path that differs
 * from the one that seeded it is logged and ignored. *current is the current
 * generation (store_generation_free). */
sem_status seed_open_store(store **out, store_generation *current, const config *c, sem_log *log, sem_error *err);

#endif
