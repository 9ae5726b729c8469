/* A generation as it is served: its model and its space. Everything inside one
 * response comes from one of these, pinned for the length of the request. */
#ifndef SEM_DAEMON_SERVING_H
#define SEM_DAEMON_SERVING_H

#include "base/log.h"
#include "base/status.h"
#include "model/model.h"
#include "index/store.h"
#include "daemon/config.h"
#include "daemon/space.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

typedef struct serving {
    atomic_int references;
    uint32_t generation;
    model *model; /* owned */
    space *space; /* owned */
} serving;

/* Opens the generation's model below the store's models/ folder and takes
 * ownership of s in every case. The caller holds the first reference. */
sem_status serving_open(serving **out, const store_generation *g, const char *storage, space *s, const config *settings,
                        sem_log *log, sem_error *err);
serving *serving_retain(serving *s);
void serving_release(serving *s); /* accepts NULL; any thread */

/* The pointer that a flip swaps. */
typedef struct serving_slot {
    pthread_mutex_t lock; /* guards now for a few instructions; rank 4, a leaf */
    serving *now;
} serving_slot;

void serving_slot_init(serving_slot *slot);
/* Pins what is served now; NULL when empty. */
serving *serving_slot_acquire(serving_slot *slot);
/* Puts next (whose reference it takes; may be NULL) and returns the old one with its reference. */
serving *serving_slot_swap(serving_slot *slot, serving *next);

#endif
