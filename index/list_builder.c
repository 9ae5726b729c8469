#include "index/list_builder.h"

#include "base/checked.h"
#include "index/dot.h"
#include "index/parallel.h"
#include "index/workbench.h"

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
    panels panels;      /* of the centroids */
    uint32_t *cells;    /* [seen] ROW_NONE: dead */
    uint32_t *seconds;  /* [seen] LISTS_NONE: no second cell */
    uint16_t *scales;   /* [seen] of the nibbles */
    float *distances;   /* [seen] of those that were assigned; else -1 */
    size_t *starts;     /* [nlist + 2] where a cell's rows begin in order */
    uint32_t *order;    /* rows by cell, with LISTS_SECOND where it is their second */
    atomic_bool failed; /* memory was out */
} builder;

static bool cancelled(const builder *b)
{
    return (b->in->cancel != NULL && atomic_load_explicit(b->in->cancel, memory_order_relaxed)) ||
           atomic_load_explicit(&b->failed, memory_order_relaxed);
}

/* Nibbles of a row; without a cell it waits for the others of its chunk. */
static void code_row(builder *b, workbench *w, uint32_t row)
{
    if (!rows_alive(b->in->view->rows, row, b->in->seen)) {
        b->cells[row] = ROW_NONE;
        return;
    }
    const float *vector = rows_vector(&w->view, row);
    b->scales[row] = lists_code_row(b->lists, row, vector);
    if (b->cells[row] != ROW_NONE)
        return;
    workbench_add(w, row, vector);
}

static void assign_row(builder *b, workbench *w, size_t i)
{
    uint32_t row = w->rows[i];
    const float *vector;
    list_choice c = workbench_choose(w, i, &vector);
    if (b->in->old != NULL)
        c = lists_or_stranger(b->lists, vector, c);
    b->cells[row] = c.cell;
    b->seconds[row] = c.second;
    b->distances[row] = (float)c.distance;
}

static void assign_chunk(void *context, size_t chunk)
{
    builder *b = context;
    if (cancelled(b))
        return;
    workbench *w = workbench_create(b->lists, b->in->view->rows, CHUNK);
    if (w == NULL) {
        atomic_store(&b->failed, true);
        return;
    }
    uint32_t from = (uint32_t)(chunk * CHUNK), to = b->in->seen - from < CHUNK ? b->in->seen : from + CHUNK;
    for (uint32_t row = from; row < to; row++)
        code_row(b, w, row);
    workbench_find(w, &b->panels);
    for (size_t i = 0; i < w->count; i++)
        assign_row(b, w, i);
    workbench_destroy(w);
}

typedef struct carrying {
    const lists *old;
    uint32_t *cells, *seconds; /* [covered] */
    uint32_t covered;
} carrying;

static void note_cell(void *context, uint32_t cell, uint32_t place)
{
    carrying *c = context;
    uint32_t row = lists_row(c->old, place);
    if (row < c->covered)
        (lists_is_second(c->old, place) ? c->seconds : c->cells)[row] = cell;
}

/* Cells of the rows that the old lists hold, by their number now. */
static sem_status carry_over(builder *b, sem_error *err)
{
    const builder_input *in = b->in;
    carrying c = {.old = in->old, .covered = lists_covered(in->old)};
    c.cells = checked_realloc(NULL, 2 * ((size_t)c.covered + 1), sizeof *c.cells);
    if (c.cells == NULL)
        return sem_fail_memory(err, "cells");
    memset(c.cells, 0xff, 2 * ((size_t)c.covered + 1) * sizeof *c.cells); /* ROW_NONE, LISTS_NONE */
    c.seconds = c.cells + c.covered + 1;
    lists_each(in->old, note_cell, &c);
    for (uint32_t row = 0; row < in->seen; row++) {
        uint32_t was = in->origin == NULL ? row : in->origin[row];
        if (was >= c.covered)
            continue;
        b->cells[row] = c.cells[was];
        b->seconds[row] = c.seconds[was];
    }
    free(c.cells);
    return SEM_OK;
}

/* Both lanes of a row. */
static void put_in_order(builder *b, size_t *next, uint32_t row)
{
    if (b->cells[row] == ROW_NONE)
        return;
    b->order[next[b->cells[row]]++] = row;
    if (b->seconds[row] != LISTS_NONE)
        b->order[next[b->seconds[row]]++] = row | LISTS_SECOND;
}

/* Counting sort: starts[c + 1] counts, then sums to where c ends. */
static sem_status sort_rows(builder *b, sem_error *err)
{
    lists *l = b->lists;
    size_t *counts = b->starts + 1, seconds = 0;
    for (uint32_t row = 0; row < b->in->seen; row++) {
        if (b->cells[row] == ROW_NONE)
            continue;
        counts[b->cells[row]]++;
        if (b->seconds[row] != LISTS_NONE) {
            counts[b->seconds[row]]++;
            seconds++;
        }
    }
    sem_status s = lists_reserve(l, counts, seconds, err);
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
        put_in_order(b, next, row);
    free(next);
    return SEM_OK;
}

/* How much of the centroid its rows have in common, on average. */
static float share_of(const builder *b, const rows_view *view, size_t cell, const float *centroid)
{
    const lists *l = b->lists;
    double along = 0, squares = dot_double(centroid, centroid, l->dim);
    for (size_t i = b->starts[cell]; i < b->starts[cell + 1]; i++)
        along += dot_double(rows_vector(view, b->order[i] & ~LISTS_SECOND), centroid, l->dim);
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
        for (size_t i = b->starts[c]; i < b->starts[c + 1]; i++) {
            uint32_t row = b->order[i] & ~LISTS_SECOND;
            lists_place(l, c, i - b->starts[c], b->order[i], b->scales[row], rows_vector(&view, row), origin);
        }
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
    for (uint32_t row = 0; row < b->in->seen; row++)
        if (b->distances[row] > -1.0f && b->cells[row] != ROW_NONE)
            b->distances[count++] = b->distances[row];
    if (count == 0)
        return;
    qsort(b->distances, count, sizeof *b->distances, by_size);
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

static sem_status builder_start(builder *b, sem_error *err)
{
    size_t seen = b->in->seen;
    atomic_init(&b->failed, false);
    b->cells = checked_realloc(NULL, seen + 1, sizeof *b->cells);
    b->seconds = checked_realloc(NULL, seen + 1, sizeof *b->seconds);
    b->scales = checked_realloc(NULL, seen + 1, sizeof *b->scales);
    b->distances = checked_realloc(NULL, seen + 1, sizeof *b->distances);
    b->starts = calloc(b->lists->nlist + 2, sizeof *b->starts);
    if (b->cells == NULL || b->seconds == NULL || b->scales == NULL || b->distances == NULL || b->starts == NULL)
        return sem_fail_memory(err, "inverted lists");
    memset(b->cells, 0xff, (seen + 1) * sizeof *b->cells);     /* ROW_NONE */
    memset(b->seconds, 0xff, (seen + 1) * sizeof *b->seconds); /* LISTS_NONE */
    for (size_t row = 0; row < seen; row++)
        b->distances[row] = -1.0f;
    return lists_reserve_rows(b->lists, seen, err);
}

static sem_status assign(builder *b, sem_error *err)
{
    sem_status s = lists_panels(b->lists, &b->panels, err);
    if (s != SEM_OK)
        return s;
    parallel_run(b->in->threads, ((size_t)b->in->seen + CHUNK - 1) / CHUNK, assign_chunk, b);
    panels_free(&b->panels);
    return check_work(b, err);
}

static void builder_end(builder *b)
{
    panels_free(&b->panels);
    free(b->cells);
    free(b->seconds);
    free(b->scales);
    free(b->distances);
    free(b->starts);
    free(b->order);
}

sem_status list_builder_fill(lists *l, const builder_input *in, sem_error *err)
{
    builder b = {.lists = l, .in = in};
    rows_view_rest(in->view); /* each part has a view of its own, for as long as it takes */
    sem_status s = builder_start(&b, err);
    if (s == SEM_OK && in->old != NULL)
        s = carry_over(&b, err);
    if (s == SEM_OK)
        s = assign(&b, err);
    if (s == SEM_OK)
        s = sort_rows(&b, err);
    if (s == SEM_OK) {
        parallel_run(in->threads, (l->nlist + CELLS) / CELLS, pack_cells, &b);
        s = check_work(&b, err);
    }
    if (s == SEM_OK && in->old == NULL)
        learn_strangers(&b);
    atomic_store_explicit(&l->covered, in->seen, memory_order_release);
    builder_end(&b);
    return s;
}
