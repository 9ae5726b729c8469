/* The thread that keeps the lexical index up with the store, and what searches
 * ask of it: to be told when it has applied the log far enough. */
#ifndef SEM_DAEMON_LEXICAL_THREAD_H
#define SEM_DAEMON_LEXICAL_THREAD_H

#include "base/status.h"
#include "index/lexical_search.h"
#include "daemon/core.h"
#include "daemon/task.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct lexical_thread lexical_thread;

/* Opens the index in the thread itself: a start waits for none of its work. */
sem_status lexical_thread_create(lexical_thread **out, core *c, sem_error *err);
/* Ends it after the step under way. Accepts NULL. */
void lexical_thread_destroy(lexical_thread *l);

/* --- the writer's; both accept NULL: there is no index */

/* A commit has something new in the log. */
void lexical_thread_notify(lexical_thread *l);
/* A collection was dropped: its tables go. */
void lexical_thread_dropped(lexical_thread *l);

/* --- any thread's */

/* Waits until the log is applied up to seq, and a moment for a collection that is being
 * built. SEM_UNAVAILABLE, with the reason, when the index does not go on;
 * SEM_DEADLINE_EXCEEDED. */
sem_status lexical_thread_wait(lexical_thread *l, uint32_t collection, uint64_t seq, const task *t, sem_error *err);
/* What stays even if the machine crashes: the log and old texts up to here are no
 * longer needed for the index. 0 for NULL. */
uint64_t lexical_thread_durable(lexical_thread *l);

typedef enum lexical_state { LEXICAL_READY, LEXICAL_BUILDING, LEXICAL_PAUSED } lexical_state;
/* How a collection's index stands; *seq: up to where the log is applied. */
lexical_state lexical_thread_state(lexical_thread *l, uint32_t collection, uint64_t *seq);

/* A reader of the file as it is now, made anew if *cached is of an older one. *cached
 * belongs to the calling thread; close it with lexical_cache_close. */
typedef struct lexical_cache {
    lexical_reader *reader; /* owned */
    unsigned file;
    bool bad; /* the file could not be opened: it is damaged or gone */
} lexical_cache;
sem_status lexical_thread_reader(lexical_thread *l, lexical_cache *cached, sem_error *err);
/* Whether the reader found its file damaged or gone; then the file is made anew,
 * which lexical_thread_wait waits for. */
bool lexical_thread_report(lexical_thread *l, lexical_cache *cached);
void lexical_cache_close(lexical_cache *cached);

#endif
