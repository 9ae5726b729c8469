/* Dropout whose masks are never stored: a pure function of seed, place in the
 * network, row and column, so that backward draws forward's masks again. */
#ifndef SEM_MODEL_DROPOUT_H
#define SEM_MODEL_DROPOUT_H

#include "model/kernels.h"

#include <stddef.h>
#include <stdint.h>

/* One place in the network where values are dropped. */
typedef struct dropout_site {
    uint64_t key;
    uint32_t threshold; /* of 2^24; 0: nothing is dropped */
    float scale;
} dropout_site;

/* probability is in [0, 1). */
dropout_site dropout_make_site(float probability, uint64_t seed, uint64_t number);

/* The mask of row `row` of the site, in *room; NULL where nothing is dropped. */
const kernel_mask *dropout_mask(const dropout_site *site, uint64_t row, kernel_mask *room);

/* x[n] is row `row` of the site. Forward and backward are the same function:
 * values in the one, their gradients in the other. */
void dropout_row(const kernels *k, const dropout_site *site, uint64_t row, float *x, size_t n);

/* x[rows, n], the rows `first` and following. */
void dropout_rows(const kernels *k, const dropout_site *site, uint64_t first, float *x, size_t rows, size_t n);

#endif
