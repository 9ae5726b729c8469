/* Comparing rows with one query, exactly: the whole index, the documents that a
 * filter allows, or rows that a cell names. */
#ifndef SEM_INDEX_SCAN_H
#define SEM_INDEX_SCAN_H

#include "index/dot.h"
#include "index/rows.h"
#include "index/topk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct scan {
    const rows *rows;
    const rows_view *view; /* of these rows */
    uint32_t seen;         /* rows_count() when the search began */
    const dot_kernel *kernel;
    const float *query;      /* [width], aligned to 64 bytes */
    const uint64_t *allowed; /* bitmap over docnos, or NULL: all */
    size_t allowed_bits;
    bool has_exclude;
    uint32_t exclude;
    topk best;
    size_t compared; /* rows so far */
    /* Rows that wait until a batch is full. */
    size_t waiting;
    uint32_t waiting_rows[DOT_BATCH];
    const float *waiting_vectors[DOT_BATCH];
} scan;

static inline bool scan_allows(const scan *s, uint32_t docno)
{
    if (s->allowed == NULL)
        return true;
    return docno < s->allowed_bits && (s->allowed[docno / 64] >> docno % 64 & 1) != 0;
}

/* Compares the rows that wait. Must be called before best is read. */
void scan_flush(scan *s);

/* Puts a row into the batch; its document must be allowed. */
static inline void scan_offer(scan *s, uint32_t row, const float *vector)
{
    s->waiting_rows[s->waiting] = row;
    s->waiting_vectors[s->waiting] = vector;
    if (++s->waiting == DOT_BATCH)
        scan_flush(s);
}

/* Rows from <= row < to whose documents are allowed. to <= seen. Flushes. */
void scan_range(scan *s, uint32_t from, uint32_t to);

/* Every allowed document through its own row: for filters that leave few.
 * s->allowed must not be NULL. Flushes. */
void scan_documents(scan *s);

/* The listed documents, ascending; those that have no row are passed over.
 * Flushes. */
void scan_listed(scan *s, const uint32_t *docnos, size_t count);

#endif
