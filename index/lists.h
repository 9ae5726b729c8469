/* Inverted lists: the rows of an index by the cell of the nearest centroid.
 * Immutable once built. Rows that came later are not in them (the tail). */
#ifndef SEM_INDEX_LISTS_H
#define SEM_INDEX_LISTS_H

#include "base/status.h"
#include "index/dot.h"
#include "index/recall_curve.h"
#include "index/rows.h"
#include "index/scan.h"

#include <stddef.h>
#include <stdint.h>

typedef struct list_entry {
    uint32_t row;
    uint32_t docno; /* of the row: filters need not touch it */
} list_entry;

typedef struct lists {
    size_t nlist, width;
    uint32_t covered;    /* rows below it are in a cell, or were dead already */
    float *centroids;    /* [nlist, width] */
    size_t *starts;      /* [nlist + 1] where a cell's entries begin */
    list_entry *entries; /* by cell, in it by row */
    int64_t trained_at_ms;
    size_t trained_rows;     /* live rows when k-means ran */
    double trained_distance; /* their mean of 1 - ⟨row, centroid⟩ */
    size_t added_rows;       /* assigned since, without k-means */
    double added_distance;   /* their sum */
    size_t measured_rows;    /* live rows when the curve was measured */
    recall_curve curve;
} lists;

/* Memory for lists with room for the centroids; the rest is zero. */
sem_status lists_create(lists **out, size_t nlist, size_t width, sem_error *err);
void lists_free(lists *l); /* accepts NULL */

/* Sorts rows below covered into cells: cells[row], ROW_NONE leaves a row out. */
sem_status lists_fill(lists *l, const rows *r, const uint32_t *cells, uint32_t covered, sem_error *err);

/* The cell of the nearest centroid (the first of equals) and the dot product. */
uint32_t lists_nearest(const lists *l, const dot_kernel *kernel, const float *vector, float *score);

/* The cells in order of their centroid's nearness to a query, taken one by one:
 * a heap, since most are never asked for. */
typedef struct probe {
    float score;
    uint32_t cell;
} probe;

typedef struct probes {
    probe *heap; /* [count], the caller's */
    size_t count;
} probes;

/* Ranks all cells. heap: room for nlist. */
probes probes_start(const lists *l, const dot_kernel *kernel, const float *query, probe *heap);
/* The next cell; count must not be 0. What was taken stays at the end of the
 * heap: heap[nlist - 1 - i] is the i-th cell. */
uint32_t probes_next(probes *p);

/* Compares the rows of a cell that the scan allows. Flush when done. */
void lists_scan(const lists *l, uint32_t cell, scan *s);

#endif
