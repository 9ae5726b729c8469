/* The best of a heap of candidates, by score and where scores are equal by the order
 * of documents' ids. */
#ifndef SEM_INDEX_CANDIDATES_H
#define SEM_INDEX_CANDIDATES_H

#include "index/codes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef bool candidate_before(const void *context, uint32_t place_a, uint32_t place_b);

/* Moves the best `keep` of count to the front, in no order; the least score among
 * them is returned. 0 < keep <= count. before decides between equal scores. */
float candidates_cut(code_candidate *c, size_t count, size_t keep, candidate_before *before, const void *context);

/* The indices of the `want` highest scores of order[from..count), best first, are moved
 * to order[from..from + want). Equal scores: the smaller index first. */
void candidates_order(uint32_t *order, size_t from, size_t count, size_t want, const float *scores);

#endif
