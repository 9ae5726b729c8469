/* The writer: the one thread that owns LMDB's write transactions. Requests that
 * lie in its queue together share one commit; their answers go out after it. */
#ifndef SEM_DAEMON_WRITER_H
#define SEM_DAEMON_WRITER_H

#include "base/status.h"
#include "index/events.h"
#include "index/store.h"
#include "daemon/core.h"
#include "daemon/task.h"

#include <stdbool.h>

typedef struct writer writer;

sem_status writer_create(writer **out, core *c, sem_error *err);
/* Commits what was handed over, then stops the thread. Accepts NULL. */
void writer_destroy(writer *w);

/* Hands over a prepared upsert, delete by ids, collection.create,
 * collection.drop, click or feedback. Takes ownership of t; answers it in every case. */
void writer_submit(writer *w, task *t);

/* A search as the event log keeps it, with its own copies of everything. */
typedef struct search_record {
    event_search event;
    char query_id[QUERY_ID_MAX + 1];
    void *memory; /* owned, of pool_take: texts, ids and scores */
    size_t memory_bytes;
} search_record;

/* Hands over a search for the log; written within FLUSH_INTERVAL_MS, or with the
 * next click; dropped and counted when too many wait. Takes ownership (of pool_take). Must be called before the search is
 * answered, so that no click can come first. */
void writer_log_search(writer *w, search_record *record);

/* Frees one that was not handed over. Accepts NULL. */
void writer_free_record(search_record *record);

/* Work of another thread in a write group of its own. apply runs in the writer
 * thread; when it fails, nothing that it did is committed. When it and the commit
 * succeeded, committed (may be NULL) runs there before any later write is applied. */
typedef struct write_call {
    sem_status (*apply)(void *context, store_write *w, sem_error *err);
    void (*committed)(void *context);
    void *context;
} write_call;

/* Waits until the call is done. Any thread but the writer's and the loop's. */
sem_status writer_run(writer *w, const write_call *call, sem_error *err);

/* Since when the writer has been busy with one group, monotonic ns; 0: it waits. */
uint64_t writer_busy_since(const writer *w);

#endif
