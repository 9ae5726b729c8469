#include "finetune/propensity.h"

#include <math.h>
#include <stdlib.h>

enum {
    RANKS = PROPENSITY_RANKS,
    SWEEPS = 1000, /* of the ascent, at most; it converges in some dozens */
    HALVINGS = 40  /* of the interval that holds a parameter: to 1e-12 */
};

/* In the prior's sets half of those who look click: there a set of n tells of the
 * logarithm of the propensity as much as n clicks do (n x / (1 - x) with x = 1/2). */
static const double PRIOR_RELEVANCE = 0.5;
static const double CONVERGED = 1e-9;   /* change of a propensity in a sweep */
static const double LEAST = 1e-6;       /* of a propensity or relevance */
static const double MOST_LOOKED_AT = 4; /* times as often as rank 1 */

/* Sums over the sets S(k, k'), ranks from 0. */
typedef struct harvest {
    double clicks[RANKS][RANKS]; /* c(k; k, k') at [k][k'] */
    double size[RANKS][RANKS];   /* n, the same both ways */
    double relevance[RANKS][RANKS];
    /* The prior's sets {1, k}. */
    double prior_size;
    double prior_at[RANKS];
    double prior_relevance[RANKS];
    double p[RANKS]; /* [0] is 1: only ratios can be told */
} harvest;

void propensity_prior(propensities *out, double eta)
{
    *out = (propensities){.eta = eta};
    for (size_t k = 0; k < RANKS; k++)
        out->at[k] = pow((double)(k + 1), -eta);
}

/* --- the sets */

static int compare_impressions(const void *a, const void *b)
{
    const impression *x = a, *y = b;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    if (x->document != y->document)
        return x->document < y->document ? -1 : 1;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

/* The click rate of one document of one query at each rank where it was shown. */
typedef struct shown_at {
    uint32_t rank[RANKS]; /* from 0 */
    double rate[RANKS];
    size_t count;
    double clicks;
} shown_at;

/* Of the impressions [first, end) of one document for one query, in order of rank. */
static void rate_ranks(const impression *first, const impression *end, shown_at *out)
{
    out->count = 0;
    out->clicks = 0;
    while (first < end && first->rank <= RANKS) {
        double clicks = 0, times = 0;
        const uint32_t rank = first->rank;
        for (; first < end && first->rank == rank; first++) {
            clicks += first->clicked;
            times += 1;
        }
        out->rank[out->count] = rank - 1;
        out->rate[out->count++] = clicks / times;
        out->clicks += clicks;
    }
}

static void add_to_sets(harvest *h, const shown_at *s)
{
    for (size_t i = 0; i < s->count; i++) {
        for (size_t j = 0; j < s->count; j++) {
            if (i == j)
                continue;
            h->clicks[s->rank[i]][s->rank[j]] += s->rate[i];
            h->size[s->rank[i]][s->rank[j]] += 1;
        }
    }
}

static void gather(harvest *h, const impression *all, size_t count, propensities *out)
{
    shown_at shown;
    for (size_t first = 0, end = 0; first < count; first = end) {
        while (end < count && all[end].query == all[first].query && all[end].document == all[first].document)
            end++;
        rate_ranks(all + first, all + end, &shown);
        if (shown.count < 2)
            continue;
        add_to_sets(h, &shown);
        out->moved++;
        out->clicks += shown.clicks;
    }
}

/* --- the ascent: one parameter at a time, the others held. In the logarithms of p and r
 * the likelihood is concave, so it has one top and each step has one best value. */

/* The slope in a parameter x of clicks log(factor x) + (size - clicks) log(1 - factor x). */
static double slope(double clicks, double size, double factor, double x)
{
    double rest = 1 - factor * x;
    return clicks / x - (size - clicks) * factor / (rest > 1e-12 ? rest : 1e-12);
}

static double slope_of_propensity(const harvest *h, size_t k, double x)
{
    double sum = slope(h->prior_size * PRIOR_RELEVANCE * h->prior_at[k], h->prior_size, h->prior_relevance[k], x);
    for (size_t j = 0; j < RANKS; j++)
        if (h->size[k][j] > 0)
            sum += slope(h->clicks[k][j], h->size[k][j], h->relevance[k][j], x);
    return sum;
}

static double best_propensity(const harvest *h, size_t k)
{
    double low = LEAST, high = MOST_LOOKED_AT;
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (low + high) / 2;
        if (slope_of_propensity(h, k, middle) > 0)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

/* Of the set of ranks k and j, with c clicks at one and d at the other out of `size` each. */
static double best_relevance(const harvest *h, size_t k, size_t j, double c, double d, double size)
{
    double low = LEAST, high = 1;
    for (int i = 0; i < HALVINGS; i++) {
        double middle = (low + high) / 2;
        if (slope(c, size, h->p[k], middle) + slope(d, size, h->p[j], middle) > 0)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

static void fit_relevance(harvest *h)
{
    const double n = h->prior_size * PRIOR_RELEVANCE;
    for (size_t k = 1; k < RANKS; k++) {
        h->prior_relevance[k] = best_relevance(h, 0, k, n, n * h->prior_at[k], h->prior_size);
        for (size_t j = 0; j < k; j++) {
            if (h->size[k][j] > 0)
                h->relevance[k][j] = h->relevance[j][k] =
                    best_relevance(h, k, j, h->clicks[k][j], h->clicks[j][k], h->size[k][j]);
        }
    }
}

/* Returns the largest change. */
static double fit_propensities(harvest *h)
{
    double change = 0;
    for (size_t k = 1; k < RANKS; k++) {
        double best = best_propensity(h, k);
        change = fmax(change, fabs(best - h->p[k]));
        h->p[k] = best;
    }
    return change;
}

sem_status propensity_estimate(propensities *out, impression *impressions, size_t count,
                               const propensity_options *options, sem_error *err)
{
    propensity_prior(out, options->eta);
    harvest *h = calloc(1, sizeof *h);
    if (h == NULL)
        return sem_fail_memory(err, "propensities");
    if (count > 0)
        qsort(impressions, count, sizeof *impressions, compare_impressions);
    gather(h, impressions, count, out);
    h->prior_size = options->prior_clicks;
    for (size_t k = 0; k < RANKS; k++)
        h->prior_at[k] = h->p[k] = out->at[k];
    double change = out->moved > 0 ? 1 : 0;
    for (int i = 0; i < SWEEPS && change > CONVERGED; i++) {
        fit_relevance(h);
        change = fit_propensities(h);
    }
    for (size_t k = 0; k < RANKS; k++)
        out->at[k] = h->p[k];
    free(h);
    return SEM_OK;
}

double propensity_at(const propensities *p, uint32_t rank)
{
    if (rank >= 1 && rank <= RANKS)
        return p->at[rank - 1];
    return rank == 0 ? 1 : p->at[RANKS - 1] * pow((double)rank / RANKS, -p->eta);
}

double propensity_weight(const propensities *p, uint32_t rank, double most)
{
    double weight = 1 / propensity_at(p, rank);
    return weight < most ? weight : most;
}
