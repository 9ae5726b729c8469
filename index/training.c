#include "index/training.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/random.h"
#include "index/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LISTS_MIN_ROWS = 256,     /* fewer are quicker to compare than to sort into cells */
    NLIST_MAX = 16384,        /* CURVE_POINTS_MAX powers of two */
    SAMPLE_PER_CENTROID = 64, /* k-means gains little from more */
    ROUNDS_COLD = 10,
    ROUNDS_WARM = 5,         /* from the old centroids it settles sooner */
    COMPACT_MIN_DEAD = 1024, /* rows: below it there is nothing to gain */
    TAIL_MIN = 1024,         /* rows behind the lists that no search feels */
    DRIFT_MIN_ROWS = 1000,   /* for a mean distance to mean something */
    CANCEL_EVERY = 256,      /* rows assigned between looks at cancel */
    RENEW_EVERY = 1024       /* rows assigned under one view */
};

/* Cells are of √n rows by √n, times this: the centroids cost as much as the
 * rows that are probed at a recall of 0.95. */
static const double NLIST_FACTOR = 2.3;
static const double DEAD_SHARE = 0.3;
/* New rows this much farther from their centroid than those of the training
 * are a new topic. */
static const double DRIFT_FACTOR = 1.2;
/* Growth after which the recall curve may have moved. */
static const double MEASURE_GROWTH = 1.1;

static bool has_drifted(const lists *l)
{
    if (l->added_rows < DRIFT_MIN_ROWS || l->added_rows < l->trained_rows / 20)
        return false;
    double mean = l->added_distance / (double)l->added_rows;
    return mean > DRIFT_FACTOR * l->trained_distance + 1e-6;
}

unsigned training_needs(const vector_index_options *options, const rows *r, const lists *l)
{
    size_t live = rows_live(r), total = rows_count(r);
    size_t dead = total > live ? total - live : 0;
    unsigned needs = TRAINING_NOTHING;
    if (dead >= COMPACT_MIN_DEAD && (double)dead > DEAD_SHARE * (double)total)
        needs |= TRAINING_COMPACT;
    if (options->metric != METRIC_COSINE || live < options->exact_below || live < LISTS_MIN_ROWS)
        return needs;
    if (l == NULL || live >= 2 * l->trained_rows || live < l->trained_rows / 4 || has_drifted(l))
        return needs | TRAINING_CLUSTER;
    size_t tail = total - l->covered;
    if (tail >= TAIL_MIN && tail >= live / 64)
        needs |= TRAINING_ASSIGN;
    return needs;
}

static sem_status check_cancel(const training *t, const char *what, sem_error *err)
{
    if (t->cancel != NULL && atomic_load_explicit(t->cancel, memory_order_relaxed))
        return sem_fail(err, SEM_CANCELLED, "%s was cancelled", what);
    return SEM_OK;
}

static size_t choose_nlist(size_t live)
{
    double nlist = NLIST_FACTOR * sqrt((double)live);
    return nlist > NLIST_MAX ? NLIST_MAX : nlist < 1 ? 1 : (size_t)nlist;
}

/* Live rows below seen, unpadded, at most `want`: *count of them. */
static sem_status draw_sample(const training *t, uint32_t seen, size_t want, float **out, size_t *count, size_t *live,
                              sem_error *err)
{
    const rows *r = t->rows;
    *live = 0;
    for (uint32_t row = 0; row < seen; row++)
        *live += rows_alive(r, row, seen);
    if (want > *live)
        want = *live;
    float *sample = checked_realloc(NULL, want + 1, r->dim * sizeof *sample);
    if (sample == NULL)
        return sem_fail_memory(err, "a sample for k-means");
    random_state random;
    random_seed(&random, seen);
    /* Selection sampling (Knuth 1997, 3.4.2 S); rows that die meanwhile only
     * make the sample smaller. */
    size_t left = *live;
    *count = 0;
    for (uint32_t row = 0; row < seen && left > 0 && *count < want; row++) {
        if (!rows_alive(r, row, seen))
            continue;
        if (random_below(&random, left--) < want - *count)
            memcpy(sample + (*count)++ * r->dim, rows_vector(t->view, row), r->dim * sizeof *sample);
    }
    *out = sample;
    return SEM_OK;
}

/* [nlist, width] to [nlist, dim]. */
static float *unpadded_centroids(const lists *l, size_t dim)
{
    float *c = checked_realloc(NULL, l->nlist, dim * sizeof *c);
    for (size_t i = 0; c != NULL && i < l->nlist; i++)
        memcpy(c + i * dim, l->centroids + i * l->width, dim * sizeof *c);
    return c;
}

static sem_status run_kmeans(const training *t, const float *sample, size_t n, size_t nlist, lists *l, sem_error *err)
{
    size_t dim = t->rows->dim;
    float *start = t->old == NULL ? NULL : unpadded_centroids(t->old, dim);
    float *centroids = checked_realloc(NULL, nlist, dim * sizeof *centroids);
    sem_status s = SEM_RESOURCE_EXHAUSTED;
    if (centroids == NULL || (t->old != NULL && start == NULL)) {
        s = sem_fail_memory(err, "centroids");
        goto cleanup;
    }
    kmeans_options options = {.dim = dim,
                              .k = nlist,
                              .rounds = start == NULL ? ROUNDS_COLD : ROUNDS_WARM,
                              .threads = t->options->threads,
                              .seed = n,
                              .start = start,
                              .start_count = start == NULL ? 0 : t->old->nlist};
    s = kmeans_train(&options, sample, n, centroids, t->cancel, err);
    for (size_t i = 0; s == SEM_OK && i < nlist; i++)
        memcpy(l->centroids + i * l->width, centroids + i * dim, dim * sizeof *centroids);
cleanup:
    free(start);
    free(centroids);
    return s;
}

static sem_status new_cells(const training *t, uint32_t seen, lists **out, sem_error *err)
{
    size_t width = t->rows->width, count = 0, live = 0;
    size_t wanted = choose_nlist(rows_live(t->rows));
    float *sample = NULL;
    lists *l = NULL;
    sem_status s = draw_sample(t, seen, wanted * SAMPLE_PER_CENTROID, &sample, &count, &live, err);
    if (s != SEM_OK)
        return s;
    if (count < 2)
        s = sem_fail(err, SEM_FAILED_PRECONDITION, "%zu documents are too few for k-means", count);
    size_t nlist = wanted < count ? wanted : count - 1;
    if (s == SEM_OK)
        s = lists_create(&l, nlist, width, err);
    if (s == SEM_OK)
        s = run_kmeans(t, sample, count, nlist, l, err);
    free(sample);
    if (s != SEM_OK) {
        lists_free(l);
        return s;
    }
    l->trained_rows = live;
    l->trained_at_ms = clock_wall_ms();
    *out = l;
    return SEM_OK;
}

static sem_status same_cells(const training *t, lists **out, sem_error *err)
{
    lists *l = NULL;
    sem_status s = lists_create(&l, t->old->nlist, t->old->width, err);
    if (s != SEM_OK)
        return s;
    memcpy(l->centroids, t->old->centroids, l->nlist * l->width * sizeof *l->centroids);
    l->trained_at_ms = t->old->trained_at_ms;
    l->trained_rows = t->old->trained_rows;
    l->trained_distance = t->old->trained_distance;
    l->added_rows = t->old->added_rows;
    l->added_distance = t->old->added_distance;
    l->measured_rows = t->old->measured_rows;
    l->curve = t->old->curve;
    *out = l;
    return SEM_OK;
}

/* Cells of the rows that the old lists hold, by their number now. */
static sem_status carry_over(const training *t, uint32_t *cells, uint32_t seen, sem_error *err)
{
    const lists *old = t->old;
    uint32_t *before = checked_realloc(NULL, (size_t)old->covered + 1, sizeof *before);
    if (before == NULL)
        return sem_fail_memory(err, "cells");
    memset(before, 0xff, ((size_t)old->covered + 1) * sizeof *before); /* ROW_NONE */
    for (size_t c = 0; c < old->nlist; c++)
        for (size_t i = old->starts[c]; i < old->starts[c + 1]; i++)
            before[old->entries[i].row] = (uint32_t)c;
    for (uint32_t row = 0; row < seen; row++) {
        uint32_t was = t->origin == NULL ? row : t->origin[row];
        if (was < old->covered)
            cells[row] = before[was];
    }
    free(before);
    return SEM_OK;
}

/* Gives every live row without a cell the nearest, and takes cells from dead
 * ones. Our own kernels do it, not FAISS: equal vectors must meet in one cell,
 * also where two centroids are equally near. */
static sem_status assign(const training *t, const lists *l, uint32_t *cells, uint32_t seen, size_t *assigned,
                         double *distance, sem_error *err)
{
    *assigned = 0;
    *distance = 0;
    for (uint32_t row = 0; row < seen; row++) {
        if (row % CANCEL_EVERY == 0 && check_cancel(t, "assigning rows to cells", err) != SEM_OK)
            return SEM_CANCELLED;
        sem_status s = row % RENEW_EVERY == 0 ? rows_view_renew(t->view, err) : SEM_OK;
        if (s != SEM_OK)
            return s;
        if (!rows_alive(t->rows, row, seen)) {
            cells[row] = ROW_NONE;
            continue;
        }
        if (cells[row] != ROW_NONE)
            continue;
        float score;
        cells[row] = lists_nearest(l, t->kernel, rows_vector(t->view, row), &score);
        *distance += 1.0 - (double)score;
        (*assigned)++;
    }
    return SEM_OK;
}

static sem_status fill(const training *t, lists *l, bool clustered, uint32_t seen, uint32_t *cells, sem_error *err)
{
    size_t assigned;
    double distance;
    memset(cells, 0xff, (size_t)seen * sizeof *cells); /* ROW_NONE */
    sem_status s = clustered ? SEM_OK : carry_over(t, cells, seen, err);
    if (s == SEM_OK)
        s = assign(t, l, cells, seen, &assigned, &distance, err);
    if (s == SEM_OK)
        s = lists_fill(l, t->rows, cells, seen, err);
    if (s != SEM_OK)
        return s;
    if (clustered) {
        l->trained_distance = assigned == 0 ? 0.0 : distance / (double)assigned;
    } else {
        l->added_rows += assigned;
        l->added_distance += distance;
    }
    size_t now = l->starts[l->nlist];
    if (!clustered && (double)now < MEASURE_GROWTH * (double)l->measured_rows)
        return SEM_OK;
    curve_input in = {.rows = t->rows,
                      .view = t->view,
                      .seen = seen,
                      .kernel = t->kernel,
                      .centroids = l->centroids,
                      .nlist = l->nlist,
                      .cells = cells,
                      .cancel = t->cancel};
    l->measured_rows = now;
    return recall_curve_measure(&l->curve, &in, err);
}

sem_status training_make_lists(const training *t, unsigned needs, lists **out, sem_error *err)
{
    bool clustered = (needs & TRAINING_CLUSTER) != 0;
    uint32_t seen = rows_count(t->rows);
    lists *l = NULL;
    uint64_t started = clock_monotonic_ms();
    sem_status s = clustered ? new_cells(t, seen, &l, err) : same_cells(t, &l, err);
    if (s != SEM_OK)
        return s;
    uint32_t *cells = checked_realloc(NULL, (size_t)seen + 1, sizeof *cells);
    s = cells == NULL ? sem_fail_memory(err, "cells") : fill(t, l, clustered, seen, cells, err);
    free(cells);
    if (s != SEM_OK) {
        lists_free(l);
        return s;
    }
    log_event(t->log, LOG_LEVEL_INFO, "lists", "clustered=%s nlist=%zu rows=%zu ms=%llu", clustered ? "true" : "false",
              l->nlist, l->starts[l->nlist], (unsigned long long)(clock_monotonic_ms() - started));
    *out = l;
    return SEM_OK;
}
