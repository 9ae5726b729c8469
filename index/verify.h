/* Whether a store is what docs/format.md says: every record of its form, and all of
 * them in agreement. No daemon may have the store open, and nothing is written but the
 * lock file, where there is none and the folder can be written to. */
#ifndef SEM_INDEX_VERIFY_H
#define SEM_INDEX_VERIFY_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct verify_options {
    const char *path; /* the store's folder */
    bool models;      /* the model directories as well */
    /* Called with each violation, and with what is wrong with a cache; one sentence. */
    void (*found)(void *context, const char *text);
    /* Called when a part is begun; may be NULL. */
    void (*begun)(void *context, const char *part);
    void *context;
} verify_options;

typedef struct verify_result {
    uint64_t violations;
    uint64_t caches; /* things that are wrong with saved lists, which may be removed: no violations */
    uint64_t collections, documents, vectors, lists, events; /* that were looked at */
    bool read_only; /* the store could not be written to: a daemon on another machine goes unnoticed */
} verify_result;

/* SEM_FAILED_PRECONDITION when a daemon has it, SEM_NOT_FOUND when it is none; an error where
 * it cannot be read to its end. Violations are no error. Reading is done by a child process, which
 * damaged pages may kill: that is a violation. The caller must have no other threads. */
sem_status store_verify(const verify_options *options, verify_result *out, sem_error *err);

/* Removes what the next start makes anew: saved lists and the lexical index. *removed
 * how many folders. SEM_FAILED_PRECONDITION when a daemon has the store. */
sem_status store_remove_caches(const char *path, unsigned *removed, sem_error *err);

#endif
