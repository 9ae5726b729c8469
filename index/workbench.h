/* Where one thread chooses cells for many rows of an index: it collects rows, compares them all
 * with all centroids (nearest.h), and has a choice for each. Lists that are made anew and those
 * that are kept up choose by the same rule. */
#ifndef SEM_INDEX_WORKBENCH_H
#define SEM_INDEX_WORKBENCH_H

#include "index/codes.h"
#include "index/lists.h"
#include "index/nearest.h"
#include "index/rows.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct workbench {
    const lists *lists; /* borrowed: centroids are there */
    rows_view view;
    code_query q; /* scratch */
    byte_rows bytes;
    near_cells *near; /* [room] */
    uint32_t *rows;   /* [count] that were added */
    size_t count;
} workbench;

/* For at most `room` rows of r, of which the workbench has a view of its own. NULL: memory is out. */
workbench *workbench_create(const lists *l, const rows *r, size_t room);
void workbench_destroy(workbench *w); /* accepts NULL */

/* Adds a row and its vector. */
void workbench_add(workbench *w, uint32_t row, const float *vector);
/* Finds the nearest centroids of all that were added. p: from lists_panels. */
void workbench_find(workbench *w, const panels *p);
/* Then: the cells of the i-th of them, and its vector, borrowed from the view. */
list_choice workbench_choose(workbench *w, size_t i, const float **vector);

#endif
