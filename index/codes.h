/* Vectors in two short forms, both compared with a query in whole numbers, and
 * those that compare them: one file for each instruction set, of which
 * code_kernels_generic is the reference. All give the same numbers to the bit.
 *
 * One bit a dimension, after RaBitQ (Gao and Long 2024, SIGMOD): for a vector x in
 * the cell of centroid c, r = x - c, s = sign(r). With f = |r|² / Σ|r| and
 * g = ⟨c, r⟩ - f Σ s c
 *
 *   ⟨q, x⟩ ≈ ⟨q, c⟩ + g + f Σ s q
 *
 * where Σ s q does not depend on the cell. The query is rounded to signs and numbers from 0 to
 * 63; what is added up are the numbers of the dimensions whose sign the vector has. Four dimensions
 * at a time have a table of all sixteen patterns, so that a vector costs a look-up for every four
 * (André et al. 2017, ICMR, Quick ADC).
 *
 * Four bits a dimension: x ≈ scale (2 n - 15), a scale for each vector, chosen so that
 * ⟨x, its code⟩ is |x|²: then products with what is like x are not too small. A line of
 * 64 bytes holds 128 dimensions, the first 64 of them in its lower halves.
 *
 * One byte a dimension, for centroids: x ≈ scale (byte - 128).
 *
 * Bits lie in blocks of sixteen vectors: a line of 64 bytes holds the same 32 dimensions of all
 * sixteen, then follow three lines of a code_tail. */
#ifndef SEM_INDEX_CODES_H
#define SEM_INDEX_CODES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CODES_LANES = 16,      /* vectors in a block */
    CODES_BITS = 32,       /* dimensions in a line of a block */
    CODES_LINE = 64,       /* bytes in a line, and what rows of bytes are padded to */
    CODES_MOST = 63,       /* of a query's dimension: four of them fit into a byte */
    CODES_TABLES = 128,    /* bytes of tables for a line */
    CODES_DIM_MAX = 65536, /* so that sums fit, see below */
    CODES_BATCH = 8        /* rows of bytes or nibbles that a kernel takes best at a time */
};

/* Of bits a float holds the sum exactly, of bytes an int32_t holds it. */
_Static_assert((int64_t)CODES_DIM_MAX *CODES_MOST <= 1 << 24 && (int64_t)CODES_DIM_MAX * 127 * 255 <= INT32_MAX,
               "the widest vectors have sums that fit");

/* What a block holds besides bits, by lane. An empty lane has the offset -INFINITY. The rows, which
 * only those who passed are asked for, lie last: their line is not read ahead. */
typedef struct code_tail {
    uint16_t factor[CODES_LANES]; /* f: the upper half of a float */
    uint16_t scale[CODES_LANES];  /* of the nibbles: likewise */
    float offset[CODES_LANES];    /* g */
    uint32_t row[CODES_LANES];    /* which row of the index it is */
} code_tail;

/* Lines of bits. */
static inline size_t codes_lines(size_t dim)
{
    return (dim + CODES_BITS - 1) / CODES_BITS;
}

/* Bytes of one vector's row of bytes. */
static inline size_t codes_width(size_t dim)
{
    return (dim + CODES_LINE - 1) / CODES_LINE * CODES_LINE;
}

/* Bytes of one vector's row of nibbles. */
static inline size_t codes_nibbles_width(size_t dim)
{
    return (dim + 2 * CODES_LINE - 1) / (2 * CODES_LINE) * CODES_LINE;
}

/* Bytes of a query, which meets both. */
static inline size_t codes_query_width(size_t dim)
{
    return 2 * codes_nibbles_width(dim);
}

static inline size_t codes_block_size(size_t lines)
{
    return lines * CODES_LINE + sizeof(code_tail);
}

static inline code_tail *codes_tail(const uint8_t *block, size_t lines)
{
    return (code_tail *)(uintptr_t)(block + lines * CODES_LINE);
}

float codes_scale(uint16_t half);

typedef struct code_kernel code_kernel;

/* A query in both forms. */
typedef struct code_query {
    size_t dim, lines, width;
    int8_t *bytes; /* [codes_query_width(dim)], the caller's, aligned to 64 bytes */
    /* [lines, CODES_TABLES] aligned likewise. Of each line two halves: for the lower four bits of
     * its four bytes, and for the upper four; in each half a table of sixteen for each byte. */
    uint8_t *tables;
    float per_sum, rest; /* Σ s q = per_sum * sum + rest, sum being that of what is looked up */
    float scale;         /* q ≈ scale * bytes */
    float stretch;       /* what all scores are multiplied with */
    float length;        /* with it; of codes_prepare alone */
    int32_t sum;         /* Σ bytes */
} code_query;

/* Memory for `dim` dimensions in q, which has none; false when there is none. */
bool codes_query_reserve(code_query *q, size_t dim);
void codes_query_free(code_query *q); /* a zeroed one is fine */

/* Fills q, whose tables and bytes point to memory for `dim` dimensions. */
void codes_prepare(code_query *q, const float *vector, size_t dim);
/* The form in bytes alone, for what meets no bits. */
void codes_prepare_bytes(code_query *q, const float *vector, size_t dim);

/* Multiplies a prepared query, and so all scores, with a number above 0. The bits'
 * error is that of ⟨q - c, x - c⟩: a query as long as the rows has the least. */
void codes_stretch(code_query *q, float by);

static inline float codes_byte_score(const code_query *q, int32_t sum, float scale)
{
    return (float)(sum - 128 * q->sum) * (q->scale * scale);
}

static inline float codes_nibble_score(const code_query *q, int32_t sum, float scale)
{
    return (float)(2 * sum - 15 * q->sum) * (q->scale * scale);
}

/* vector as [codes_width(dim)] bytes; returns its scale. */
uint16_t codes_to_bytes(const float *vector, size_t dim, uint8_t *bytes);
/* And back: [dim] floats. */
void codes_from_bytes(const uint8_t *bytes, float scale, size_t dim, float *vector);

/* vector as [codes_nibbles_width(dim)] bytes; returns its scale. */
uint16_t codes_to_nibbles(const code_kernel *kernel, const float *vector, size_t dim, uint8_t *nibbles);

/* Writes the bits and all numbers of one lane, the offset last, so that a reader of
 * the block meets an empty lane until all of it is there. */
void codes_write_lane(const code_kernel *kernel, uint8_t *block, size_t lane, const float *vector,
                      const float *centroid, size_t dim, uint32_t row, uint16_t scale);
/* Copies a lane that is in use. */
void codes_copy_lane(uint8_t *to, size_t to_lane, const uint8_t *from, size_t from_lane, size_t lines);
void codes_clear_block(uint8_t *block, size_t lines); /* all lanes empty */

typedef struct code_candidate {
    uint32_t place; /* a lane: number of the block * CODES_LANES + lane */
    float score;
} code_candidate;

/* Blocks that lie one behind the other and are coded against one centroid. */
typedef struct code_run {
    const uint8_t *blocks;
    size_t count;
    uint32_t first_place; /* of the first lane */
    float base;           /* ⟨query, centroid⟩ */
    const uint8_t *next;  /* blocks that will be compared next: the memory is asked for them. NULL: not known */
} code_run;

/* Of r = x - c, with s its signs: |r|², Σ|r|, ⟨c, r⟩, Σ s c. */
typedef struct code_residual_sums {
    double squares, sizes, along, signs;
} code_residual_sums;

struct code_kernel {
    const char *name; /* "generic", "avx2", "avx512" */
    /* Appends to out the lanes of a run whose estimate is at least the threshold
     * (finite), in order; returns how many. out has room for all lanes. */
    size_t (*scan)(const code_query *q, const code_run *run, float threshold, code_candidate *out);
    /* sums[i] = Σ query rows[i], for count <= CODES_BATCH rows of `width` bytes. */
    void (*bytes)(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums);
    void (*nibbles)(const int8_t *query, const uint8_t *const *rows, size_t count, size_t width, int32_t *sums);
    /* How many candidates have at least that score, and the least and the highest score
     * of all (count > 0). */
    size_t (*count)(const code_candidate *c, size_t count, float least);
    void (*range)(const code_candidate *c, size_t count, float *low, float *high);
    /* Leaves those with at least that score, in their order, and none of the others; how many. */
    size_t (*gather)(code_candidate *c, size_t count, float least);
    /* The bits of r = vector - centroid, a word for each line at words[line * CODES_LANES]. */
    void (*residual)(const float *vector, const float *centroid, size_t dim, uint32_t *words, code_residual_sums *out);
    /* Fills nibbles [codes_nibbles_width(dim)]; returns their scale. */
    float (*to_nibbles)(const float *vector, size_t dim, uint8_t *nibbles);
    bool (*available)(void); /* whether this machine can run it */
};

extern const code_kernel code_generic, code_avx2, code_avx512;

/* The best kernel of this machine, by the same rule as dot_choose(). avx512 needs VNNI
 * and VBMI here. */
const code_kernel *codes_choose(void);

#endif
