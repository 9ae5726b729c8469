#include "index/refine.h"

#include "base/checked.h"
#include "index/kmeans.h"
#include "index/parallel.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024 /* points that one thread takes at a time */, CELLS = 64 /* cells, likewise */ };

typedef struct refining {
    const refine_input *in;
    float *centroids;       /* [nlist, wide] */
    size_t width;           /* of bytes */
    uint8_t *bytes;         /* [nlist, width] the centroids */
    float *scales, *extras; /* [nlist] */
    panels panels;
    uint32_t *cells; /* [count] of the points */
    size_t *starts;  /* [nlist + 1] where a cell's points begin */
    uint32_t *order; /* [count] points by cell */
    atomic_bool failed;
} refining;

static bool stopped(const refining *r)
{
    return atomic_load_explicit(&r->failed, memory_order_relaxed) ||
           (r->in->cancel != NULL && atomic_load_explicit(r->in->cancel, memory_order_relaxed));
}

static sem_status refining_start(refining *r, sem_error *err)
{
    const refine_input *in = r->in;
    atomic_init(&r->failed, false);
    r->width = codes_width(in->points->dim);
    r->bytes = checked_alloc_aligned(in->nlist, r->width);
    r->scales = checked_realloc(NULL, in->nlist, sizeof *r->scales);
    r->extras = calloc(in->nlist, sizeof *r->extras);
    r->cells = checked_realloc(NULL, in->count + 1, sizeof *r->cells);
    r->starts = calloc(in->nlist + 1, sizeof *r->starts);
    r->order = checked_realloc(NULL, in->count + 1, sizeof *r->order);
    bool whole = r->bytes != NULL && r->scales != NULL && r->extras != NULL && r->cells != NULL && r->starts != NULL &&
                 r->order != NULL;
    return whole ? SEM_OK : sem_fail_memory(err, "k-means");
}

static void refining_end(refining *r)
{
    free(r->bytes);
    free(r->scales);
    free(r->extras);
    free(r->cells);
    free(r->starts);
    free(r->order);
    panels_free(&r->panels);
}

static sem_status lay_out(refining *r, sem_error *err)
{
    const refine_input *in = r->in;
    size_t dim = in->points->dim;
    for (size_t c = 0; c < in->nlist; c++) {
        const float *centroid = r->centroids + c * in->wide;
        r->scales[c] = codes_scale(codes_to_bytes(centroid, dim, r->bytes + c * r->width));
        if (in->wide > dim)
            r->extras[c] = centroid[dim];
    }
    panels_free(&r->panels);
    return panels_create(&r->panels, r->bytes, r->scales, r->extras, in->nlist, dim, err);
}

static void assign_chunk(void *context, size_t chunk)
{
    refining *r = context;
    size_t from = chunk * CHUNK, count = r->in->count - from < CHUNK ? r->in->count - from : CHUNK;
    near_cells *near = stopped(r) ? NULL : checked_realloc(NULL, count, sizeof *near);
    if (near == NULL) {
        atomic_store(&r->failed, true);
        return;
    }
    panels_nearest(&r->panels, r->in->points, from, count, 1, near);
    for (size_t i = 0; i < count; i++)
        r->cells[from + i] = near[i].cells[0];
    free(near);
}

/* Whole lines at a time: the compiler takes several dimensions at once. */
static void add_point(float *sum, const int8_t *bytes, float scale, size_t width)
{
    for (size_t line = 0; line < width; line += CODES_LINE)
        for (size_t i = 0; i < CODES_LINE; i++)
            sum[line + i] += scale * (float)bytes[line + i];
}

static void set_mean(const refining *r, size_t cell, float *sum)
{
    const byte_rows *points = r->in->points;
    double squares = 0, extra = 0;
    memset(sum, 0, r->width * sizeof *sum);
    for (size_t i = r->starts[cell]; i < r->starts[cell + 1]; i++) {
        uint32_t point = r->order[i];
        add_point(sum, points->bytes + point * r->width, points->scales[point], r->width);
        extra += (double)points->extras[point];
    }
    for (size_t j = 0; j < points->dim; j++)
        squares += (double)sum[j] * (double)sum[j];
    squares += extra * extra;
    float *centroid = r->centroids + cell * r->in->wide;
    for (size_t j = 0; squares > 0 && j < points->dim; j++)
        centroid[j] = (float)((double)sum[j] / sqrt(squares));
    if (squares > 0 && r->in->wide > points->dim)
        centroid[points->dim] = (float)(extra / sqrt(squares));
}

static void set_means(void *context, size_t chunk)
{
    refining *r = context;
    size_t from = chunk * CELLS, to = r->in->nlist - from < CELLS ? r->in->nlist : from + CELLS;
    float *sum = checked_realloc(NULL, r->width, sizeof *sum);
    if (sum == NULL)
        atomic_store(&r->failed, true);
    for (size_t c = from; sum != NULL && c < to; c++)
        set_mean(r, c, sum);
    free(sum);
}

static sem_status go_round(refining *r, sem_error *err)
{
    const refine_input *in = r->in;
    sem_status s = lay_out(r, err);
    if (s != SEM_OK)
        return s;
    parallel_run(in->threads, (in->count + CHUNK - 1) / CHUNK, assign_chunk, r);
    if (in->cancel != NULL && atomic_load(in->cancel))
        return sem_fail(err, SEM_CANCELLED, "k-means was cancelled");
    if (!atomic_load(&r->failed)) {
        kmeans_sort(r->cells, in->count, in->nlist, r->starts, r->order);
        parallel_run(in->threads, (in->nlist + CELLS - 1) / CELLS, set_means, r);
    }
    return atomic_load(&r->failed) ? sem_fail_memory(err, "k-means") : SEM_OK;
}

sem_status refine_cells(const refine_input *in, float *centroids, sem_error *err)
{
    refining r = {.in = in, .centroids = centroids};
    sem_status s = refining_start(&r, err);
    for (unsigned round = 0; s == SEM_OK && round < in->rounds; round++)
        s = go_round(&r, err);
    refining_end(&r);
    return s;
}
