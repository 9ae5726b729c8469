/* Keeps cells of a good size between two trainings. One that has become far too full is split by
 * k-means over its rows alone; one that has lost nearly all of its rows is given up, and what is
 * left goes to the nearest of the others; dead lanes are left behind everywhere.
 *
 * As in LIRE (Xu et al. 2023, SPFresh, SOSP, section 4), but nothing is changed in place: a
 * successor of the lists is made, in which what stays where it was is copied as it is. Only rows
 * with a lane in a cell that goes, and those of the cells beside one that is split, look for cells
 * anew, among all that there are then. So the cost is that of these rows and of a copy. */
#ifndef SEM_INDEX_UPKEEP_H
#define SEM_INDEX_UPKEEP_H

#include "base/status.h"
#include "index/lists.h"
#include "index/rows.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* Cells to be split or given up, as far as numbers of lanes tell. Any thread. */
typedef struct upkeep_due {
    size_t full, empty;
} upkeep_due;
upkeep_due upkeep_look(const lists *l);

typedef struct upkeep_input {
    const rows *rows;
    uint32_t seen;    /* rows: those below it are in old, or dead */
    const lists *old; /* over the same rows; the writer appends to it meanwhile */
    size_t nlist_max; /* a split makes no more cells than that */
    unsigned threads;
    const atomic_bool *cancel; /* may be NULL */
} upkeep_input;

/* What was done. */
typedef struct upkeep_done {
    size_t splits, merges; /* cells that were split, and that were given up */
    size_t moved;          /* lanes that are in another cell now */
    size_t left;           /* dead lanes that were left behind */
} upkeep_done;

/* Makes a successor of in->old that covers the rows below seen; its curve has the new number of
 * cells, and is else the old one. SEM_CANCELLED. Index thread. */
sem_status upkeep_make(const upkeep_input *in, lists **out, upkeep_done *done, sem_error *err);

#endif
