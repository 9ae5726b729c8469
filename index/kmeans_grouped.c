#include "base/checked.h"
#include "index/kmeans.h"
#include "index/parallel.h"

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROUP_SAMPLE = 200, /* points for each group's own centroid */
    GROUP_ROUNDS = 6,
    CHUNK = 4096 /* points that one thread takes at a time */
};

/* Points and the centroids to start from, by group. */
typedef struct groups {
    const kmeans_options *o; /* threads: 1 */
    size_t count, n;
    const float *sample;  /* [n, dim] */
    float *centroids;     /* [count, dim] */
    uint32_t *of_point;   /* [n] */
    size_t *starts;       /* [count + 1] where a group's points begin in members */
    uint32_t *members;    /* [n] points by group */
    uint32_t *of_start;   /* [start_count] */
    size_t *first, *made; /* [count] where a group's centroids begin, and how many they are */
    float *out;           /* the centroids of all groups */
    const atomic_bool *cancel;
    pthread_mutex_t lock; /* guards what follows */
    sem_status status;    /* of the first thread that failed */
    sem_error error;
} groups;

static void groups_free(groups *g)
{
    free(g->centroids);
    free(g->of_point);
    free(g->starts);
    free(g->members);
    free(g->of_start);
    free(g->first);
    free(g->made);
    pthread_mutex_destroy(&g->lock);
}

static sem_status groups_alloc(groups *g, size_t n, sem_error *err)
{
    const kmeans_options *o = g->o;
    g->centroids = checked_realloc(NULL, g->count, o->dim * sizeof *g->centroids);
    g->of_point = checked_realloc(NULL, n, sizeof *g->of_point);
    g->starts = calloc(g->count + 1, sizeof *g->starts);
    g->members = checked_realloc(NULL, n, sizeof *g->members);
    g->of_start = checked_realloc(NULL, o->start_count + 1, sizeof *g->of_start);
    g->first = calloc(g->count, sizeof *g->first);
    g->made = calloc(g->count, sizeof *g->made);
    bool whole = g->centroids != NULL && g->of_point != NULL && g->starts != NULL && g->members != NULL &&
                 g->of_start != NULL && g->first != NULL && g->made != NULL;
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

static void note_failure(groups *g, sem_status s, const sem_error *error)
{
    pthread_mutex_lock(&g->lock);
    if (g->status == SEM_OK) {
        g->status = s;
        g->error = *error;
    }
    pthread_mutex_unlock(&g->lock);
}

static bool has_failed(groups *g)
{
    pthread_mutex_lock(&g->lock);
    bool failed = g->status != SEM_OK;
    pthread_mutex_unlock(&g->lock);
    return failed;
}

static void sort_chunk(void *context, size_t chunk)
{
    groups *g = context;
    size_t from = chunk * CHUNK, count = g->n - from < CHUNK ? g->n - from : CHUNK;
    sem_error error;
    sem_status s = kmeans_nearest(g->centroids, g->count, g->o->dim, 1, g->sample + from * g->o->dim, count,
                                  g->of_point + from, &error);
    if (s != SEM_OK)
        note_failure(g, s, &error);
}

/* Each group has as many centroids as its share of the points asks for, but fewer than points. */
static void share_out(groups *g, size_t *made)
{
    *made = 0;
    for (size_t i = 0; i < g->count; i++) {
        size_t count = g->starts[i + 1] - g->starts[i];
        size_t k = (size_t)((double)g->o->k * (double)count / (double)g->n + 0.5);
        /* A lone point finds a cell in another group. */
        g->made[i] = count < 2 ? 0 : k < 1 ? 1 : k >= count ? count - 1 : k;
        g->first[i] = *made;
        *made += g->made[i];
    }
}

/* k-means in one group. points, seed: scratch for its points and starting centroids. */
static sem_status split_group(const groups *g, size_t group, float *points, float *seed, sem_error *err)
{
    const kmeans_options *o = g->o;
    size_t from = g->starts[group], count = g->starts[group + 1] - from, seeds = 0;
    for (size_t i = 0; i < count; i++)
        memcpy(points + i * o->dim, g->sample + g->members[from + i] * o->dim, o->dim * sizeof *points);
    for (size_t i = 0; i < o->start_count; i++)
        if (g->of_start[i] == group)
            memcpy(seed + seeds++ * o->dim, o->start + i * o->dim, o->dim * sizeof *seed);
    kmeans_options fine = *o;
    fine.k = g->made[group];
    fine.seed = o->seed + group;
    fine.start = seeds > 0 ? seed : NULL;
    fine.start_count = seeds;
    return kmeans_train(&fine, points, count, g->out + g->first[group] * o->dim, g->cancel, err);
}

static void split_one(void *context, size_t group)
{
    groups *g = context;
    size_t dim = g->o->dim;
    sem_error error;
    if (g->made[group] == 0 || has_failed(g))
        return;
    float *points = checked_realloc(NULL, g->starts[group + 1] - g->starts[group], dim * sizeof *points);
    float *seed = checked_realloc(NULL, g->o->start_count + 1, dim * sizeof *seed);
    sem_status s = points == NULL || seed == NULL ? sem_fail_memory(&error, "k-means")
                                                  : split_group(g, group, points, seed, &error);
    if (s != SEM_OK)
        note_failure(g, s, &error);
    free(points);
    free(seed);
}

/* One thread a group: FAISS's own threads would wait for each other at every step of k-means,
 * busily, which costs most where others need the processors as well. */
static sem_status split_all(groups *g, unsigned threads, size_t *made, sem_error *err)
{
    parallel_run(threads, (g->n + CHUNK - 1) / CHUNK, sort_chunk, g);
    if (g->status == SEM_OK) {
        kmeans_sort(g->of_point, g->n, g->count, g->starts, g->members);
        share_out(g, made);
        parallel_run(threads, g->count, split_one, g);
    }
    if (g->status != SEM_OK)
        *err = g->error;
    return g->status;
}

sem_status kmeans_train_grouped(const kmeans_options *o, const float *sample, size_t n, float *centroids, size_t *made,
                                const atomic_bool *cancel, sem_error *err)
{
    kmeans_options alone = *o;
    alone.threads = 1;
    groups g = {
        .o = &alone, .count = (size_t)sqrt((double)o->k), .n = n, .sample = sample, .out = centroids, .cancel = cancel};
    *made = 0;
    if (o->k < KMEANS_GROUPED_FROM || n <= o->k) {
        *made = o->k;
        return kmeans_train(o, sample, n, centroids, cancel, err);
    }
    pthread_mutex_init(&g.lock, NULL);
    sem_status s = groups_alloc(&g, n, err);
    if (s == SEM_OK)
        s = find_groups(&g, sample, n, cancel, err);
    if (s == SEM_OK && o->start_count > 0)
        s = kmeans_nearest(g.centroids, g.count, o->dim, 1, o->start, o->start_count, g.of_start, err);
    if (s == SEM_OK)
        s = split_all(&g, o->threads, made, err);
    groups_free(&g);
    return s;
}
