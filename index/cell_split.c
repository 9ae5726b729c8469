#include "index/cell_split.h"

#include "base/checked.h"
#include "index/kmeans.h"

#include <stdlib.h>
#include <string.h>

enum {
    MEMBERS_EACH = 4, /* at least: fewer say little about where a centroid belongs */
    SAMPLE_EACH = 40, /* as a training has it: k-means gains little from more */
    ROUNDS = 8
};

/* Where one centroid would keep more than this share of the members, they are nearly all equal:
 * then nothing is gained. */
static const double ALONE_SHARE = 0.9;

typedef struct splitting {
    const cell_split *in;
    size_t wide, count; /* points */
    float *points;      /* [count, wide] */
    float *centroids;   /* [2 want + 1, wide] */
    uint32_t *nearest;  /* [count] */
    size_t *sizes;      /* [2 want + 1] points of each */
} splitting;

static void splitting_free(splitting *s)
{
    free(s->points);
    free(s->centroids);
    free(s->nearest);
    free(s->sizes);
}

static sem_status splitting_begin(splitting *s, size_t want, sem_error *err)
{
    const cell_split *in = s->in;
    size_t dim = in->view->rows->dim, most = want * SAMPLE_EACH, step = in->count / most + 1;
    s->wide = dim + (in->longest > 0);
    s->points = checked_realloc(NULL, in->count / step + 1, s->wide * sizeof *s->points);
    s->centroids = checked_realloc(NULL, 2 * want + 1, s->wide * sizeof *s->centroids);
    s->nearest = checked_realloc(NULL, in->count / step + 1, sizeof *s->nearest);
    s->sizes = calloc(2 * want + 1, sizeof *s->sizes);
    if (s->points == NULL || s->centroids == NULL || s->nearest == NULL || s->sizes == NULL)
        return sem_fail_memory(err, "the split of a cell");
    for (size_t i = 0; i < in->count; i += step)
        kmeans_point(rows_vector(in->view, in->members[i]), dim, in->longest, s->points + s->count++ * s->wide);
    return SEM_OK;
}

/* Leaves the centroids that some point is nearest to; how many, or 0 where one has nearly all. */
static size_t keep_used(splitting *s, size_t made)
{
    size_t kept = 0, most = 0;
    for (size_t i = 0; i < s->count; i++)
        s->sizes[s->nearest[i]]++;
    for (size_t i = 0; i < made; i++) {
        most = s->sizes[i] > most ? s->sizes[i] : most;
        if (s->sizes[i] > 0)
            memmove(s->centroids + kept++ * s->wide, s->centroids + i * s->wide, s->wide * sizeof *s->centroids);
    }
    return (double)most > ALONE_SHARE * (double)s->count ? 0 : kept;
}

sem_status cell_split_centroids(const cell_split *c, float **centroids, size_t *made, sem_error *err)
{
    size_t want = c->want < c->count / MEMBERS_EACH ? c->want : c->count / MEMBERS_EACH;
    splitting s = {.in = c};
    *centroids = NULL;
    *made = 0;
    if (want < 2)
        return SEM_OK;
    sem_status status = splitting_begin(&s, want, err);
    kmeans_options options = {.dim = s.wide, .k = want, .rounds = ROUNDS, .threads = c->threads, .seed = c->count};
    size_t count = 0;
    if (status == SEM_OK)
        status = kmeans_train_grouped(&options, s.points, s.count, s.centroids, &count, c->cancel, err);
    if (status == SEM_OK)
        status = kmeans_nearest(s.centroids, count, s.wide, c->threads, s.points, s.count, s.nearest, err);
    if (status == SEM_OK)
        *made = keep_used(&s, count);
    if (*made > 0) {
        *centroids = s.centroids;
        s.centroids = NULL;
    }
    splitting_free(&s);
    return status;
}
