#include "index/list_builder.h"

#include "base/checked.h"
#include "index/parallel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 1024 /* rows that one thread takes at a time */, CELLS = 16 /* cells, likewise */ };

/* Rows that came after a training and are farther from their centroid than all but
 * this share of those that it saw are strangers. */
static const double STRANGE_SHARE = 0.01;

typedef struct builder {
    lists *lists;
    const builder_input *in;
    uint32_t *cells;    /* [seen] ROW_NONE: dead */
    float *distances;   /* [seen] of those that were assigned; else -1 */
    size_t *starts;     /* [nlist + 2] where a cell's rows begin in order */
    uint32_t *order;    /* rows by cell */
    atomic_bool failed; /* memory was out */
} builder;

static bool cancelled(const builder *b)
{
    return (b->in->cancel != NULL && atomic_load_explicit(b->in->cancel, memory_order_relaxed)) ||
           atomic_load_explicit(&b->failed, memory_order_relaxed);
}

static void assign_chunk(void *context, size_t chunk)
{
    builder *b = context;
    const lists *l = b->lists;
    const builder_input *in = b->in;
    void *memory = checked_alloc_aligned(1, lists_query_size(l->dim));
    if (memory == NULL) {
        atomic_store(&b->failed, true);
        return;
    }
    code_query q;
    lists_query_take(&q, l->dim, memory);
    rows_view view;
    if (rows_view_open(&view, in->view->rows, NULL) != SEM_OK) {
        atomic_store(&b->failed, true);
        free(memory);
        return;
    }
    uint32_t from = (uint32_t)(chunk * CHUNK), to = in->seen - from < CHUNK ? in->seen : from + CHUNK;
    for (uint32_t row = from; row < to && !cancelled(b); row++) {
        if (!rows_alive(in->view->rows, row, in->seen)) {
            b->cells[row] = ROW_NONE;
            continue;
        }
        if (b->cells[row] != ROW_NONE)
            continue;
        double distance;
        const float *vector = rows_vector(&view, row);
        b->cells[row] = in->old == NULL ? lists_nearest(l, vector, &q, &distance)
                                        : lists_cell_of(l, vector, &q, &distance);
        b->distances[row] = (float)distance;
    }
    rows_view_end(&view);
    free(memory);
}

typedef struct carrying {
    uint32_t *before;
    uint32_t covered;
} carrying;

static void note_cell(void *context, uint32_t cell, uint32_t row)
{
    carrying *c = context;
    if (row < c->covered)
        c->before[row] = cell;
}

/* Cells of the rows that the old lists hold, by their number now. */
static sem_status carry_over(builder *b, sem_error *err)
{
    const builder_input *in = b->in;
    carrying c = {.covered = lists_covered(in->old)};
    c.before = checked_realloc(NULL, (size_t)c.covered + 1, sizeof *c.before);
    if (c.before == NULL)
        return sem_fail_memory(err, "cells");
    memset(c.before, 0xff, ((size_t)c.covered + 1) * sizeof *c.before); /* ROW_NONE */
    lists_each(in->old, note_cell, &c);
    for (uint32_t row = 0; row < in->seen; row++) {
        uint32_t was = in->origin == NULL ? row : in->origin[row];
        if (was < c.covered)
            b->cells[row] = c.before[was];
    }
    free(c.before);
    return SEM_OK;
}

/* Counting sort: starts[c + 1] counts, then sums to where c ends. */
static sem_status sort_rows(builder *b, sem_error *err)
{
    lists *l = b->lists;
    size_t *counts = b->starts + 1;
    for (uint32_t row = 0; row < b->in->seen; row++)
        if (b->cells[row] != ROW_NONE)
            counts[b->cells[row]]++;
    sem_status s = lists_reserve(l, counts, err);
    if (s != SEM_OK)
        return s;
    for (size_t c = 0; c <= l->nlist; c++)
        b->starts[c + 1] += b->starts[c];
    b->order = checked_realloc(NULL, b->starts[l->nlist + 1] + 1, sizeof *b->order);
    size_t *next = checked_realloc(NULL, l->nlist + 1, sizeof *next);
    if (b->order == NULL || next == NULL) {
        free(next);
        return sem_fail_memory(err, "inverted lists");
    }
    memcpy(next, b->starts, (l->nlist + 1) * sizeof *next);
    for (uint32_t row = 0; row < b->in->seen; row++)
        if (b->cells[row] != ROW_NONE)
            b->order[next[b->cells[row]]++] = row;
    free(next);
    return SEM_OK;
}

/* How much of the centroid its rows have in common, on average. */
static float share_of(const builder *b, const rows_view *view, size_t cell, const float *centroid)
{
    const lists *l = b->lists;
    double along = 0, squares = 0;
    for (size_t i = b->starts[cell]; i < b->starts[cell + 1]; i++) {
        const float *row = rows_vector(view, b->order[i]);
        double sums[4] = {0};
        size_t j = 0;
        for (; j + 4 <= l->dim; j += 4)
            for (size_t k = 0; k < 4; k++)
                sums[k] += (double)(row[j + k] * centroid[j + k]);
        for (; j < l->dim; j++)
            sums[0] += (double)(row[j] * centroid[j]);
        along += sums[0] + sums[1] + sums[2] + sums[3];
    }
    for (size_t j = 0; j < l->dim; j++)
        squares += (double)centroid[j] * centroid[j];
    size_t rows_here = b->starts[cell + 1] - b->starts[cell];
    return rows_here == 0 || squares <= 0 ? 1.0f : (float)(along / squares / (double)rows_here);
}

static void pack_cells(void *context, size_t chunk)
{
    builder *b = context;
    lists *l = b->lists;
    rows_view view;
    float *origin = calloc(l->dim, sizeof *origin);
    if (origin == NULL || rows_view_open(&view, b->in->view->rows, NULL) != SEM_OK) {
        free(origin);
        atomic_store(&b->failed, true);
        return;
    }
    size_t from = chunk * CELLS, to = l->nlist + 1 - from < CELLS ? l->nlist + 1 : from + CELLS;
    for (size_t c = from; c < to && !cancelled(b); c++) {
        lists_get_centroid(l, c, origin);
        if (b->in->old == NULL && c < l->nlist)
            l->centroid_shares[c] = share_of(b, &view, c, origin);
        lists_get_origin(l, c, origin);
        for (size_t i = b->starts[c]; i < b->starts[c + 1]; i++)
            lists_place(l, c, i - b->starts[c], b->order[i], rows_vector(&view, b->order[i]), origin);
    }
    rows_view_end(&view);
    free(origin);
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static void learn_strangers(const builder *b)
{
    lists *l = b->lists;
    size_t count = 0;
    double sum = 0;
    for (uint32_t row = 0; row < b->in->seen; row++)
        if (b->distances[row] > -1.0f && b->cells[row] != ROW_NONE) {
            sum += (double)b->distances[row];
            b->distances[count++] = b->distances[row];
        }
    if (count == 0)
        return;
    qsort(b->distances, count, sizeof *b->distances, by_size);
    l->trained_distance = sum / (double)count;
    float far = b->distances[(size_t)((double)(count - 1) * (1.0 - STRANGE_SHARE))];
    /* Rounding alone makes no stranger. */
    l->stranger_below = 1.0f - far - 1e-3f;
}

static sem_status check_work(const builder *b, sem_error *err)
{
    if (atomic_load(&b->failed))
        return sem_fail_memory(err, "inverted lists");
    return cancelled(b) ? sem_fail(err, SEM_CANCELLED, "sorting rows into cells was cancelled") : SEM_OK;
}

sem_status list_builder_fill(lists *l, const builder_input *in, sem_error *err)
{
    builder b = {.lists = l, .in = in};
    sem_status s = SEM_OK;
    rows_view_rest(in->view); /* each part has a view of its own, for as long as it takes */
    atomic_init(&b.failed, false);
    b.cells = checked_realloc(NULL, (size_t)in->seen + 1, sizeof *b.cells);
    b.distances = checked_realloc(NULL, (size_t)in->seen + 1, sizeof *b.distances);
    b.starts = calloc(l->nlist + 2, sizeof *b.starts);
    if (b.cells == NULL || b.distances == NULL || b.starts == NULL) {
        s = sem_fail_memory(err, "inverted lists");
        goto cleanup;
    }
    memset(b.cells, 0xff, ((size_t)in->seen + 1) * sizeof *b.cells); /* ROW_NONE */
    for (uint32_t row = 0; row < in->seen; row++)
        b.distances[row] = -1.0f;
    if (in->old != NULL)
        s = carry_over(&b, err);
    if (s == SEM_OK) {
        parallel_run(in->threads, ((size_t)in->seen + CHUNK - 1) / CHUNK, assign_chunk, &b);
        s = check_work(&b, err);
    }
    if (s == SEM_OK)
        s = sort_rows(&b, err);
    if (s == SEM_OK) {
        parallel_run(in->threads, (l->nlist + CELLS) / CELLS, pack_cells, &b);
        s = check_work(&b, err);
    }
    if (s == SEM_OK && in->old == NULL)
        learn_strangers(&b);
    atomic_store_explicit(&l->covered, in->seen, memory_order_release);
cleanup:
    free(b.cells);
    free(b.distances);
    free(b.starts);
    free(b.order);
    return s;
}
