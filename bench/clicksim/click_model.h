/* How simulated people go through a list of hits, and what they click.
 *
 * Position-based model: rank k is looked at with probability k^-strength, each rank by itself; what
 * is looked at is clicked if it is relevant (`hit`) or by mistake (`noise`) (Richardson et al. 2007;
 * Joachims et al. 2017, section 2).
 *
 * Cascade model: people go down the list and stop at their first click (Craswell et al. 2008). From
 * rank k they go on to rank k + 1 with probability (k / (k + 1))^strength, so that without a click
 * rank k is looked at as often as in the other model. */
#ifndef SEM_BENCH_CLICKSIM_CLICK_MODEL_H
#define SEM_BENCH_CLICKSIM_CLICK_MODEL_H

#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>

typedef enum click_kind { CLICK_PBM, CLICK_CASCADE } click_kind;

typedef struct click_model {
    click_kind kind;
    double strength; /* 0: every rank is looked at */
    double hit;      /* chance of a click on something relevant that is looked at */
    double noise;    /* the same of something that is not relevant */
} click_model;

/* Chance that rank k, from 1, is looked at. */
double click_examination(const click_model *m, size_t rank);

/* One person's way through a list: relevant [count] in order of rank; clicked [count] gets which were
 * clicked. Returns how many. */
size_t click_draw(const click_model *m, const bool *relevant, size_t count, random_state *r, bool *clicked);

#endif
