/* The rows of an index in FAISS's inverted lists: what lists.h is for our own, with
 * index.engine = faiss. FAISS knows rows by their number.
 *
 * FAISS cannot leave rows out of a search: dead ones stay in it until the index thread
 * makes new cells, and a search fetches more than it needs. Rows that came after the
 * training and are far from every centroid are strangers: FAISS has them too, and
 * searches that ask for a recall compare them all besides, since the curve does not know
 * them. */
#ifndef SEM_INDEX_FAISS_CELLS_H
#define SEM_INDEX_FAISS_CELLS_H

#include "base/status.h"
#include "index/faiss_ivf.h"
#include "index/recall_curve.h"
#include "index/training.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct faiss_cells {
    faiss_ivf *ivf;
    size_t dim, nlist;
    float longest;            /* length of the longest row of the training for metric dot, else 0 */
    float stranger_below;     /* rows whose ⟨row, centroid⟩ is below it are strangers */
    _Atomic uint32_t covered; /* rows below it are in a cell, or were dead already */
    atomic_size_t entries;    /* rows in all cells */
    uint32_t *strangers;      /* [strangers_room] ascending */
    size_t strangers_room;
    atomic_size_t strangers_count;
    int64_t trained_at_ms;
    size_t trained_rows;  /* live rows when k-means ran */
    size_t measured_rows; /* rows in the cells when the curve was measured */
    atomic_size_t came;   /* rows that came since then */
    recall_curve curve;   /* of nprobe alone: candidates are always as many as faiss_cells_fetch() says */
} faiss_cells;

/* Over the rows that there are now, as training_make_lists: with k-means where needs says
 * so, else with the cells of old. Index thread only. */
sem_status faiss_cells_make(const training *t, unsigned needs, const faiss_cells *old, faiss_cells **out,
                            sem_error *err);
void faiss_cells_free(faiss_cells *f); /* accepts NULL */
/* Room for so many strangers and some more, of cells that have none yet. */
sem_status faiss_cells_reserve_strangers(faiss_cells *f, size_t count, sem_error *err);

/* Appends the row that comes next (covered) and is complete. False when there is no room:
 * then it and all later rows stay outside. Writer only. */
bool faiss_cells_append(faiss_cells *f, uint32_t row, const float *vector);

cells_state faiss_cells_state(const faiss_cells *f);
const char *faiss_cells_codes(const faiss_cells *f); /* "IVF,SQ8" or "IVF,Flat" */

/* How many candidates are compared by their float32 vectors for k hits where a recall was
 * asked for: SQ8 alone loses about one in a hundred. */
static inline size_t faiss_cells_fetch(size_t k)
{
    enum { SPARE = 10 };
    return 2 * k + SPARE;
}

static inline uint32_t faiss_cells_covered(const faiss_cells *f)
{
    return atomic_load_explicit(&f->covered, memory_order_acquire);
}

#endif
