#include "index/faiss_cells.h"

#include "base/checked.h"
#include "base/clock.h"
#include "index/faiss_call.h"
#include "index/faiss_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 1024,          /* rows handed to FAISS at a time */
    STRANGERS_SPARE = 4096 /* room beside a quarter of all rows */
};

/* Rows that came after a training and are farther from their centroid than all but this
 * share of those that it saw are strangers. */
static const double STRANGE_SHARE = 0.01;
/* Rounding alone makes no stranger. */
static const float STRANGE_SLACK = 1e-3f;

void faiss_cells_free(faiss_cells *f)
{
    if (f == NULL)
        return;
    faiss_ivf_destroy(f->ivf);
    free(f->strangers);
    free(f);
}

const char *faiss_cells_codes(const faiss_cells *f)
{
    return faiss_ivf_type(f->ivf) == VECTOR_FAISS_FLAT ? "IVF,Flat" : "IVF,SQ8";
}

cells_state faiss_cells_state(const faiss_cells *f)
{
    return (cells_state){.trained_rows = f->trained_rows,
                         .measured_rows = f->measured_rows,
                         .came = atomic_load_explicit(&f->came, memory_order_relaxed),
                         .covered = faiss_cells_covered(f),
                         .entries = atomic_load_explicit(&f->entries, memory_order_relaxed),
                         .strangers = atomic_load_explicit(&f->strangers_count, memory_order_relaxed)};
}

/* --- strangers */

sem_status faiss_cells_reserve_strangers(faiss_cells *f, size_t count, sem_error *err)
{
    f->strangers_room = count + STRANGERS_SPARE;
    f->strangers = checked_realloc(NULL, f->strangers_room, sizeof *f->strangers);
    return f->strangers == NULL ? sem_fail_memory(err, "FAISS's cells") : SEM_OK;
}

static bool is_strange(const faiss_cells *f, const float *vector, float nearness)
{
    if (nearness < f->stranger_below)
        return true;
    if (f->longest <= 0)
        return false;
    double squares = 0, most = (double)f->longest * (double)f->longest;
    for (size_t i = 0; i < f->dim; i++)
        squares += (double)vector[i] * (double)vector[i];
    return squares > most * (1 + (double)STRANGE_SLACK);
}

static bool note_stranger(faiss_cells *f, uint32_t row)
{
    size_t count = atomic_load_explicit(&f->strangers_count, memory_order_relaxed);
    if (count == f->strangers_room)
        return false;
    f->strangers[count] = row;
    atomic_store_explicit(&f->strangers_count, count + 1, memory_order_release);
    return true;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* nearness is sorted. */
static void learn_strangers(faiss_cells *f, float *nearness, size_t count)
{
    if (count == 0)
        return;
    qsort(nearness, count, sizeof *nearness, by_size);
    f->stranger_below = nearness[(size_t)((double)(count - 1) * STRANGE_SHARE)] - STRANGE_SLACK;
}

/* --- adding */

bool faiss_cells_append(faiss_cells *f, uint32_t row, const float *vector)
{
    float nearness;
    if (faiss_cells_covered(f) != row)
        return false;
    faiss_use_threads(1);
    if (faiss_ivf_add(f->ivf, &row, vector, 1, &nearness, NULL) != SEM_OK)
        return false;
    atomic_fetch_add_explicit(&f->entries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&f->came, 1, memory_order_relaxed);
    /* The row is in a cell, but counts as covered only with the others that must be
     * compared: whoever finds it there meanwhile passes it over. */
    if (is_strange(f, vector, nearness) && !note_stranger(f, row))
        return false;
    atomic_store_explicit(&f->covered, row + 1, memory_order_release);
    return true;
}

/* A run of rows on their way into FAISS. */
typedef struct filling {
    faiss_cells *cells;
    const training *t;
    uint32_t seen;
    bool clustered;
    uint32_t *ids;    /* [CHUNK] */
    float *vectors;   /* [CHUNK, dim] */
    float *nearness;  /* [CHUNK] of the chunk */
    float *distances; /* [seen] of all rows so far, where strangers are to be learnt */
    size_t count;     /* of them */
} filling;

static sem_status fill_chunk(filling *f, uint32_t from, uint32_t to, sem_error *err)
{
    faiss_cells *cells = f->cells;
    sem_status s = rows_view_renew(f->t->view, err);
    if (s != SEM_OK)
        return s;
    size_t count = 0;
    for (uint32_t row = from; row < to; row++) {
        if (!rows_alive(f->t->rows, row, f->seen))
            continue;
        memcpy(f->vectors + count * cells->dim, rows_vector(f->t->view, row), cells->dim * sizeof *f->vectors);
        f->ids[count++] = row;
    }
    s = faiss_ivf_add(cells->ivf, f->ids, f->vectors, count, f->nearness, err);
    if (s != SEM_OK)
        return s;
    atomic_fetch_add_explicit(&cells->entries, count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        if (f->clustered)
            f->distances[f->count++] = f->nearness[i];
        else if (is_strange(cells, f->vectors + i * cells->dim, f->nearness[i]) && !note_stranger(cells, f->ids[i]))
            return sem_fail(err, SEM_INTERNAL, "no room for row %u among %zu strangers", f->ids[i],
                            cells->strangers_room);
    return SEM_OK;
}

static sem_status fill(filling *f, sem_error *err)
{
    const training *t = f->t;
    size_t dim = f->cells->dim;
    sem_status s = SEM_OK;
    f->ids = checked_realloc(NULL, CHUNK, sizeof *f->ids);
    f->vectors = checked_realloc(NULL, CHUNK, dim * sizeof *f->vectors);
    f->nearness = checked_realloc(NULL, CHUNK, sizeof *f->nearness);
    f->distances = checked_realloc(NULL, f->clustered ? (size_t)f->seen + 1 : 1, sizeof *f->distances);
    if (f->ids == NULL || f->vectors == NULL || f->nearness == NULL || f->distances == NULL)
        s = sem_fail_memory(err, "rows for FAISS");
    faiss_use_threads(t->options->threads);
    for (uint32_t from = 0; s == SEM_OK && from < f->seen; from += CHUNK) {
        if (t->how->cancel != NULL && atomic_load_explicit(t->how->cancel, memory_order_relaxed))
            s = sem_fail(err, SEM_CANCELLED, "filling FAISS's cells was cancelled");
        else
            s = fill_chunk(f, from, f->seen - from < CHUNK ? f->seen : from + CHUNK, err);
        if (f->seen - from < CHUNK)
            break;
    }
    rows_view_rest(t->view);
    if (s == SEM_OK && f->clustered)
        learn_strangers(f->cells, f->distances, f->count);
    atomic_store_explicit(&f->cells->covered, f->seen, memory_order_release);
    free(f->ids);
    free(f->vectors);
    free(f->nearness);
    free(f->distances);
    return s;
}

/* --- making */

/* The sample as rows are: k-means took it without their lengths, in place. */
static void as_rows(training_cells *c, size_t dim)
{
    for (size_t i = 0; i < c->sample_count; i++)
        for (size_t j = 0; j < dim; j++)
            c->sample[i * dim + j] = c->sample[i * c->wide + j] * c->longest;
}

static sem_status cluster(faiss_cells *f, const training *t, uint32_t seen, sem_error *err)
{
    training_cells c;
    sem_status s = training_cluster(t, seen, &c, err);
    if (s != SEM_OK)
        return s;
    as_rows(&c, f->dim);
    faiss_ivf_options options = {.dim = f->dim,
                                 .type = t->options->faiss_type,
                                 .centroids = c.centroids,
                                 .nlist = c.nlist,
                                 .longest = c.wide > f->dim ? c.longest : 0,
                                 .sample = c.sample,
                                 .sample_count = c.sample_count};
    faiss_use_threads(t->options->threads);
    s = faiss_ivf_create(&f->ivf, &options, err);
    f->longest = options.longest;
    f->stranger_below = -INFINITY;
    f->trained_rows = c.live;
    f->trained_at_ms = clock_wall_ms();
    training_cells_free(&c);
    return s;
}

static sem_status same_cells(faiss_cells *f, const faiss_cells *old, sem_error *err)
{
    f->longest = old->longest;
    f->stranger_below = old->stranger_below;
    f->trained_rows = old->trained_rows;
    f->trained_at_ms = old->trained_at_ms;
    f->measured_rows = old->measured_rows;
    atomic_init(&f->came, atomic_load_explicit(&old->came, memory_order_relaxed));
    f->curve = old->curve;
    return faiss_ivf_create_like(&f->ivf, old->ivf, err);
}

static sem_status begin(faiss_cells *f, const training *t, const faiss_cells *old, uint32_t seen, sem_error *err)
{
    f->dim = t->rows->dim;
    sem_status s = faiss_cells_reserve_strangers(f, old == NULL ? seen / 4 : seen, err);
    if (s == SEM_OK)
        s = old == NULL ? cluster(f, t, seen, err) : same_cells(f, old, err);
    if (s == SEM_OK)
        f->nlist = faiss_ivf_nlist(f->ivf);
    return s;
}

sem_status faiss_cells_make(const training *t, unsigned needs, const faiss_cells *old, faiss_cells **out,
                            sem_error *err)
{
    bool clustered = (needs & TRAINING_CLUSTER) != 0;
    uint32_t seen = rows_count(t->rows);
    uint64_t started = clock_monotonic_ms();
    faiss_cells *f = calloc(1, sizeof *f);
    if (f == NULL)
        return sem_fail_memory(err, "FAISS's cells");
    sem_status s = begin(f, t, clustered ? NULL : old, seen, err);
    uint64_t cells = clock_monotonic_ms();
    filling rest = {.cells = f, .t = t, .seen = seen, .clustered = clustered};
    if (s == SEM_OK)
        s = fill(&rest, err);
    uint64_t filled = clock_monotonic_ms();
    size_t entries = atomic_load_explicit(&f->entries, memory_order_relaxed);
    const size_t came = atomic_load_explicit(&f->came, memory_order_relaxed);
    if (s == SEM_OK && (clustered || t->measures || training_is_due(entries, f->measured_rows, came))) {
        f->measured_rows = entries;
        atomic_store_explicit(&f->came, 0, memory_order_relaxed);
        s = faiss_measure(f, t, seen, err);
    }
    if (s != SEM_OK) {
        faiss_cells_free(f);
        return s;
    }
    log_event(t->how->log, LOG_LEVEL_INFO, "lists",
              "engine=faiss codes=%s clustered=%s nlist=%zu rows=%zu cells_ms=%llu fill_ms=%llu measure_ms=%llu",
              faiss_cells_codes(f), clustered ? "true" : "false", f->nlist, entries,
              (unsigned long long)(cells - started), (unsigned long long)(filled - cells),
              (unsigned long long)(clock_monotonic_ms() - filled));
    *out = f;
    return SEM_OK;
}
