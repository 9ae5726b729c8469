/* The vectors of an index: rows that are appended and never moved or changed,
 * and for each document the row that holds its vector now.
 *
 * One thread at a time puts and removes (the writer). Any thread reads
 * meanwhile without waiting. A reader first takes `seen = rows_count()`; rows
 * below it are complete, and rows_alive(row, seen) answers as of that moment:
 * of a document that is replaced later exactly one row counts, of one that is
 * removed none. */
#ifndef SEM_INDEX_ROWS_H
#define SEM_INDEX_ROWS_H

#include "base/status.h"
#include "index/chunk_table.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ROWS_CHUNK = 1024 /* rows in one piece of memory */ };

#define ROW_NONE UINT32_MAX

typedef struct rows_chunk {
    uint32_t docno[ROWS_CHUNK];
    _Atomic uint32_t next[ROWS_CHUNK]; /* ROW_NONE: current; else the row that replaced it, or ROW_REMOVED */
    alignas(64) float vectors[];       /* [ROWS_CHUNK, width] */
} rows_chunk;

/* Open to the inline functions below; nobody else looks inside. */
typedef struct rows {
    size_t dim, width;      /* width: dim and zeros up to whole lanes */
    _Atomic uint32_t count; /* rows appended; published after the row is complete */
    atomic_size_t live;     /* documents */
    atomic_size_t references;
    chunk_table chunks; /* of rows_chunk */
    chunk_table places; /* of ROWS_CHUNK _Atomic uint32_t: docno to row */
} rows;

sem_status rows_create(rows **out, size_t dim, sem_error *err);
rows *rows_share(rows *r);  /* one more owner */
void rows_release(rows *r); /* frees with the last owner; accepts NULL */

/* The document's vector (dim floats, copied, aligned or not). If it had one,
 * readers switch from the old to the new at one moment. Writer only. */
sem_status rows_put(rows *r, uint32_t docno, const float *vector, sem_error *err);
/* False if there is no such document. Writer only. */
bool rows_remove(rows *r, uint32_t docno);

static inline uint32_t rows_count(const rows *r)
{
    return atomic_load_explicit(&r->count, memory_order_acquire);
}

static inline size_t rows_live(const rows *r)
{
    return atomic_load_explicit(&r->live, memory_order_relaxed);
}

static inline const rows_chunk *rows_chunk_of(const rows *r, uint32_t row)
{
    return chunk_table_get(&r->chunks, row / ROWS_CHUNK);
}

/* width floats, aligned to 64 bytes. */
static inline const float *rows_vector(const rows *r, uint32_t row)
{
    return rows_chunk_of(r, row)->vectors + row % ROWS_CHUNK * r->width;
}

static inline uint32_t rows_docno(const rows *r, uint32_t row)
{
    return rows_chunk_of(r, row)->docno[row % ROWS_CHUNK];
}

/* The row that holds the document's vector now, or ROW_NONE. */
uint32_t rows_row_of(const rows *r, uint32_t docno);

/* Whether the row was its document's when there were `seen` rows, and the
 * document still exists. */
bool rows_alive(const rows *r, uint32_t row, uint32_t seen);

#endif
