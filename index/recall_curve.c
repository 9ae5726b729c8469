#include "index/recall_curve.h"

#include <math.h>
#include <stdbool.h>

static const size_t depths[CURVE_DEPTHS] = {10, 30, 100, 300, 1000};
enum {
    DEEPEST = 1000,
    RANKS_A_DEPTH = 6, /* of 1 to 15 the best, with little difference from 3 on */
    NEAR_LEAST = 16,
    NEAR_RANKS = 8
};
/* The hardest queries reach farther, and lose a little: for them all would have to compare more
 * centroids. */
static const double MOST_CELLS = 1.0;
static const double factors[CURVE_FACTORS] = {1.5, 2.5, 4, 6, 9, 14, 20, 32};

size_t curve_depth(size_t d)
{
    return depths[d];
}

size_t curve_candidates(size_t depth, size_t f)
{
    return (size_t)ceil((double)depth * factors[f]);
}

/* Residuals of many dimensions have small cosines with a query, those of few large ones. */
float curve_cosine(size_t r)
{
    static const double least = 0.14, step = 1.085;
    return (float)(least * pow(step, (double)r));
}

effort recall_curve_reaching(const recall_curve *curve, size_t d, float reach, double cells)
{
    size_t nlist = curve->at[curve->points - 1].nprobe, rank = RANKS_A_DEPTH * depths[d];
    /* Cells that hold several times as many rows. */
    size_t near = (size_t)ceil(NEAR_RANKS * (double)rank / fmax(1.0, (double)curve->cells_rows));
    near = near < NEAR_LEAST ? NEAR_LEAST : near;
    double most = fmin(fmax((double)near, MOST_CELLS * cells), (double)nlist);
    return (effort){.nprobe = (size_t)ceil(most), .reach = reach, .near = near < nlist ? near : nlist, .rank = rank};
}

/* The depth that counts for k. Between two the deeper one does: where clusters end,
 * the need for probes jumps. */
static size_t depth_of(double k)
{
    size_t d = 0;
    while (d + 1 < CURVE_DEPTHS && k > (double)depths[d])
        d++;
    return d;
}

/* For k hits. */
static size_t second_of(const recall_curve *curve, size_t k)
{
    return (size_t)ceil((double)k * (double)curve->second[depth_of((double)k)]) + CURVE_SPARE;
}

typedef double value_fn(const curve_point *point, size_t d, size_t f);

static double sure_of(const curve_point *point, size_t d, size_t f)
{
    return (double)point->sure[d][f];
}

static double last_of(const curve_point *point, size_t d, size_t f)
{
    (void)f;
    return (double)point->last[d];
}

/* Recall grows ever slower with the logarithm of nprobe, so a straight line
 * between two points errs on the side of more probes. INFINITY where the recall is
 * not reached at all. */
static double nprobe_at(const recall_curve *curve, double recall, size_t d, size_t f, value_fn *value)
{
    size_t p = 0;
    while (p < curve->points && value(&curve->at[p], d, f) < recall)
        p++;
    if (p == curve->points)
        return INFINITY;
    if (p == 0)
        return (double)curve->at[0].nprobe;
    double below = value(&curve->at[p - 1], d, f), above = value(&curve->at[p], d, f);
    double part = above > below ? (recall - below) / (above - below) : 1.0;
    double few = (double)curve->at[p - 1].nprobe, many = (double)curve->at[p].nprobe;
    return few * pow(many / few, fmin(part, 1.0));
}

/* Beyond the last depth the need for probes grows at most as k does. */
static size_t whole_nprobe(const recall_curve *curve, double nprobe, double k)
{
    double beyond = fmax(1.0, k / DEEPEST), nlist = (double)curve->at[curve->points - 1].nprobe;
    return (size_t)fmin(fmax(ceil(nprobe * beyond - 1e-9), 1.0), nlist);
}

effort recall_curve_thorough(const recall_curve *curve, size_t nprobe, double k)
{
    double depth = fmax((double)depths[depth_of(k)], k);
    return (effort){.nprobe = nprobe,
                    .first = curve_candidates((size_t)depth, CURVE_FACTORS - 1),
                    .second = second_of(curve, (size_t)k)};
}

void recall_curve_begin(recall_curve *curve, size_t nlist)
{
    *curve = (recall_curve){0};
    for (size_t nprobe = 1; nprobe < nlist && curve->points < CURVE_POINTS_MAX - 1; nprobe *= 2)
        curve->at[curve->points++].nprobe = nprobe;
    curve->at[curve->points++].nprobe = nlist;
}

void recall_curve_resize(recall_curve *curve, size_t nlist)
{
    curve_point all = curve->at[curve->points - 1];
    while (curve->points > 1 && curve->at[curve->points - 2].nprobe >= nlist)
        curve->points--;
    all.nprobe = nlist;
    curve->at[curve->points - 1] = all;
}

double recall_curve_thinned(size_t measured_rows, double live)
{
    return live > 0.0 && (double)measured_rows > live ? (double)measured_rows / live : 1.0;
}

uint32_t recall_curve_covers(uint32_t covered, size_t came, double live)
{
    enum { MOST = 1024 /* rows that no search feels */ };
    static const double FEW = 0.05; /* even if a tenth of them were missed, all would lose 0.005 */
    if (came > MOST || (double)came <= FEW * live)
        return covered;
    return came < covered ? covered - (uint32_t)came : 0; /* of those that came some may be gone */
}

/* The least reach for a recall with the f-th factor, and its cells. False: none has it. */
static bool find_reach(const recall_curve *curve, double recall, size_t d, size_t f, effort *out, double *cells)
{
    size_t r = 0;
    while (r < CURVE_REACHES && (double)curve->reach[r].sure[d][f] < recall)
        r++;
    if (r == CURVE_REACHES)
        return false;
    double part = 1.0, below = r == 0 ? 0.0 : (double)curve->reach[r - 1].sure[d][f];
    double above = (double)curve->reach[r].sure[d][f];
    if (r > 0 && above > below)
        part = (recall - below) / (above - below);
    double from = r == 0 ? 0.0 : (double)curve_cosine(r - 1), to = (double)curve_cosine(r);
    double few = r == 0 ? 0.0 : (double)curve->reach[r - 1].cells[d];
    *cells = few + part * ((double)curve->reach[r].cells[d] - few);
    *out = recall_curve_reaching(curve, d, (float)(from + part * (to - from)), *cells);
    return true;
}

/* The cheapest with a reach if there is one that costs less than `least`. */
static void prefer_reach(const recall_curve *curve, double recall, size_t d, double least, effort *best)
{
    for (size_t f = 0; d < CURVE_REACH_DEPTHS && f < CURVE_FACTORS; f++) {
        effort e;
        double cells;
        if (!find_reach(curve, recall, d, f, &e, &cells))
            continue;
        e.first = curve_candidates(depths[d], f);
        e.second = best->second;
        double cost = cells * (double)curve->cells_rows + (double)e.first * (double)curve->candidate_cost;
        if (cost >= least)
            continue;
        least = cost;
        *best = e;
    }
}

effort recall_curve_effort(const recall_curve *curve, double recall, double k)
{
    size_t d = depth_of(k);
    effort best = recall_curve_thorough(curve, curve->at[curve->points - 1].nprobe, k);
    double least = INFINITY, beyond = fmax(1.0, k / DEEPEST);
    for (size_t f = 0; f < CURVE_FACTORS; f++) {
        double nprobe = nprobe_at(curve, recall, d, f, sure_of);
        if (isinf(nprobe))
            continue;
        size_t first = (size_t)((double)curve_candidates(depths[d], f) * beyond);
        double cost = nprobe * (double)curve->cells_rows + (double)first * (double)curve->candidate_cost;
        if (cost >= least)
            continue;
        least = cost;
        best.nprobe = whole_nprobe(curve, nprobe, k);
        best.first = first;
    }
    prefer_reach(curve, recall, d, least, &best);
    if (best.first < best.second)
        best.first = best.second;
    return best;
}

size_t recall_curve_nprobe(const recall_curve *curve, double recall, double depth)
{
    double nprobe = nprobe_at(curve, recall, depth_of(depth), CURVE_FACTORS - 1, sure_of);
    return whole_nprobe(curve, nprobe, depth);
}

size_t recall_curve_nprobe_at_rank(const recall_curve *curve, double recall, double rank)
{
    return whole_nprobe(curve, nprobe_at(curve, recall, depth_of(rank), 0, last_of), rank);
}
