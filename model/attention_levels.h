/* The kernels below attention_serve.h: one table for each instruction set and
 * precision.
 *
 * Keys of a head lie in panels of `lanes` keys, values in panels of `lanes` columns.
 * A panel is a row of steps, a step holds 32 bits of each of its lanes: one float32,
 * or two bfloat16 that follow each other in the width (keys) or in the text (values).
 * Both products of attention then have the same loop: broadcast 32 bits of a row of
 * the left factor, multiply them with one step of two panels, add. */
#ifndef SEM_MODEL_ATTENTION_LEVELS_H
#define SEM_MODEL_ATTENTION_LEVELS_H

#include "model/attention_serve.h"

enum { ATTENTION_ROWS_MAX = 12 };

/* Weights of one query against one block of keys, in bytes, and a line more than a
 * power of two from one query's to the next, so that the rows of a tile do not share
 * a cache set. */
enum { ATTENTION_BLOCK = 1024, ATTENTION_STRIDE = ATTENTION_BLOCK + 64 };

/* Scores are more often far above 0 than far below, so weights are at first this
 * power of two smaller than e^score. */
enum { ATTENTION_LOWERED = 24 };

/* A few queries that follow each other, against one block of keys. */
typedef struct attention_tile {
    size_t rows;
    const char *queries; /* in groups of 32 bits */
    size_t query_stride; /* bytes */
    const char *keys;    /* [panels, steps, lanes] groups */
    size_t panels;
    size_t steps;
    /* Row r sees the keys first + r to end + r (not included) of the block, as far as
     * it has them: it has `count`. */
    ptrdiff_t first, end;
    ptrdiff_t count;
    /* What is added to the products: base[r], whole numbers, and line[j - r] to that
     * with key j where line is not NULL. */
    float base[ATTENTION_ROWS_MAX];
    const float *line;
    char *weights; /* [rows, ATTENTION_STRIDE] */
} attention_tile;

/* Weights times values. */
typedef struct attention_output {
    size_t rows;
    const char *weights; /* [rows, ATTENTION_STRIDE] */
    size_t steps;
    const char *values;  /* the first panel's steps */
    size_t panel_stride; /* bytes */
    size_t width;
    const float *before; /* [rows, before_stride] is added; NULL: nothing */
    size_t before_stride;
    const float *factor; /* [rows]; NULL: 1 */
    float *out;          /* [rows, out_stride], whole panels are written */
    size_t out_stride;
} attention_output;

struct attention_level {
    const char *name;
    size_t rows;  /* of a tile, at most */
    size_t lanes; /* of a panel */
    size_t group; /* values in 32 bits */
    /* The weight is 2^(sum / unit) where a sum of products starts at `one`. */
    float unit, one;

    /* out[rows, steps] groups from x[rows, width], a row every `stride` floats;
     * NULL: queries are read where they are. */
    void (*pack_queries)(const float *x, size_t stride, size_t rows, size_t width, char *out, size_t out_stride);
    /* All of a text's, scaled; 0 where a panel or a group has no key, column or value. */
    void (*pack_keys)(const float *x, size_t stride, size_t n, size_t width, float scale, char *out);
    void (*pack_values)(const float *x, size_t stride, size_t n, size_t width, char *out);

    /* Writes the weights of all keys of the block's panels, 0 of those that a row
     * does not see. */
    void (*weigh)(const attention_tile *tile);
    /* top[r] = the largest of top[r] and row r's products. */
    void (*largest)(const attention_tile *tile, float *top);
    /* sums[r] += the weights of row r in its first `bytes`. */
    void (*sums)(size_t rows, const char *weights, size_t bytes, float *sums);
    void (*multiply)(const attention_output *out);
};

extern const attention_level attention_generic;

#if defined(__x86_64__)
#define ATTENTION_X86 1
extern const attention_level attention_avx2;
extern const attention_level attention_avx512;
/* Needs avx512bf16 and avx512vbmi beside what kernels_avx512 needs. */
extern const attention_level attention_bfloat16;
#endif

#endif
