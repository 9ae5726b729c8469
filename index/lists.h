/* Inverted lists: the rows of an index in the cell of the nearest centroid, in the
 * two short forms of codes.h.
 *
 * A cell is a chain of extents, each a run of blocks. Those that training packs lie
 * one behind the other; a row that comes later is appended by the writer to the last
 * extent of its cell, or a new one behind all others. Nothing that is written is
 * moved or changed, so any thread reads meanwhile without waiting; dead rows stay
 * until the index thread makes new lists.
 *
 * A row is in two cells: that of the nearest centroid, and a second one that a query is
 * likely to probe where it misses the first (Sun et al. 2023, SOAR, NeurIPS): so far
 * fewer rows have to be compared for a recall. Its bits are there twice, since they
 * depend on the cell, its nibbles once, by its number. A second copy may be missing.
 *
 * One cell more than there are centroids holds strangers: rows that came after the
 * training and are farther from their centroid than nearly all that it saw, or
 * longer. The centroids say little about where those lie, so every search compares
 * them all. Many of them are a reason to train anew. */
#ifndef SEM_INDEX_LISTS_H
#define SEM_INDEX_LISTS_H

#include "base/status.h"
#include "index/coarse.h"
#include "index/codes.h"
#include "index/lists_saved.h"
#include "index/nearest.h"
#include "index/recall_curve.h"
#include "index/rows.h"

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LISTS_NONE   UINT32_MAX
/* In a lane's row: it is the row's second copy. */
#define LISTS_SECOND (UINT32_C(1) << 31)

typedef struct list_extent {
    uint32_t first, blocks; /* of the blocks in all lists */
    _Atomic uint32_t used;  /* blocks with lanes in use */
    struct list_extent *_Atomic next;
} list_extent;

typedef struct list_cell {
    list_extent head;
    list_extent *last;   /* the writer's */
    uint32_t lanes;      /* in use in the last extent; the writer's */
    atomic_size_t count; /* rows */
    uint32_t made_with;  /* lanes when k-means or a split made it (upkeep.h); fixed while the lists are in use */
} list_cell;

typedef struct lists {
    const code_kernel *kernel;
    size_t nlist, dim, lines, width; /* width: of a row of bytes */
    size_t nibbles_width;            /* of a row of nibbles */
    uint8_t *centroids;              /* [nlist, width] bytes: what these stand for are the centroids */
    float *centroid_scales;          /* [nlist] */
    float *centroid_extras;          /* [nlist] for metric dot, in the dimension that is added; else NULL */
    float *centroid_squares;         /* [nlist] their lengths' squares, with the dimension that is added */
    _Atomic float *spreads;          /* [nlist] mean square of the factors of a cell's lanes (codes.h) */
    float *centroid_shares;   /* [nlist] rows are coded against this share of their centroid: what they have of it */
    float typical;            /* mean length of the rows of the training; 1 for cosine */
    float longest;            /* length of the longest row of the training; 1 for cosine */
    float stranger_below;     /* rows whose ⟨row, centroid⟩ is below it are strangers */
    coarse coarse;            /* over the centroids; for metric dot without groups */
    list_cell *cells;         /* [nlist + 1] the last one holds the strangers */
    uint8_t *blocks;          /* [capacity] blocks */
    uint8_t *nibbles;         /* [row_capacity, nibbles_width] by row */
    size_t capacity;          /* blocks */
    size_t row_capacity;      /* rows */
    size_t taken;             /* blocks; the writer's */
    lists_saved *saved;       /* owned; NULL: nothing is mapped from a file */
    _Atomic uint32_t covered; /* rows below it are in a cell, or were dead already */
    atomic_size_t entries;    /* rows in all cells */
    atomic_size_t seconds;    /* of these, those that are there twice */
    code_query writing;       /* the writer's scratch */
    coarse_scores scores;     /* the writer's scratch */
    float *origin;            /* [dim] the writer's scratch */

    int64_t trained_at_ms;
    size_t trained_rows;  /* live rows when k-means ran */
    size_t measured_rows; /* live rows when the curve was measured */
    size_t moved;         /* lanes that went to other cells since then */
    atomic_size_t came;   /* rows that came since then */
    recall_curve curve;
} lists;

/* Memory for lists with room for the centroids; the rest is zero. */
sem_status lists_create(lists **out, size_t nlist, size_t dim, bool dot, sem_error *err);
void lists_free(lists *l); /* accepts NULL */

/* centroid: dim floats, and one more for metric dot. */
void lists_set_centroid(lists *l, size_t cell, const float *centroid);
/* Takes what another has of a cell: its centroid, and what rows are coded against. */
void lists_take_centroid(lists *l, size_t cell, const lists *from, size_t from_cell);
/* Takes what training and measuring found. */
void lists_inherit(lists *l, const lists *from);
/* Once all are set, before anything else is done with them. */
sem_status lists_finish_centroids(lists *l, sem_error *err);
/* dim floats; zeros for strangers. */
void lists_get_centroid(const lists *l, size_t cell, float *centroid);
/* All as k-means made them, of unit length: [nlist, dim], for metric dot [nlist, dim + 1],
 * malloc'd. NULL: memory is out. */
float *lists_unit_centroids(const lists *l);
/* What the rows of the cell are coded against. */
void lists_get_origin(const lists *l, size_t cell, float *origin);

/* Room for the nibbles of so many rows and of rows to come. */
sem_status lists_reserve_rows(lists *l, size_t count, sem_error *err);
/* Codes a row's nibbles; returns their scale. Any thread, while nobody reads. */
uint16_t lists_code_row(lists *l, uint32_t row, const float *vector);
/* Room for counts[c] lanes in cell c, packed, and behind them for rows to come. `seconds`
 * of them are second copies. */
sem_status lists_reserve(lists *l, const size_t *counts, size_t seconds, sem_error *err);
/* The same, but what is in the lanes is the caller's: they are not empty. */
sem_status lists_lay_out(lists *l, const size_t *counts, size_t seconds, sem_error *err);
/* Codes a row (with LISTS_SECOND: its second copy) as the n-th of a cell's first extent.
 * Any thread, while nobody reads; origin: what lists_get_origin says. */
void lists_place(lists *l, size_t cell, size_t n, uint32_t row, uint16_t scale, const float *vector,
                 const float *origin);

/* The same for a row that is coded already, in a cell of the same centroid of other lists. */
void lists_copy(lists *l, size_t cell, size_t n, const lists *from, uint32_t place);

typedef struct list_choice {
    uint32_t cell;   /* of the nearest centroid (the first of equals) */
    uint32_t second; /* LISTS_NONE: none */
    double distance; /* 1 - ⟨row, centroid⟩ / longest² */
} list_choice;

/* Nearest centroids of a row, of which one is that of its second cell. */
enum { LISTS_NEAR = NEAREST_MAX };

/* Of a vector: cells[LISTS_NEAR] gets them, nearest first; how many. q and scores as in lists_choose. */
size_t lists_near(const lists *l, const float *vector, code_query *q, coarse_scores *scores, uint32_t *cells);
/* The cells of a vector. q: its bytes and tables are scratch; scores too, with room for nlist. */
list_choice lists_choose(const lists *l, const float *vector, code_query *q, coarse_scores *scores);
/* Likewise, of its nearest cells, from lists_panels. q: scratch. */
list_choice lists_choose_of(const lists *l, const float *vector, const near_cells *near, code_query *q);
/* The centroids for those who assign many rows (nearest.h). */
sem_status lists_panels(const lists *l, panels *out, sem_error *err);
/* What a vector is in the dimension that metric dot adds; else 0. */
float lists_added_dimension(const lists *l, const float *vector);
/* The strangers' cell alone for a stranger; else what was chosen. */
list_choice lists_or_stranger(const lists *l, const float *vector, list_choice chosen);

/* Appends the row that comes next (covered). False when there is no room: then it
 * and all later rows stay behind the lists. Writer only. */
bool lists_append(lists *l, uint32_t row, const float *vector);

static inline uint32_t lists_covered(const lists *l)
{
    return atomic_load_explicit(&l->covered, memory_order_acquire);
}

static inline size_t lists_strangers(const lists *l)
{
    return atomic_load_explicit(&l->cells[l->nlist].count, memory_order_relaxed);
}

/* Before a run of blocks is looked at or written to. Any thread. */
static inline void lists_meet_blocks(const lists *l, size_t first, size_t count)
{
    lists_saved *s = l->saved;
    if (s == NULL || first >= s->blocks || count == 0)
        return;
    size_t last = first + count <= s->blocks ? first + count - 1 : s->blocks - 1;
    for (size_t i = first / SAVED_BLOCKS; i <= last / SAVED_BLOCKS; i++)
        if (!atomic_load_explicit(&s->blocks_met[i], memory_order_acquire))
            lists_saved_meet_blocks(s, l->blocks, l->lines, i);
}

/* Whether a section was met that its checksum does not fit: what such lists found is void.
 * Accepts NULL. */
static inline bool lists_damaged(const lists *l)
{
    return l != NULL && l->saved != NULL && atomic_load_explicit(&l->saved->damaged, memory_order_acquire);
}

/* Meets everything. */
void lists_meet_all(const lists *l);

/* Of a block that was met. */
static inline const code_tail *lists_tail(const lists *l, uint32_t place)
{
    return codes_tail(l->blocks + place / CODES_LANES * codes_block_size(l->lines), l->lines);
}

/* Whether the lane is in use; then all of it is there. */
static inline bool lists_has_row(const lists *l, uint32_t place)
{
    float offset;
    lists_meet_blocks(l, place / CODES_LANES, 1);
    __atomic_load(&lists_tail(l, place)->offset[place % CODES_LANES], &offset, __ATOMIC_ACQUIRE);
    return offset > -INFINITY;
}

/* A scan finds a lane by its offset, in loads that order nothing, while the writer may just have
 * written it. Whatever row it reads then, nothing goes wrong: who searches passes over rows that
 * were not covered before, and others are ranked by their own vectors. */
static inline uint32_t lists_row(const lists *l, uint32_t place)
{
    return __atomic_load_n(&lists_tail(l, place)->row[place % CODES_LANES], __ATOMIC_RELAXED) & ~LISTS_SECOND;
}

static inline bool lists_is_second(const lists *l, uint32_t place)
{
    return (lists_tail(l, place)->row[place % CODES_LANES] & LISTS_SECOND) != 0;
}

static inline const uint8_t *lists_nibbles(const lists *l, uint32_t row)
{
    lists_saved *s = l->saved;
    if (s != NULL && row < s->rows && !atomic_load_explicit(&s->rows_met[row / SAVED_ROWS], memory_order_acquire))
        lists_saved_meet_rows(s, l->nibbles, row / SAVED_ROWS);
    return l->nibbles + (size_t)row * l->nibbles_width;
}

/* Calls f for every lane in use, cell by cell (strangers last). */
typedef void lists_each_fn(void *context, uint32_t cell, uint32_t place);
void lists_each(const lists *l, lists_each_fn *f, void *context);
void lists_each_of(const lists *l, uint32_t cell, lists_each_fn *f, void *context); /* of one cell */

/* Prepares a query for these lists. */
void lists_prepare(const lists *l, code_query *q, const float *vector);
/* ⟨query, origin⟩ of a cell. */
static inline float lists_base(const lists *l, uint32_t cell, const float *scores)
{
    return cell < l->nlist ? scores[cell] * l->centroid_shares[cell] : 0.0f;
}

/* Which cosine with the query, squared, a residual of typical length must have to bring a row of the
 * cell to a score: the fewer cells have such rows the higher it is; 0 where the centroid alone has that
 * score, INFINITY where residuals are 0. base: of lists_base. With signs of random residuals |r| is
 * about f √(2 dim / π). */
static inline float lists_needed_cosine(const lists *l, uint32_t cell, float base, float score, const code_query *q)
{
    const float two_by_pi = 0.636619772f;
    float squares = atomic_load_explicit(&l->spreads[cell], memory_order_relaxed), gap = score - base;
    float typical = q->length * q->length * squares * (float)l->dim * two_by_pi;
    return gap <= 0 ? 0.0f : typical > 0 ? gap * gap / typical : INFINITY;
}

#endif
