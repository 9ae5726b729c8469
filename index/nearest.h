/* The nearest centroids of many rows: all rows with all centroids, in whole numbers, some
 * rows and centroids at a time so that what is loaded once is used often. One file for each
 * instruction set, of which nearest_generic is the reference; all find the same.
 *
 * Centroids lie in panels of 16: for each four dimensions 64 bytes, four of each. What a
 * single query needs is in coarse.h. */
#ifndef SEM_INDEX_NEAREST_H
#define SEM_INDEX_NEAREST_H

#include "base/status.h"
#include "index/codes.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    NEAREST_MAX = 16,   /* centroids that a row hears of, at most */
    PANEL_LANES = 16,   /* centroids in a panel */
    PANEL_STEP = 4,     /* dimensions that lie together */
    PANELS_AT_ONCE = 4, /* that a kernel takes; centroids are padded to so many panels */
    ROWS_AT_ONCE = 4    /* that it takes with them */
};

/* The nearest centroids that a row has met. */
typedef struct near_cells {
    uint32_t count, keep; /* keep: at most NEAREST_MAX */
    uint32_t cells[NEAREST_MAX];
    float scores[NEAREST_MAX]; /* falling; of equal ones the first that was noted comes first */
} near_cells;

/* A centroid with a lower score has no place. */
static inline float near_cells_threshold(const near_cells *n)
{
    return n->count < n->keep ? -INFINITY : n->scores[n->keep - 1];
}

void near_cells_note(near_cells *n, uint32_t cell, float score);

/* Notes cell + i for each bit i of `passed`, with its score. */
static inline void near_cells_note_lanes(near_cells *n, size_t cell, unsigned passed, const float *scores)
{
    for (; passed != 0; passed &= passed - 1) {
        unsigned lane = (unsigned)__builtin_ctz(passed);
        near_cells_note(n, (uint32_t)(cell + lane), scores[lane]);
    }
}

/* Rows in bytes (codes.h): x ≈ scale * bytes. */
typedef struct byte_rows {
    size_t room, dim, width;
    int8_t *bytes; /* [room, width] zeros behind the dimensions in use */
    int32_t *sums; /* [room] of the bytes */
    float *scales; /* [room] */
    float *extras; /* [room] in the dimension that metric dot adds; else 0 */
} byte_rows;

/* Memory for so many rows in a zeroed one; false when there is none. */
bool byte_rows_reserve(byte_rows *r, size_t room, size_t dim);
void byte_rows_free(byte_rows *r); /* a zeroed one is fine */
/* Any thread, each row once. */
void byte_rows_set(byte_rows *r, size_t at, const float *vector, float extra);

typedef struct nearest_kernel nearest_kernel;

typedef struct panels {
    const nearest_kernel *kernel;
    size_t count, dim, width;
    size_t padded;          /* count, up to whole kernels */
    uint8_t *bytes;         /* [padded / PANEL_LANES, width / PANEL_STEP, PANEL_LANES, PANEL_STEP] */
    float *scales, *extras; /* [padded] scales: NaN behind the last centroid */
} panels;

struct nearest_kernel {
    const char *name; /* "generic", "avx2", "avx512" */
    /* Notes PANELS_AT_ONCE panels for rows at[0..count), whose near_cells are near[0..count). Behind
     * them `at` repeats the last one, so that there are always as many to go through. */
    void (*tile)(const panels *p, size_t first_panel, const byte_rows *rows, const size_t at[ROWS_AT_ONCE],
                 size_t count, near_cells *near);
    bool (*available)(void); /* whether this machine can run it */
};

extern const nearest_kernel nearest_generic, nearest_avx2, nearest_avx512;

/* The best kernel of this machine, by the same rule as codes_choose(). */
const nearest_kernel *nearest_choose(void);

/* Copies centroids [count, codes_width(dim)] in bytes with their scales; extras: [count] in the
 * dimension that metric dot adds, or NULL. p: zeroed. */
sem_status panels_create(panels *p, const uint8_t *bytes, const float *scales, const float *extras, size_t count,
                         size_t dim, sem_error *err);
void panels_free(panels *p); /* a zeroed one is fine */

/* The `keep` nearest centroids of rows [from, from + count), by dot product: near[count]. There is
 * always one; where no product is a number, the first centroid with the score -FLT_MAX. Any thread. */
void panels_nearest(const panels *p, const byte_rows *rows, size_t from, size_t count, size_t keep, near_cells *near);

/* PANEL_STEP dimensions of a row as they lie in memory, for all lanes to have at once. */
static inline int32_t nearest_step(const int8_t *bytes)
{
    int32_t step;
    memcpy(&step, bytes, sizeof step);
    return step;
}

/* The score of a row and a centroid, of which product is Σ row (centroid - 128). */
static inline float nearest_score(const panels *p, size_t cell, const byte_rows *rows, size_t row, int32_t product)
{
    return (float)product * (rows->scales[row] * p->scales[cell]) + rows->extras[row] * p->extras[cell];
}

#endif
