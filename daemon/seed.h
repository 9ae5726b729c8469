/* The store at the daemon's start: opened, and seeded if it is new. */
#ifndef SEM_DAEMON_SEED_H
#define SEM_DAEMON_SEED_H

#include "base/log.h"
#include "base/status.h"
#include "index/store.h"
#include "daemon/config.h"

enum { SEED_NAME_MAX = 40 /* bytes */ };

/* Opens the store. A new one gets the collection "default" and generation 1, a
 * copy of the directory model.path. On an older one a model.path that differs
 * from the one that seeded it is logged and ignored. *current is the current
 * generation (store_generation_free). */
sem_status seed_open_store(store **out, store_generation *current, const config *c, sem_log *log, sem_error *err);

/* What clients see as a model's name and its folder is called: the last part of
 * a path, with what a folder's name should not hold replaced. */
void seed_name(const char *path, char out[STORE_MODEL_MAX + 1]);

#endif
