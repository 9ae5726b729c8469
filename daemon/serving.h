/* A generation as it is served: its models and its space. Everything inside one
 * response comes from one of these, pinned for the length of the request.
 *
 * Generations that share the document model share the space: two servings then have the
 * same one, with its indices, and both are right about what is in it. */
#ifndef SEM_DAEMON_SERVING_H
#define SEM_DAEMON_SERVING_H

#include "base/log.h"
#include "base/status.h"
#include "model/model.h"
#include "model/towers.h"
#include "index/store.h"
#include "daemon/config.h"
#include "daemon/space.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* An open model and the servings that have it. */
typedef struct serving_model serving_model;

typedef struct serving {
    atomic_int references;
    uint32_t generation;
    const model *query;               /* embeds queries; the same as the next where one model does both */
    const model *document;            /* embeds documents and passages */
    char folder[STORE_MODEL_MAX + 1]; /* below models/: where the document model lies, and */
    char query_folder[STORE_MODEL_MAX + 1];
    space *space;             /* a reference */
    serving_model *models[2]; /* [model_tower] references */
} serving;

/* Opens the generation's models below the store's models/ folder, but for those that `like`
 * (may be NULL) has open, which are shared. Takes the reference to s in every case. The caller
 * holds the first reference to *out. */
sem_status serving_open(serving **out, const store_generation *g, const char *storage, space *s, const serving *like,
                        const config *settings, sem_log *log, sem_error *err);
serving *serving_retain(serving *s);
void serving_release(serving *s); /* accepts NULL; any thread */

/* Its query or its document model. Borrowed. */
const model *serving_tower(const serving *s, model_tower which);
/* Whether queries and documents have a model each. */
bool serving_has_two(const serving *s);
/* Whether what is put into the one's space is in the other's, since it is the same. NULL shares with nobody. */
bool serving_shares_space(const serving *a, const serving *b);

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
