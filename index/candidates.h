/* The best of many candidates, by score and where scores are equal by the order
 * of documents' ids. */
#ifndef SEM_INDEX_CANDIDATES_H
#define SEM_INDEX_CANDIDATES_H

#include "index/codes.h"

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef bool candidate_before(const void *context, uint32_t place_a, uint32_t place_b);
candidate_before candidate_smaller_place; /* needs no context */

/* Products of huge vectors may be -INFINITY, or no number where 0 is multiplied with infinity: what
 * chooses among scores knows neither. */
static inline float candidate_score(float score)
{
    return score > -FLT_MAX ? score : -FLT_MAX;
}

/* Leaves the best `keep` of count, in no order. 0 < keep <= count. before decides between
 * equal scores, of which none is -INFINITY or no number. Returns a number that all of them reach
 * and none of the others is above, but for those that are infinite. */
float candidates_cut(const code_kernel *kernel, code_candidate *c, size_t count, size_t keep, candidate_before *before,
                     const void *context);

/* The same with less work: leaves the best `keep` and up to a quarter more; how many.
 * *threshold: what candidates_cut returns. */
size_t candidates_keep(const code_kernel *kernel, code_candidate *c, size_t count, size_t keep, float *threshold,
                       candidate_before *before, const void *context);

/* A number that the best `keep` reach, and about none of the others. 0 < keep <= count. */
float candidates_bound(const code_kernel *kernel, const code_candidate *c, size_t count, size_t keep);

/* Sorts indices by their scores, highest first. Equal scores: the smaller index first. */
void candidates_order(uint32_t *order, size_t count, const float *scores);

/* Moves the `want` that would come first to the front, in no order. room: [count] scratch. */
void candidates_choose(const code_kernel *kernel, uint32_t *order, size_t count, size_t want, const float *scores,
                       code_candidate *room);

#endif
