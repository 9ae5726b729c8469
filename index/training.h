/* What keeps an index quick as it grows: k-means, assigning new rows to cells,
 * measuring recall, and leaving dead rows behind. Index thread only; writer and
 * searches go on meanwhile. */
#ifndef SEM_INDEX_TRAINING_H
#define SEM_INDEX_TRAINING_H

#include "base/log.h"
#include "base/status.h"
#include "index/dot.h"
#include "index/lists.h"
#include "index/rows.h"
#include "index/upkeep.h"
#include "index/vector_index.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is due, as a set of bits. */
typedef enum training_need {
    TRAINING_NOTHING = 0,
    TRAINING_COMPACT = 1, /* too many dead rows: copy the live ones */
    TRAINING_ASSIGN = 2,  /* too many rows behind the lists: put them into cells */
    TRAINING_CLUSTER = 4, /* no lists yet, growth or drift: k-means */
    TRAINING_UPKEEP = 8   /* alone: cells far too full, many empty ones or many dead lanes (upkeep.h) */
} training_need;

/* What tells whether cells are still good, whoever searches them. */
typedef struct cells_state {
    size_t trained_rows;  /* live rows when k-means ran */
    size_t measured_rows; /* live rows when the curve was measured */
    size_t came;          /* rows that came since then */
    uint32_t covered;     /* rows below it are in a cell */
    size_t entries;       /* rows in all cells */
    size_t strangers;     /* of these, those that are far from every centroid */
    size_t nlist;
    bool keeps_up;      /* upkeep.h knows them: then */
    size_t full, empty; /* cells to be split or given up */
} cells_state;

/* cells: NULL where there are none. */
unsigned training_needs(const vector_index_options *options, const rows *r, const cells_state *cells);
cells_state training_state_of(const lists *l);
/* Whether there are so many more rows than when the curve was measured, or so many of them came since
 * then, that it may have moved. */
bool training_is_due(size_t live, size_t measured_rows, size_t came);

typedef struct training {
    const vector_index_options *options;
    const dot_kernel *kernel;
    const rows *rows;       /* the rows to make lists of */
    rows_view *view;        /* of these rows; renewed on the way */
    const lists *old;       /* over the same rows, or over those they were copied from; or NULL */
    const uint32_t *origin; /* [rows] where each row was when old was made, or NULL: where it is */
    bool measures;          /* the curve in any case */
    const vector_training *how;
} training;

/* What how->queries has: [*count, dim], malloc'd; NULL where there are none. The view rests. */
float *training_queries(const training *t, size_t *count);

/* What k-means made of the live rows. Memory is malloc'd. */
typedef struct training_cells {
    size_t nlist, wide; /* wide: dim, and for metric dot one more */
    float *centroids;   /* [nlist, wide] of unit length */
    float *sample;      /* [sample_count, wide] rows as k-means took them: of unit length; NULL with our lists */
    size_t sample_count;
    float longest, typical; /* lengths of rows, 1 for cosine */
    size_t live;            /* rows */
} training_cells;

sem_status training_cluster(const training *t, uint32_t seen, training_cells *out, sem_error *err);
void training_cells_free(training_cells *c);

/* Makes lists over the rows that there are now: with k-means (started from the
 * old centroids) where needs says so, else with the old centroids. */
sem_status training_make_lists(const training *t, unsigned needs, lists **out, sem_error *err);
/* Where upkeep is all that is needed: a successor of t->old, which is over the same rows. Recall is
 * measured anew where much has moved. */
sem_status training_keep_up(const training *t, lists **out, upkeep_done *done, sem_error *err);

/* Compaction copies in three steps, so that the writer is kept waiting for the
 * last one only. First: the live rows below rows_count(from) at that moment,
 * which becomes *seen. origin (malloc'd) tells where each came from. */
sem_status compaction_copy(rows_view *from, rows **to, uint32_t **origin, uint32_t *seen, const atomic_bool *cancel,
                           sem_error *err);
/* Then, any number of times: what was put since *seen. */
sem_status compaction_catch_up(const rows_view *from, rows *to, uint32_t *seen, sem_error *err);
/* Last, with the writer kept out and after a catch-up: what was removed. */
void compaction_remove_dead(const rows *from, rows *to);

#endif
