#include "index/training.h"

#include "base/checked.h"
#include "base/clock.h"
#include "index/kmeans.h"
#include "index/list_builder.h"
#include "index/recall_measure.h"
#include "index/refine.h"
#include "index/training_sample.h"
#include "index/upkeep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    LISTS_MIN_ROWS = 256,      /* fewer are quicker to compare than to sort into cells */
    NLIST_MAX = 16384,         /* CURVE_POINTS_MAX powers of two */
    SAMPLE_PER_CENTROID = 40,  /* k-means gains little from more */
    GROUPED_PER_CENTROID = 12, /* k-means in two steps takes fewer rows: some rounds over all cells */
    REFINED_PER_CENTROID = 40, /* follow, with these */
    ROUNDS_COLD = 6,
    ROUNDS_WARM = 4, /* from the old centroids it settles sooner */
    ROUNDS_REFINING = 3,
    COMPACT_MIN_DEAD = 1024, /* rows: below it there is nothing to gain */
    TAIL_MIN = 1024,         /* rows behind the lists that no search feels */
    STRANGERS_MIN = 1024,    /* rows that every search compares without feeling it */
    SWEEP_MIN = 1024,        /* dead rows that no search feels */
    EMPTY_MIN = 8            /* cells */
};

/* Cells are of √n rows by √n, times this. With 200,000 sentence embeddings in two cells
 * each a recall of 0.95 takes 6,100 rows' bits at 4, 3,400 at 8 and 2,100 at 16, where
 * the centroids cost more than that saves. */
static const double NLIST_FACTOR = 8.0;
static const double DEAD_SHARE = 0.25;
/* Half of what compaction waits for: leaving lanes behind is a copy, and copying the rows is more. */
static const double SWEEP_SHARE = 0.125;
/* A cell that is nearly empty costs a search no more than its centroid. */
static const double EMPTY_SHARE = 1.0 / 16;
/* Lanes in other cells than when the curve was measured. Fewer cannot move the recall of all
 * queries by more than the promise leaves, even if it were lost for all of them; and a cell that
 * was split has as many rows as those that the curve was measured with. */
static const double MOVED_SHARE = 0.01;
/* More strangers than this share of all are a new topic. */
static const double STRANGERS_SHARE = 0.04;
/* Growth after which the recall curve may have moved, and lists are worth packing. */
static const double MEASURE_GROWTH = 1.25;
/* The share of rows that came since it was measured, in the places of others, after which it may have. */
static const double MEASURE_RENEWAL = 0.25;

static bool has_drifted(const cells_state *c)
{
    return c->strangers >= STRANGERS_MIN && (double)c->strangers > STRANGERS_SHARE * (double)c->entries;
}

cells_state training_state_of(const lists *l)
{
    upkeep_due due = upkeep_look(l);
    return (cells_state){.trained_rows = l->trained_rows,
                         .measured_rows = l->measured_rows,
                         .came = atomic_load_explicit(&l->came, memory_order_relaxed),
                         .covered = lists_covered(l),
                         .entries = atomic_load_explicit(&l->entries, memory_order_relaxed),
                         .strangers = lists_strangers(l),
                         .nlist = l->nlist,
                         .keeps_up = true,
                         .full = due.full,
                         .empty = due.empty};
}

static bool wants_upkeep(const cells_state *c, size_t live, size_t tail)
{
    size_t dead = c->entries + tail > live ? c->entries + tail - live : 0;
    if (!c->keeps_up)
        return false;
    return c->full > 0 || (dead >= SWEEP_MIN && (double)dead > SWEEP_SHARE * (double)c->entries) ||
           (c->empty >= EMPTY_MIN && (double)c->empty > EMPTY_SHARE * (double)c->nlist);
}

bool training_is_due(size_t live, size_t measured_rows, size_t came)
{
    return (double)live > MEASURE_GROWTH * (double)measured_rows || (double)came > MEASURE_RENEWAL * (double)live;
}

unsigned training_needs(const vector_index_options *options, const rows *r, const cells_state *c)
{
    size_t live = rows_live(r), total = rows_count(r);
    size_t dead = total > live ? total - live : 0;
    unsigned needs = TRAINING_NOTHING;
    if (dead >= COMPACT_MIN_DEAD && (double)dead > DEAD_SHARE * (double)total)
        needs |= TRAINING_COMPACT;
    if (options->dim > CODES_DIM_MAX || live < options->exact_below || live < LISTS_MIN_ROWS)
        return needs;
    if (c == NULL || live >= 2 * c->trained_rows || live < c->trained_rows / 4 || has_drifted(c))
        return needs | TRAINING_CLUSTER;
    size_t tail = total > c->covered ? total - c->covered : 0;
    if (tail >= TAIL_MIN)
        return needs | TRAINING_ASSIGN;
    if (training_is_due(live, c->measured_rows, c->came))
        return needs | TRAINING_ASSIGN;
    return needs == TRAINING_NOTHING && wants_upkeep(c, live, tail) ? TRAINING_UPKEEP : needs;
}

static size_t choose_nlist(size_t live)
{
    double nlist = NLIST_FACTOR * sqrt((double)live);
    return nlist > NLIST_MAX ? NLIST_MAX : nlist < 1 ? 1 : (size_t)nlist;
}

/* centroids: [*made, point_dim], malloc'd. */
static sem_status run_kmeans(const training *t, const float *sample, size_t n, size_t nlist, float **centroids,
                             size_t *made, sem_error *err)
{
    size_t wide = training_point_dim(t);
    float *start = t->old == NULL ? NULL : lists_unit_centroids(t->old);
    *centroids = checked_realloc(NULL, 2 * nlist + 1, wide * sizeof **centroids);
    if (*centroids == NULL || (t->old != NULL && start == NULL)) {
        free(start);
        return sem_fail_memory(err, "centroids");
    }
    kmeans_options options = {.dim = wide,
                              .k = nlist,
                              .rounds = start == NULL ? ROUNDS_COLD : ROUNDS_WARM,
                              .threads = t->options->threads,
                              .seed = n,
                              .start = start,
                              .start_count = start == NULL ? 0 : t->old->nlist};
    sem_status s = kmeans_train_grouped(&options, sample, n, *centroids, made, t->how->cancel, err);
    free(start);
    return s;
}

static sem_status lists_around(const training *t, const training_cells *c, lists **out, sem_error *err)
{
    float *scaled = checked_realloc(NULL, c->wide, sizeof *scaled);
    lists *l = NULL;
    sem_status s = scaled == NULL ? sem_fail_memory(err, "centroids")
                                  : lists_create(&l, c->nlist, t->rows->dim, t->options->metric == METRIC_DOT, err);
    for (size_t i = 0; s == SEM_OK && i < c->nlist; i++) {
        for (size_t j = 0; j < c->wide; j++)
            scaled[j] = c->centroids[i * c->wide + j] * c->longest;
        lists_set_centroid(l, i, scaled);
    }
    if (s == SEM_OK)
        s = lists_finish_centroids(l, err);
    free(scaled);
    if (s != SEM_OK) {
        lists_free(l);
        return s;
    }
    *out = l;
    return s;
}

/* The two steps of k-means leave points at the borders of groups far from their centroid;
 * some rounds over all cells repair that, with more rows than k-means itself needs. */
static sem_status refine(const training *t, uint32_t seen, training_cells *c, sem_error *err)
{
    uint32_t *drawn = NULL;
    byte_rows points = {0};
    size_t count = 0, live;
    sem_status s = training_draw(t, seen, c->nlist * REFINED_PER_CENTROID, ~(uint64_t)seen, &drawn, &count, &live, err);
    if (s == SEM_OK)
        s = training_byte_points(t, drawn, count, c->longest, &points, err);
    free(drawn);
    refine_input in = {.points = &points,
                       .count = count,
                       .nlist = c->nlist,
                       .wide = c->wide,
                       .rounds = ROUNDS_REFINING,
                       .threads = t->options->threads,
                       .cancel = t->how->cancel};
    if (s == SEM_OK)
        s = refine_cells(&in, c->centroids, err);
    byte_rows_free(&points);
    return s;
}

static sem_status draw_sample(const training *t, uint32_t seen, size_t want, training_cells *out, sem_error *err)
{
    uint32_t *drawn = NULL;
    training_lengths(t, seen, &out->longest, &out->typical);
    rows_view_rest(t->view); /* from here on each part has a view of its own, for as long as it takes */
    sem_status s = training_draw(t, seen, want, seen, &drawn, &out->sample_count, &out->live, err);
    if (s == SEM_OK)
        s = training_points(t, drawn, out->sample_count, out->longest, &out->sample, err);
    free(drawn);
    return s;
}

sem_status training_cluster(const training *t, uint32_t seen, training_cells *out, sem_error *err)
{
    size_t wanted = choose_nlist(rows_live(t->rows));
    bool grouped = wanted >= KMEANS_GROUPED_FROM;
    *out = (training_cells){.wide = training_point_dim(t)};
    sem_status s = draw_sample(t, seen, wanted * (grouped ? GROUPED_PER_CENTROID : SAMPLE_PER_CENTROID), out, err);
    size_t count = out->sample_count;
    if (s == SEM_OK && count < 2)
        s = sem_fail(err, SEM_FAILED_PRECONDITION, "%zu documents are too few for k-means", count);
    if (s == SEM_OK)
        s = run_kmeans(t, out->sample, count, wanted < count ? wanted : count - 1, &out->centroids, &out->nlist, err);
    if (t->options->engine != VECTOR_ENGINE_FAISS) { /* which has other uses for the sample */
        free(out->sample);
        out->sample = NULL;
        out->sample_count = 0;
    }
    if (s == SEM_OK && grouped)
        s = refine(t, seen, out, err);
    if (s != SEM_OK)
        training_cells_free(out);
    return s;
}

void training_cells_free(training_cells *c)
{
    free(c->centroids);
    free(c->sample);
    *c = (training_cells){0};
}

static sem_status new_cells(const training *t, uint32_t seen, lists **out, sem_error *err)
{
    training_cells c;
    sem_status s = training_cluster(t, seen, &c, err);
    if (s != SEM_OK)
        return s;
    s = lists_around(t, &c, out, err);
    if (s == SEM_OK) {
        (*out)->longest = c.longest;
        (*out)->typical = c.typical;
        (*out)->trained_rows = c.live;
        (*out)->trained_at_ms = clock_wall_ms();
    }
    training_cells_free(&c);
    return s;
}

static sem_status same_cells(const training *t, lists **out, sem_error *err)
{
    const lists *old = t->old;
    lists *l = NULL;
    sem_status s = lists_create(&l, old->nlist, old->dim, old->centroid_extras != NULL, err);
    if (s != SEM_OK)
        return s;
    for (size_t c = 0; c < l->nlist; c++)
        lists_take_centroid(l, c, old, c);
    lists_inherit(l, old);
    s = lists_finish_centroids(l, err);
    if (s == SEM_OK)
        *out = l;
    else
        lists_free(l);
    return s;
}

float *training_queries(const training *t, size_t *count)
{
    float *all = NULL;
    size_t dim = t->options->dim, given, kept = 0;
    *count = 0;
    if (t->how->queries == NULL)
        return NULL;
    rows_view_rest(t->view);
    given = t->how->queries(t->how->context, &all);
    for (size_t i = 0; i < given && i < VECTOR_QUERIES_MAX; i++) {
        bool finite = true;
        for (size_t j = 0; j < dim; j++)
            finite = finite && isfinite(all[i * dim + j]);
        if (finite)
            memmove(all + kept++ * dim, all + i * dim, dim * sizeof *all);
    }
    *count = kept;
    return all;
}

static sem_status measure(const training *t, lists *l, uint32_t seen, sem_error *err)
{
    size_t count;
    float *logged = training_queries(t, &count);
    measure_input in = {.view = t->view,
                        .seen = seen,
                        .kernel = t->kernel,
                        .lists = l,
                        .threads = t->options->threads,
                        .logged = logged,
                        .logged_count = count,
                        .cancel = t->how->cancel};
    l->measured_rows = atomic_load_explicit(&l->entries, memory_order_relaxed);
    l->moved = 0;
    atomic_store_explicit(&l->came, 0, memory_order_relaxed);
    sem_status s = recall_measure(&l->curve, &in, err);
    free(logged);
    return s;
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
    uint64_t cells = clock_monotonic_ms();
    builder_input in = {.view = t->view,
                        .seen = seen,
                        .old = clustered ? NULL : t->old,
                        .origin = t->origin,
                        .threads = t->options->threads,
                        .cancel = t->how->cancel};
    s = list_builder_fill(l, &in, err);
    for (size_t c = 0; !clustered && c < l->nlist; c++)
        l->cells[c].made_with = t->old->cells[c].made_with;
    uint64_t packed = clock_monotonic_ms();
    const size_t came = atomic_load_explicit(&l->came, memory_order_relaxed);
    size_t entries = atomic_load_explicit(&l->entries, memory_order_relaxed);
    if (s == SEM_OK && (clustered || t->measures || training_is_due(entries, l->measured_rows, came)))
        s = measure(t, l, seen, err);
    if (s != SEM_OK) {
        lists_free(l);
        return s;
    }
    uint64_t done = clock_monotonic_ms();
    log_event(t->how->log, LOG_LEVEL_INFO, "lists",
              "clustered=%s nlist=%zu rows=%zu cells_ms=%llu pack_ms=%llu measure_ms=%llu",
              clustered ? "true" : "false", l->nlist, entries, (unsigned long long)(cells - started),
              (unsigned long long)(packed - cells), (unsigned long long)(done - packed));
    *out = l;
    return SEM_OK;
}

sem_status training_keep_up(const training *t, lists **out, upkeep_done *done, sem_error *err)
{
    uint32_t covered = lists_covered(t->old), count = rows_count(t->rows);
    upkeep_input in = {.rows = t->rows,
                       .seen = covered < count ? covered : count,
                       .old = t->old,
                       .nlist_max = NLIST_MAX,
                       .threads = t->options->threads,
                       .cancel = t->how->cancel};
    lists *l = NULL;
    uint64_t started = clock_monotonic_ms();
    sem_status s = upkeep_make(&in, &l, done, err);
    if (s != SEM_OK)
        return s;
    uint64_t kept = clock_monotonic_ms();
    size_t entries = atomic_load_explicit(&l->entries, memory_order_relaxed);
    size_t lanes = entries + atomic_load_explicit(&l->seconds, memory_order_relaxed);
    bool measures = (double)l->moved > MOVED_SHARE * (double)lanes;
    if (measures)
        s = measure(t, l, in.seen, err);
    if (s != SEM_OK) {
        lists_free(l);
        return s;
    }
    log_event(t->how->log, LOG_LEVEL_INFO, "lists_kept_up",
              "splits=%zu merges=%zu moved=%zu dead=%zu nlist=%zu rows=%zu keep_ms=%llu measure_ms=%llu", done->splits,
              done->merges, done->moved, done->left, l->nlist, entries, (unsigned long long)(kept - started),
              (unsigned long long)(clock_monotonic_ms() - kept));
    *out = l;
    return SEM_OK;
}
