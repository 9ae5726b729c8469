#include "index/training_sample.h"

#include "base/checked.h"
#include "base/random.h"
#include "index/kmeans.h"
#include "index/parallel.h"

#include <math.h>
#include <stdlib.h>

enum { CHUNK = 1024 /* points that one thread takes at a time */ };

size_t training_point_dim(const training *t)
{
    return t->rows->dim + (t->options->metric == METRIC_DOT);
}

void training_lengths(const training *t, uint32_t seen, float *longest, float *typical)
{
    *longest = *typical = 1.0f;
    if (t->options->metric != METRIC_DOT)
        return;
    double most = 0, sum = 0;
    size_t count = 0;
    for (uint32_t row = 0; row < seen; row++) {
        if (!rows_alive(t->rows, row, seen))
            continue;
        const float *x = rows_vector(t->view, row);
        double squares = 0;
        for (size_t i = 0; i < t->rows->dim; i++)
            squares += (double)x[i] * x[i];
        most = fmax(most, squares);
        sum += sqrt(squares);
        count++;
    }
    if (most <= 0)
        return;
    *longest = (float)sqrt(most);
    *typical = (float)(sum / (double)count);
}

sem_status training_draw(const training *t, uint32_t seen, size_t want, uint64_t seed, uint32_t **drawn, size_t *count,
                         size_t *live, sem_error *err)
{
    *live = 0;
    for (uint32_t row = 0; row < seen; row++)
        *live += rows_alive(t->rows, row, seen);
    if (want > *live)
        want = *live;
    *drawn = checked_realloc(NULL, want + 1, sizeof **drawn);
    if (*drawn == NULL)
        return sem_fail_memory(err, "a sample for k-means");
    random_state random;
    random_seed(&random, seed);
    /* Selection sampling (Knuth 1997, 3.4.2 S); rows that die meanwhile only
     * make the sample smaller. */
    size_t left = *live;
    *count = 0;
    for (uint32_t row = 0; row < seen && left > 0 && *count < want; row++) {
        if (!rows_alive(t->rows, row, seen))
            continue;
        if (random_below(&random, left--) < want - *count)
            (*drawn)[(*count)++] = row;
    }
    return SEM_OK;
}

typedef struct drawing {
    const training *t;
    const uint32_t *drawn;
    size_t count;
    float longest;
    float *points;    /* [count, wide] or NULL */
    byte_rows *bytes; /* or NULL */
    atomic_bool failed;
} drawing;

static void draw_chunk(void *context, size_t chunk)
{
    drawing *d = context;
    size_t wide = training_point_dim(d->t), dim = d->t->rows->dim;
    size_t from = chunk * CHUNK, to = d->count - from < CHUNK ? d->count : from + CHUNK;
    rows_view view;
    float *own = checked_realloc(NULL, wide, sizeof *own);
    if (own == NULL || rows_view_open(&view, d->t->rows, NULL) != SEM_OK) {
        free(own);
        atomic_store(&d->failed, true);
        return;
    }
    for (size_t i = from; i < to; i++) {
        float *point = d->points != NULL ? d->points + i * wide : own;
        kmeans_point(rows_vector(&view, d->drawn[i]), dim, wide > dim ? d->longest : 0.0f, point);
        if (d->bytes != NULL)
            byte_rows_set(d->bytes, i, point, wide > dim ? point[dim] : 0.0f);
    }
    rows_view_end(&view);
    free(own);
}

static sem_status draw(drawing *d, sem_error *err)
{
    atomic_init(&d->failed, false);
    parallel_run(d->t->options->threads, (d->count + CHUNK - 1) / CHUNK, draw_chunk, d);
    return atomic_load(&d->failed) ? sem_fail_memory(err, "a sample for k-means") : SEM_OK;
}

sem_status training_points(const training *t, const uint32_t *drawn, size_t count, float longest, float **out,
                           sem_error *err)
{
    drawing d = {.t = t, .drawn = drawn, .count = count, .longest = longest};
    d.points = *out = checked_realloc(NULL, count + 1, training_point_dim(t) * sizeof **out);
    return *out == NULL ? sem_fail_memory(err, "a sample for k-means") : draw(&d, err);
}

sem_status training_byte_points(const training *t, const uint32_t *drawn, size_t count, float longest, byte_rows *out,
                                sem_error *err)
{
    drawing d = {.t = t, .drawn = drawn, .count = count, .longest = longest, .bytes = out};
    if (!byte_rows_reserve(out, count + 1, t->rows->dim))
        return sem_fail_memory(err, "a sample for k-means");
    return draw(&d, err);
}
