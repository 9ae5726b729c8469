/* What each writing request does inside a write group, and after its commit. */
#ifndef SEM_DAEMON_WRITE_OPS_H
#define SEM_DAEMON_WRITE_OPS_H

#include "base/status.h"
#include "index/store.h"
#include "daemon/core.h"
#include "daemon/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct write_result {
    uint64_t seq;
    size_t count; /* documents put or deleted */
    bool flag;    /* created, dropped */
    store_collection collection;
    store_put *puts;  /* [count] of an upsert, owned */
    uint32_t *docnos; /* [count] of a delete, owned */
} write_result;

void write_result_free(write_result *r);

/* Writer thread. SEM_CANCELLED: the task was encoded for a space that is no longer
 * current, or a text that was taken for the same has changed; it must be encoded again. */
sem_status write_op_apply(core *c, task *t, store_write *w, write_result *r, sem_error *err);
/* Writer thread, after the commit: the indices follow, then the answer goes out. Frees t. */
void write_op_finish(core *c, task *t, write_result *r);
/* Sends the task back to the workers. Takes t. */
void write_op_again(core *c, task *t);

/* Takes documents out of the indices of every space that is in memory. Writer thread. */
void write_ops_unindex(core *c, uint32_t collection, const uint32_t *docnos, size_t count);

#endif
