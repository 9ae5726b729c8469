#include "index/recall_reach.h"

#include "index/candidates.h"
#include "index/recall_lanes.h"

#include <float.h>
#include <string.h>

enum { NEAR_ROOM = 2048 }; /* estimates of the nearest cells: more than any rank */

/* With more of the cells a reach spares nothing that pays for its choice. */
static const double MOST_REACHED = 0.25;

/* The best lanes of the cells that were met so far. */
typedef struct near_lanes {
    const code_kernel *kernel;
    size_t count, keep;
    float least; /* estimates below it are not among the best `keep` */
    code_candidate at[NEAR_ROOM];
} near_lanes;

static void note_near(void *context, uint32_t row, uint32_t cell, float estimate)
{
    near_lanes *n = context;
    (void)cell;
    n->at[n->count++] = (code_candidate){.place = row, .score = estimate};
    if (n->count == NEAR_ROOM) {
        n->least = candidates_cut(n->kernel, n->at, n->count, n->keep, candidate_smaller_place, NULL);
        n->count = n->keep;
    }
}

/* Leaves out the row that stands in for the query: it is no document of a search. */
static void drop_own(near_lanes *n, const reach_query *q)
{
    size_t others = 0;
    for (size_t i = 0; i < n->count; i++)
        if (q->own == ROW_NONE || rows_docno(q->rows, n->at[i].place) != q->own)
            n->at[others++] = n->at[i];
    n->count = others;
}

/* The estimate that a search finds after the nearest cells, and how many these are: as scan_cells
 * and stages_reach do. */
static float find_could_have(const reach_query *q, const effort *e, size_t *near)
{
    const lists *l = q->lists;
    near_lanes best;
    best.kernel = l->kernel;
    best.count = 0;
    best.keep = e->rank;
    best.least = -FLT_MAX;
    recall_lanes_each(l, q->prepared, (uint32_t)l->nlist, best.least, note_near, &best);
    for (*near = 0; *near < l->nlist && (*near < e->near || best.count < e->rank); ++*near) {
        recall_lanes_each(l, q->prepared, q->prepared->cells.order[*near], best.least, note_near, &best);
        drop_own(&best, q);
    }
    return best.count < e->rank ? -FLT_MAX : candidates_bound(l->kernel, best.at, best.count, e->rank);
}

/* The first reach that is above a needed cosine. All squared. */
static size_t first_reach(const float reaches[CURVE_REACHES], float needed)
{
    size_t r = 0;
    while (r < CURVE_REACHES && needed >= reaches[r])
        r++;
    return r;
}

void recall_reach_order(const reach_query *q, const reach_nearest *n, uint32_t *order, uint32_t *places,
                        size_t ends[CURVE_REACHES + 1])
{
    const lists *l = q->lists;
    const coarse_scores *cells = &q->prepared->cells;
    size_t next[CURVE_REACHES + 1];
    float reaches[CURVE_REACHES];
    for (size_t r = 0; r < CURVE_REACHES; r++)
        reaches[r] = curve_cosine(r) * curve_cosine(r);
    memset(ends, 0, (CURVE_REACHES + 1) * sizeof *ends);
    for (size_t i = 0; i < l->nlist; i++) {
        uint32_t c = cells->order[i];
        float needed = lists_needed_cosine(l, c, lists_base(l, c, cells->of), n->could_have, &q->prepared->codes);
        places[c] = i < n->cells ? 0 : (uint32_t)first_reach(reaches, needed);
        ends[places[c]] += i >= n->cells;
    }
    for (size_t r = 0, sum = n->cells; r <= CURVE_REACHES; r++) {
        next[r] = sum;
        sum += ends[r];
        ends[r] = sum;
    }
    for (size_t i = 0; i < l->nlist; i++) {
        uint32_t c = cells->order[i];
        size_t at = i < n->cells ? i : next[places[c]]++;
        order[at] = c;
        places[c] = (uint32_t)at;
    }
}

void recall_reach_look(const reach_query *q, const effort *e, uint32_t *order, uint32_t *places, reach_nearest *out)
{
    size_t ends[CURVE_REACHES + 1];
    out->could_have = find_could_have(q, e, &out->cells);
    recall_reach_order(q, out, order, places, ends);
    for (size_t r = 0; r < CURVE_REACHES; r++)
        out->within[r] = (uint32_t)ends[r];
}

/* On average, where so many nearest centroids are looked at that the average may be chosen
 * (recall_curve_reaching): the farther a few queries would reach, the less that adds. */
static double mean_cells(const recall_curve *curve, const lists *l, const reach_nearest *of, size_t count, size_t r,
                         size_t d)
{
    enum { ROUNDS = 8 };
    double mean = (double)l->nlist;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t most = coarse_least(&l->coarse, recall_curve_reaching(curve, d, 0.0f, mean).nprobe);
        mean = 0;
        for (size_t q = 0; q < count; q++) {
            size_t within = of[q * CURVE_REACH_DEPTHS + d].within[r];
            mean += (double)(within < most ? within : most) / (double)count;
        }
    }
    return mean;
}

void recall_reach_choose(recall_curve *curve, const lists *l, const reach_nearest *of, size_t count)
{
    for (size_t r = 0; r < CURVE_REACHES; r++)
        for (size_t d = 0; d < CURVE_REACH_DEPTHS; d++) {
            double cells = mean_cells(curve, l, of, count, r, d);
            curve->reach[r].cells[d] = cells > MOST_REACHED * (double)l->nlist ? 0.0f : (float)cells;
        }
}
