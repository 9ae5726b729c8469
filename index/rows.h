/* The rows of an index: each names a document and the slot of its vector. They
 * are appended and never moved or changed; for each document there is the first of
 * the rows that hold its vectors now, one behind the other: one for each passage. Where the vectors lie: row_vectors.h.
 *
 * One thread at a time puts and removes (the writer). Any thread reads
 * meanwhile without waiting. A reader first takes `seen = rows_count()`; rows
 * below it are complete, and rows_alive(row, seen) answers as of that moment:
 * of a document that is replaced later exactly one row counts, of one that is
 * removed none. To look at vectors it begins a rows_view after that. */
#ifndef SEM_INDEX_ROWS_H
#define SEM_INDEX_ROWS_H

#include "base/status.h"
#include "index/chunk_table.h"
#include "index/row_vectors.h"
#include "index/store.h"
#include "index/store_blocks.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROWS_CHUNK = 1024 /* rows in one piece of memory */ };

#define ROW_NONE UINT32_MAX

typedef struct rows_chunk {
    uint32_t docno[ROWS_CHUNK];
    uint32_t slot[ROWS_CHUNK];
    uint32_t passages[ROWS_CHUNK];     /* in a document's first row: how many it has; in the others 0 */
    _Atomic uint32_t next[ROWS_CHUNK]; /* ROW_NONE: current; else the row that replaced it, or ROW_REMOVED */
} rows_chunk;

/* Open to the inline functions below; nobody else looks inside. */
typedef struct rows {
    size_t dim, width;      /* width: dim and zeros up to whole lanes */
    _Atomic uint32_t count; /* rows appended; published after the row is complete */
    atomic_size_t live;     /* rows that are not replaced or removed */
    atomic_size_t documents;
    atomic_bool cut; /* some document has, or had, several rows; set before they are counted */
    atomic_size_t references;
    row_vectors *vectors; /* shared with copies of these rows, where a store has them */
    chunk_table chunks;   /* of rows_chunk */
    chunk_table places;   /* of ROWS_CHUNK _Atomic uint32_t: docno to row */
} rows;

/* Rows without a store: their vectors are in memory. */
sem_status rows_create(rows **out, size_t dim, sem_error *err);
/* Rows whose vectors a store has (row_vectors_create_stored). */
sem_status rows_create_stored(rows **out, store *s, uint32_t space, uint32_t collection, size_t dim, sem_error *err);
/* Empty rows for what is copied from others (compaction). */
sem_status rows_create_like(rows **out, const rows *from, sem_error *err);
rows *rows_share(rows *r);  /* one more owner */
void rows_release(rows *r); /* frees with the last owner; accepts NULL */

/* The document's vector (dim floats, copied, aligned or not). If it had one,
 * readers switch from the old to the new at one moment. Writer only. */
sem_status rows_put(rows *r, uint32_t docno, const float *vector, sem_error *err);
/* The same with a store, where the vector lies under a slot. It is copied only
 * until it is packed; NULL: it is. Without a store the slot means nothing. */
sem_status rows_put_slot(rows *r, uint32_t docno, uint32_t slot, const float *vector, sem_error *err);
/* Appends a row that was its document's once: to keep the numbers of those behind
 * it. Writer only. */
sem_status rows_put_dead(rows *r, uint32_t docno, uint32_t slot, sem_error *err);
/* The same for a document of several passages: vectors [count, dim], slots [count]
 * (NULL without a store). Nobody sees the rows until rows_publish, which cannot fail
 * and replaces the document's old rows in one step; another rows_add takes their place.
 * Writer only. */
sem_status rows_add(rows *r, uint32_t docno, const uint32_t *slots, const float *vectors, size_t count, sem_error *err);
void rows_publish(rows *r, uint32_t docno, size_t count);
/* One more passage of the document that the newest rows are of, while nobody reads. */
sem_status rows_extend_slot(rows *r, uint32_t docno, uint32_t slot, const float *vector, sem_error *err);
/* False if there is no such document. Writer only. */
bool rows_remove(rows *r, uint32_t docno);

static inline uint32_t rows_count(const rows *r)
{
    return atomic_load_explicit(&r->count, memory_order_acquire);
}

/* Beside a writer neither this nor rows_documents is of the same moment as anything else: they are
 * to plan by, not to tell what a search has to find. */
static inline size_t rows_live(const rows *r)
{
    return atomic_load_explicit(&r->live, memory_order_relaxed);
}

static inline size_t rows_documents(const rows *r)
{
    return atomic_load_explicit(&r->documents, memory_order_relaxed);
}

/* False after a search: none of the rows that it saw were of one document. */
static inline bool rows_cut(const rows *r)
{
    return atomic_load_explicit(&r->cut, memory_order_acquire);
}

static inline const rows_chunk *rows_chunk_of(const rows *r, uint32_t row)
{
    return chunk_table_get(&r->chunks, row / ROWS_CHUNK);
}

static inline uint32_t rows_docno(const rows *r, uint32_t row)
{
    return rows_chunk_of(r, row)->docno[row % ROWS_CHUNK];
}

static inline uint32_t rows_slot(const rows *r, uint32_t row)
{
    return rows_chunk_of(r, row)->slot[row % ROWS_CHUNK];
}

/* How many rows the document has whose first row this is. */
static inline uint32_t rows_passages(const rows *r, uint32_t row)
{
    return rows_chunk_of(r, row)->passages[row % ROWS_CHUNK];
}

/* The first row that holds a vector of the document now, or ROW_NONE. */
uint32_t rows_row_of(const rows *r, uint32_t docno);

/* Whether its vector, or that of its first passage, lies under the slot already: a slot is
 * never overwritten, so it is the same vector. False without a store. */
bool rows_has_slot(const rows *r, uint32_t docno, uint32_t slot);

/* Whether the row was its document's when there were `seen` rows, and the
 * document still exists. */
bool rows_alive(const rows *r, uint32_t row, uint32_t seen);

/* --- looking at vectors */

/* Held for the length of one search or one step of training: what rows_vector()
 * returned lasts until the view ends or is renewed. */
typedef struct rows_view {
    const rows *rows;
    store_read *read; /* NULL without a store */
    store_read *own;  /* read, if it is the view's own */
    bool rests;
    unsigned turn;
    atomic_bool *missed; /* &missed_one: views are passed as const */
    atomic_bool missed_one;
} rows_view;

/* read: of the store that has the vectors, else NULL; no other thread may use it
 * meanwhile. Rows that were put before are in the view. Without the store's read
 * a view is good for rows_copy only. */
sem_status rows_view_begin(rows_view *view, const rows *r, store_read *read, sem_error *err);
/* The same with a read of its own, for work in the background. */
sem_status rows_view_open(rows_view *view, const rows *r, sem_error *err);
/* Lets go of the old vectors, so that long work does not keep the store from
 * using pages again, and takes the newest. */
sem_status rows_view_renew(rows_view *view, sem_error *err);
void rows_view_end(rows_view *view);
/* Lets go of them until it is renewed: for work that looks at none for long, or
 * whose parts have views of their own. */
void rows_view_rest(rows_view *view);

/* rows_vector() for the rest. */
const float *rows_vector_elsewhere(const rows_view *view, uint32_t row, uint32_t slot);

/* width floats, zeros behind the dimensions in use; not aligned. Zeros for a row
 * that is dead and forgotten. Any number of threads may use one view at a time. */
static inline const float *rows_vector(const rows_view *view, uint32_t row)
{
    const row_vectors *v = view->rows->vectors;
    uint32_t slot = rows_chunk_of(view->rows, row)->slot[row % ROWS_CHUNK];
    uintptr_t entry = block_table_get(v->first, slot / BLOCK_ROWS);
    if (entry != 0 && (entry & BLOCK_SPARSE) == 0)
        return (const float *)entry + slot % BLOCK_ROWS * v->width;
    return rows_vector_elsewhere(view, row, slot);
}

/* Whether a document's vector was not to be found since the view began or was
 * renewed: its row was put later than that, and just then its block was written
 * anew. Searched again with a new view it is there. */
static inline bool rows_view_missed(const rows_view *view)
{
    return atomic_load_explicit(view->missed, memory_order_relaxed);
}

/* Appends a copy of a row that is not removed; a document's rows in their order. Writer
 * of r only, and nobody reads. */
sem_status rows_copy(rows *r, const rows_view *from, uint32_t row, sem_error *err);

#endif
