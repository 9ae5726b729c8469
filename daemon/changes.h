/* What the write log says was touched since a moment: the work of catching up. */
#ifndef SEM_DAEMON_CHANGES_H
#define SEM_DAEMON_CHANGES_H

#include "base/status.h"
#include "index/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct change {
    uint32_t collection, docno;
} change;

typedef struct changes {
    change *items; /* [count], owned: free(); by collection and docno, with repeats */
    size_t count, capacity;
    uint64_t seq; /* the log was read up to here */
    bool failed;
} changes;

/* Whether a document was put or deleted is not told: it may have come back, so
 * the caller looks it up. Any thread. */
sem_status changes_read(changes *out, store_read *r, uint64_t after, sem_error *err);
/* For qsort, and to find repeats. */
int change_compare(const void *a, const void *b);

#endif
