#include "base/checked.h"
#include "index/dot.h"
#include "index/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP_SAMPLE = 200, /* points for each group's own centroid */
    GROUP_ROUNDS = 6
};

/* Points and the centroids to start from, by group. */
typedef struct groups {
    const kmeans_options *o;
    size_t count;
    float *centroids;     /* [count, dim] */
    uint32_t *of_point;   /* [n] */
    size_t *starts;       /* [count + 1] where a group's points begin in members */
    uint32_t *members;    /* [n] points by group */
    uint32_t *of_start;   /* [start_count] */
    float *points, *seed; /* scratch: the points and starting centroids of one group */
} groups;

static void groups_free(groups *g)
{
    free(g->centroids);
    free(g->of_point);
    free(g->starts);
    free(g->members);
    free(g->of_start);
    free(g->points);
    free(g->seed);
}

static sem_status groups_alloc(groups *g, size_t n, sem_error *err)
{
    const kmeans_options *o = g->o;
    g->centroids = checked_realloc(NULL, g->count, o->dim * sizeof *g->centroids);
    g->of_point = checked_realloc(NULL, n, sizeof *g->of_point);
    g->starts = calloc(g->count + 1, sizeof *g->starts);
    g->members = checked_realloc(NULL, n, sizeof *g->members);
    g->of_start = checked_realloc(NULL, o->start_count + 1, sizeof *g->of_start);
    g->seed = checked_realloc(NULL, o->start_count + 1, o->dim * sizeof *g->seed);
    bool whole = g->centroids != NULL && g->of_point != NULL && g->starts != NULL && g->members != NULL &&
                 g->of_start != NULL && g->seed != NULL;
    return whole ? SEM_OK : sem_fail_memory(err, "k-means");
}

/* Every n / want-th point: the sample is in no order that matters. */
static sem_status find_groups(groups *g, const float *sample, size_t n, const atomic_bool *cancel, sem_error *err)
{
    const kmeans_options *o = g->o;
    size_t want = g->count * GROUP_SAMPLE < n ? g->count * GROUP_SAMPLE : n;
    float *few = checked_realloc(NULL, want, o->dim * sizeof *few);
    if (few == NULL)
        return sem_fail_memory(err, "k-means");
    for (size_t i = 0; i < want; i++)
        memcpy(few + i * o->dim, sample + i * n / want * o->dim, o->dim * sizeof *few);
    kmeans_options coarse = {
        .dim = o->dim, .k = g->count, .rounds = GROUP_ROUNDS, .threads = o->threads, .seed = o->seed};
    sem_status s = kmeans_train(&coarse, few, want, g->centroids, cancel, err);
    free(few);
    return s;
}

static void sort_points(groups *g, size_t n)
{
    for (size_t i = 0; i < n; i++)
        g->starts[g->of_point[i] + 1]++;
    for (size_t c = 0; c < g->count; c++)
        g->starts[c + 1] += g->starts[c];
    for (size_t i = 0; i < n; i++)
        g->members[g->starts[g->of_point[i]]++] = (uint32_t)i;
    memmove(g->starts + 1, g->starts, g->count * sizeof *g->starts);
    g->starts[0] = 0;
}

/* k-means in one group; *made centroids are written. */
static sem_status split_group(groups *g, size_t group, size_t n, const float *sample, float *centroids, size_t *made,
                              const atomic_bool *cancel, sem_error *err)
{
    const kmeans_options *o = g->o;
    size_t from = g->starts[group], count = g->starts[group + 1] - from, seeds = 0;
    size_t k = (size_t)((double)o->k * (double)count / (double)n + 0.5);
    *made = 0;
    if (count < 2)
        return SEM_OK; /* its point finds a cell in another group */
    k = k < 1 ? 1 : k >= count ? count - 1 : k;
    float *points = checked_realloc(g->points, count, o->dim * sizeof *points);
    if (points == NULL)
        return sem_fail_memory(err, "k-means");
    g->points = points;
    for (size_t i = 0; i < count; i++)
        memcpy(points + i * o->dim, sample + g->members[from + i] * o->dim, o->dim * sizeof *points);
    for (size_t i = 0; i < o->start_count; i++)
        if (g->of_start[i] == group)
            memcpy(g->seed + seeds++ * o->dim, o->start + i * o->dim, o->dim * sizeof *g->seed);
    kmeans_options fine = *o;
    fine.k = k;
    fine.seed = o->seed + group;
    fine.start = seeds > 0 ? g->seed : NULL;
    fine.start_count = seeds;
    sem_status s = kmeans_train(&fine, points, count, centroids, cancel, err);
    *made = k;
    return s;
}

sem_status kmeans_train_grouped(const kmeans_options *o, const float *sample, size_t n, float *centroids, size_t *made,
                                const atomic_bool *cancel, sem_error *err)
{
    groups g = {.o = o, .count = (size_t)sqrt((double)o->k)};
    *made = 0;
    if (g.count < 2 || n <= o->k) {
        *made = o->k;
        return kmeans_train(o, sample, n, centroids, cancel, err);
    }
    sem_status s = groups_alloc(&g, n, err);
    if (s == SEM_OK)
        s = find_groups(&g, sample, n, cancel, err);
    if (s == SEM_OK)
        s = kmeans_nearest(g.centroids, g.count, o->dim, o->threads, sample, n, g.of_point, err);
    if (s == SEM_OK && o->start_count > 0)
        s = kmeans_nearest(g.centroids, g.count, o->dim, o->threads, o->start, o->start_count, g.of_start, err);
    if (s == SEM_OK)
        sort_points(&g, n);
    for (size_t c = 0; s == SEM_OK && c < g.count; c++) {
        size_t here;
        s = split_group(&g, c, n, sample, centroids + *made * o->dim, &here, cancel, err);
        *made += here;
    }
    groups_free(&g);
    return s;
}
