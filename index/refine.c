#include "index/refine.h"

#include "base/checked.h"
#include "index/parallel.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024 /* points that one thread takes at a time */ };

typedef struct refining {
    const lists *lists;
    const float *sample;
    size_t n, wide;
    const atomic_bool *cancel;
    uint32_t *cells; /* [n] */
    atomic_bool failed;
} refining;

static bool stopped(const refining *r)
{
    return atomic_load_explicit(&r->failed, memory_order_relaxed) ||
           (r->cancel != NULL && atomic_load_explicit(r->cancel, memory_order_relaxed));
}

static void assign_chunk(void *context, size_t chunk)
{
    refining *r = context;
    coarse_scores scores = {0};
    code_query q = {0};
    if (!codes_query_reserve(&q, r->lists->dim) || coarse_scores_reserve(&scores, r->lists->nlist, NULL) != SEM_OK) {
        codes_query_free(&q);
        atomic_store(&r->failed, true);
        return;
    }
    size_t from = chunk * CHUNK, to = r->n - from < CHUNK ? r->n : from + CHUNK;
    for (size_t i = from; i < to && !stopped(r); i++)
        r->cells[i] = lists_choose(r->lists, r->sample + i * r->wide, &q, &scores).cell;
    coarse_scores_free(&scores);
    codes_query_free(&q);
}

static void set_means(const refining *r, double *sums, float *centroids)
{
    size_t wide = r->wide;
    for (size_t i = 0; i < r->n; i++)
        for (size_t j = 0; j < wide; j++)
            sums[r->cells[i] * wide + j] += (double)r->sample[i * wide + j];
    for (size_t c = 0; c < r->lists->nlist; c++) {
        double squares = 0;
        for (size_t j = 0; j < wide; j++)
            squares += sums[c * wide + j] * sums[c * wide + j];
        for (size_t j = 0; squares > 0 && j < wide; j++)
            centroids[c * wide + j] = (float)(sums[c * wide + j] / sqrt(squares));
    }
}

sem_status refine_cells(const lists *l, const float *sample, size_t n, size_t wide, unsigned threads, float *centroids,
                        const atomic_bool *cancel, sem_error *err)
{
    refining r = {.lists = l, .sample = sample, .n = n, .wide = wide, .cancel = cancel};
    atomic_init(&r.failed, false);
    r.cells = checked_realloc(NULL, n + 1, sizeof *r.cells);
    double *sums = calloc(l->nlist * wide, sizeof *sums);
    sem_status s = r.cells == NULL || sums == NULL ? sem_fail_memory(err, "k-means") : SEM_OK;
    if (s == SEM_OK) {
        parallel_run(threads, (n + CHUNK - 1) / CHUNK, assign_chunk, &r);
        if (atomic_load(&r.failed))
            s = sem_fail_memory(err, "k-means");
        else if (stopped(&r))
            s = sem_fail(err, SEM_CANCELLED, "k-means was cancelled");
    }
    if (s == SEM_OK)
        set_means(&r, sums, centroids);
    free(r.cells);
    free(sums);
    return s;
}
