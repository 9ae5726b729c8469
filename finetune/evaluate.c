#include "finetune/evaluate.h"

#include "base/checked.h"
#include "base/random.h"

#include <math.h>

enum { RANKS_MAX = 64 };

void rank_metrics_add(rank_metrics *sum, const bool *relevant, size_t hits, size_t total, size_t k)
{
    if (total == 0 || k == 0)
        return;
    size_t cut = hits < k ? hits : k, ideal_hits = total < k ? total : k;
    size_t found = 0;
    double precision = 0, gain = 0, ideal = 0;
    for (size_t i = 0; i < cut; i++) {
        if (!relevant[i])
            continue;
        found++;
        precision += (double)found / (double)(i + 1);
        gain += 1 / log2((double)i + 2);
        if (found == 1)
            sum->mrr += 1 / (double)(i + 1);
    }
    for (size_t i = 0; i < ideal_hits; i++)
        ideal += 1 / log2((double)i + 2);
    sum->queries++;
    sum->ndcg += gain / ideal;
    sum->recall += (double)found / (double)total;
    sum->map += precision / (double)ideal_hits;
    sum->top1 += cut > 0 && relevant[0] ? 1 : 0;
}

void rank_metrics_mean(rank_metrics *sum)
{
    if (sum->queries == 0)
        return;
    double n = (double)sum->queries;
    sum->mrr /= n;
    sum->ndcg /= n;
    sum->recall /= n;
    sum->map /= n;
    sum->top1 /= n;
}

/* Eight sums side by side: the additions need not wait for each other. */
static float dot(const float *a, const float *b, size_t dim)
{
    float sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= dim; i += 8) {
        for (size_t j = 0; j < 8; j++)
            sum[j] += a[i + j] * b[i + j];
    }
    for (; i < dim; i++)
        sum[0] += a[i] * b[i];
    return ((sum[0] + sum[4]) + (sum[1] + sum[5])) + ((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

/* From 1. A score that is not a number counts against the document, as a tie does, unless the
 * other is relevant as well and comes later. */
static size_t rank_among(const float *scores, size_t n, const uint32_t *relevant, size_t count, size_t which)
{
    const float own = scores[relevant[which]];
    size_t rank = 0; /* it is not below itself, and counted */
    for (size_t i = 0; i < n; i++)
        rank += !(scores[i] < own);
    for (size_t i = which + 1; i < count; i++)
        rank -= scores[relevant[i]] == own;
    return rank;
}

double rank_relevant(const float *query, const float *documents, size_t n, size_t dim, const uint32_t *relevant,
                     size_t count, size_t k, float *scores, rank_metrics *sum)
{
    bool hits[RANKS_MAX] = {false};
    size_t first = SIZE_MAX;
    k = k < RANKS_MAX ? k : RANKS_MAX;
    for (size_t i = 0; i < n; i++)
        scores[i] = dot(query, documents + i * dim, dim);
    for (size_t i = 0; i < count; i++) {
        const size_t rank = rank_among(scores, n, relevant, count, i);
        first = rank < first ? rank : first;
        if (rank <= k)
            hits[rank - 1] = true;
    }
    rank_metrics_add(sum, hits, k, count, k);
    return first <= k ? 1 / (double)first : 0;
}

double rank_whole(const float *scores, size_t n, uint32_t own, size_t k)
{
    const size_t rank = rank_among(scores, n, &own, 1, 0);
    return rank <= k ? 1 / (double)rank : 0;
}

double rank_shown(const float *scores, const uint32_t *shown, size_t count, uint32_t own)
{
    size_t rank = 1;
    for (size_t i = 0; i < count; i++)
        rank += shown[i] != own && !(scores[shown[i]] < scores[own]);
    return 1 / (double)rank;
}

/* The sum of the differences, each with the sign of one random bit. */
static double random_signs(const double *before, const double *after, size_t n, random_state *r)
{
    double sum = 0;
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++, bits >>= 1) {
        if (i % 64 == 0)
            bits = random_next(r);
        double difference[2] = {after[i] - before[i], before[i] - after[i]};
        sum += difference[bits & 1];
    }
    return sum;
}

double randomisation_test(const double *before, const double *after, size_t n, size_t rounds, uint64_t seed)
{
    double observed = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        observed += after[i] - before[i];
        size += fabs(after[i] - before[i]);
    }
    /* Sums of the same numbers in another order differ in their last bits and
     * must count as equal. */
    double bar = observed - size * 1e-12;
    random_state r;
    random_seed(&r, seed);
    size_t as_large = 1; /* The observed signs are one of the possible outcomes, so p is never 0. */
    for (size_t round = 0; round < rounds; round++)
        as_large += random_signs(before, after, n, &r) < bar ? 0 : 1;
    return (double)as_large / ((double)rounds + 1);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bootstrap_lower_bound(const double *before, const double *after, size_t n, size_t rounds, uint64_t seed)
{
    double *means = n > 0 && rounds > 0 ? checked_realloc(NULL, rounds, sizeof *means) : NULL;
    if (means == NULL)
        return -INFINITY;
    random_state r;
    random_seed(&r, seed);
    double lowest = INFINITY;
    for (size_t round = 0; round < rounds; round++) {
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            size_t drawn = (size_t)random_below(&r, n);
            sum += after[drawn] - before[drawn];
        }
        means[round] = sum / (double)n;
        lowest = isnan(means[round]) ? means[round] : lowest;
    }
    qsort(means, rounds, sizeof *means, compare_doubles);
    /* Not a number in, not a number out: no bound may be read from such data. */
    double bound = isnan(lowest) ? lowest : means[rounds / 20];
    free(means);
    return bound;
}
