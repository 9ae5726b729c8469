/* Dot products of one query with several rows. One file for each instruction
 * set; dot_generic is the reference.
 *
 * The order in which the products of one row are summed depends on its width
 * only, never on its neighbours, so equal rows get bit-identical scores
 * wherever they lie. */
#ifndef SEM_INDEX_DOT_H
#define SEM_INDEX_DOT_H

#include <stdbool.h>
#include <stddef.h>

enum {
    DOT_LANES = 16, /* partial sums of a row: widths are multiples of it */
    DOT_BATCH = 8   /* rows that a kernel takes best at a time */
};

/* scores[i] = ⟨query, rows[i]⟩ for i < count <= DOT_BATCH. query and rows hold
 * width floats, zeros behind the dimensions in use; the query is aligned to 64
 * bytes. Rows are as LMDB's map has them, by its promise aligned to 2 bytes only;
 * where they happen to lie on 64 the loads cost nothing more. */
typedef void dot_rows_fn(const float *query, const float *const *rows, size_t count, size_t width, float *scores);

typedef struct dot_kernel {
    const char *name; /* "generic", "avx2", "avx512" */
    dot_rows_fn *rows;
    bool (*available)(void); /* whether this machine can run it */
} dot_kernel;

extern const dot_kernel dot_generic, dot_avx2, dot_avx512;

/* The best kernel of this machine that SEMD_SIMD allows (base/simd.h). */
const dot_kernel *dot_choose(void);

/* ⟨a, b⟩ of dim floats, of any width and wherever they lie, summed in double: for means over many
 * rows. */
static inline double dot_double(const float *a, const float *b, size_t dim)
{
    double sums[4] = {0};
    size_t i = 0;
    for (; i + 4 <= dim; i += 4)
        for (size_t j = 0; j < 4; j++)
            sums[j] += (double)(a[i + j] * b[i + j]);
    for (; i < dim; i++)
        sums[0] += (double)(a[i] * b[i]);
    return sums[0] + sums[1] + sums[2] + sums[3];
}

/* dim rounded up to whole lanes. */
static inline size_t dot_width(size_t dim)
{
    return (dim + DOT_LANES - 1) / DOT_LANES * DOT_LANES;
}

#endif
