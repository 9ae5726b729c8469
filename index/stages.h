/* Comparing a query with the rows of cells in three stages: the bits of all lanes, the
 * nibbles of the rows of the `first` best lanes, the floats of the `second` best by
 * those. */
#ifndef SEM_INDEX_STAGES_H
#define SEM_INDEX_STAGES_H

#include "base/status.h"
#include "index/lists.h"
#include "index/scan.h"
#include "index/scratch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct stages {
    const lists *lists;
    scan *scan; /* knows rows, filter and query; takes the hits */
    search_scratch *scratch;
    size_t first, second;
    size_t keep;                         /* candidates that are kept: first, or more while a reach needs them */
    uint32_t covered;                    /* rows from it on are compared elsewhere */
    bool selective;                      /* some rows are not to be found: dead, or not allowed */
    size_t count;                        /* candidates in the scratch */
    float threshold;                     /* estimates below it have no chance */
    size_t listed;                       /* cells that have a score */
    size_t ordered;                      /* cells whose place in the order of nearness is known */
    size_t by_bits, by_codes, by_floats; /* lanes and rows compared in each */
    uint64_t coarse_ns, bits_ns, nibbles_ns, floats_ns;
} stages;

/* The scratch holds the padded query; scan->best.k must not be 0. Scores the cells, as many
 * as the effort may take. */
sem_status stages_begin(stages *s, const lists *l, scan *on, search_scratch *scratch, const effort *e, uint32_t covered,
                        sem_error *err);
/* The n-th nearest cell, n < nlist; ahead: how many will be asked for at least. */
uint32_t stages_cell(stages *s, size_t n, size_t ahead);
/* The n-th cell if its place in the order is known by now, or LISTS_NONE. */
uint32_t stages_peek(const stages *s, size_t n);
/* After the `probed` nearest cells: those that come next are the ones within reach. How many with them. */
size_t stages_reach(stages *s, const effort *e, size_t probed);
/* The bits of a cell. next_cell: the one that comes after it, or LISTS_NONE. */
void stages_scan(stages *s, uint32_t cell, uint32_t next_cell);
/* How many candidates there are: when fewer than hits are wanted, more cells are due. */
static inline size_t stages_found(const stages *s)
{
    return s->count;
}
/* Nibbles and floats of the best so far; hits go into scan->best. May be called again
 * after more cells. */
void stages_finish(stages *s);

#endif
