/* The meta of a collection's documents in memory, as columns that filters are
 * evaluated on. What it holds at a moment is a state: blocks of 65,536 documents,
 * each a segment (meta_segment.h) and the few newer documents that are not merged
 * into it yet. A state never changes, so a filter sees one moment of all.
 *
 * Who may do what:
 * - The writer applies changes: a whole request becomes visible in one step.
 * - The columns thread merges newer documents into segments, and adopts what it
 *   read from the store at the start.
 * - Any thread matches filters.
 * Writer and columns thread meet in one lock (rank 3), which each holds for the
 * step from one state to the next: copying the pointers of the blocks and of at
 * most some thousand newer documents. Readers take only the lock on the pointer
 * to the state (rank 4), for a few instructions, and never wait for a merge. */
#ifndef SEM_INDEX_META_COLUMNS_H
#define SEM_INDEX_META_COLUMNS_H

#include "base/status.h"
#include "index/docset.h"
#include "index/filter.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct meta_columns meta_columns;

/* ready: the collection is empty, so nothing is missing; else columns answer
 * after meta_fill_finish. */
sem_status meta_columns_create(meta_columns **out, bool ready, sem_error *err);
meta_columns *meta_columns_share(meta_columns *c); /* one more owner */
void meta_columns_release(meta_columns *c);        /* frees with the last owner; accepts NULL */

typedef struct meta_change {
    uint32_t docno;
    bool removed;
    const unsigned char *meta; /* copied; length 0: none */
    size_t length;
} meta_change;

/* Takes over documents as they were committed, all in one step; of a docno that
 * stands twice the last counts. Without memory the columns are no
 * longer ready: they must be read again. Writer only. */
sem_status meta_columns_apply(meta_columns *c, const meta_change *changes, size_t count, sem_error *err);

/* They are no longer ready, as without memory. Writer only. */
void meta_columns_forget(meta_columns *c);

/* Merges newer documents into segments where there are more than a few.
 * Columns thread only. */
sem_status meta_columns_merge(meta_columns *c, sem_error *err);

bool meta_columns_ready(meta_columns *c);

/* Asked between two parts of a filter; false: give up. */
typedef bool meta_go_on(void *context);

/* The documents that pass, to be freed by docset_free; equal to filter_match on
 * each. *out is NULL, with SEM_OK, while the columns are not ready. go_on: NULL, or
 * ends it with SEM_CANCELLED. Any thread. */
sem_status meta_columns_match(meta_columns *c, const filter *f, meta_go_on *go_on, void *context, docset **out,
                              sem_error *err);

typedef struct meta_columns_stats {
    size_t documents; /* in segments */
    size_t fields;    /* of the block that has most */
    size_t bytes;
    size_t unmerged; /* newer documents */
} meta_columns_stats;

void meta_columns_describe(meta_columns *c, meta_columns_stats *out);

/* --- filling from the store */

typedef struct meta_fill meta_fill;

/* Whatever is applied after it wins over what the fill brings, so the store's
 * snapshot must be taken after it. One fill at a time. */
sem_status meta_fill_begin(meta_fill **out, meta_columns *c, sem_error *err);
/* A document; in any order, each once. */
sem_status meta_fill_add(meta_fill *f, uint32_t docno, const unsigned char *meta, size_t length, sem_error *err);
/* Makes the columns ready unless they failed meanwhile (SEM_CANCELLED: begin again). */
sem_status meta_fill_finish(meta_fill *f, sem_error *err);
void meta_fill_free(meta_fill *f); /* finished or not; accepts NULL */

#endif
