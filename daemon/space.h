/* A space as it is served: the vector index of every collection in it.
 *
 * Readers pin an index for the length of one request; the writer adds and drops
 * indices. Only the writer puts and removes vectors. */
#ifndef SEM_DAEMON_SPACE_H
#define SEM_DAEMON_SPACE_H

#include "base/log.h"
#include "base/status.h"
#include "index/store.h"
#include "index/vector_index.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct space space;

/* An index with the number of those who use it. */
typedef struct space_index {
    uint32_t collection;
    vector_index *index;
    char *cache;         /* owned: the file that its lists are saved in */
    atomic_bool dropped; /* the file goes with the last user, who may be saving it yet */
    atomic_int references;
} space_index;

typedef struct space_options {
    store *store; /* that has the vectors; stays open longer */
    uint32_t number;
    size_t dim;         /* 0 in the external space, where each collection has its own */
    size_t exact_below; /* as vector_index_options */
    unsigned threads;
    vector_engine engine;
    vector_faiss_type faiss_type;
} space_options;

/* The caller has the first reference. */
sem_status space_create(space **out, const space_options *options, sem_error *err);
space *space_retain(space *s);
/* Frees the space with the last reference. Accepts NULL. Any thread. */
void space_release(space *s);
/* The store is about to remove the space: lists that the index thread may just be saving
 * go when their last user is done. Any thread; nobody may add an index afterwards. */
void space_retire(space *s);

uint32_t space_number(const space *s);
size_t space_dim(const space *s);

/* Makes the (empty) index of a collection; no effect if it is there. Writer
 * thread, or before the space is shared. */
sem_status space_add(space *s, const store_collection *collection, sem_error *err);
/* Takes the index out; it is freed when its last reader is done. Writer thread. */
void space_drop(space *s, uint32_t collection);

/* Queries have another model from now on (vector_index_queries_changed). Any thread. */
void space_queries_changed(space *s);

/* Pins the index of a collection, NULL if there is none. Any thread. */
space_index *space_acquire(space *s, uint32_t collection);
void space_index_release(space_index *i); /* accepts NULL */
/* Pins every index; *out is malloc'd, each to be released. Any thread. */
sem_status space_acquire_all(space *s, space_index ***out, size_t *count, sem_error *err);

/* Adds the indices of every collection that belongs to the space and fills them
 * from the store: at start, and before a rollback. Vectors whose document has
 * changed since they were made are left out. */
sem_status space_fill(space *s, store_read *r, sem_error *err);

#endif
