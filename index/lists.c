#include "index/lists.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

sem_status lists_create(lists **out, size_t nlist, size_t width, sem_error *err)
{
    lists *l = calloc(1, sizeof *l);
    size_t floats;
    if (l == NULL || !checked_mul(nlist, width, &floats)) {
        free(l);
        return sem_fail_memory(err, "inverted lists");
    }
    l->nlist = nlist;
    l->width = width;
    l->centroids = checked_alloc_aligned(floats, sizeof *l->centroids);
    l->starts = calloc(nlist + 1, sizeof *l->starts);
    if (l->centroids == NULL || l->starts == NULL) {
        lists_free(l);
        return sem_fail_memory(err, "inverted lists");
    }
    memset(l->centroids, 0, floats * sizeof *l->centroids);
    *out = l;
    return SEM_OK;
}

void lists_free(lists *l)
{
    if (l == NULL)
        return;
    free(l->centroids);
    free(l->starts);
    free(l->entries);
    free(l);
}

/* Counting sort: starts[c + 1] counts, then sums to where c ends. */
sem_status lists_fill(lists *l, const rows *r, const uint32_t *cells, uint32_t covered, sem_error *err)
{
    for (uint32_t row = 0; row < covered; row++)
        if (cells[row] != ROW_NONE)
            l->starts[cells[row] + 1]++;
    for (size_t c = 0; c < l->nlist; c++)
        l->starts[c + 1] += l->starts[c];
    size_t total = l->starts[l->nlist];
    l->entries = checked_realloc(NULL, total + 1, sizeof *l->entries);
    size_t *next = checked_realloc(NULL, l->nlist, sizeof *next);
    if (l->entries == NULL || next == NULL) {
        free(next);
        return sem_fail_memory(err, "inverted lists");
    }
    memcpy(next, l->starts, l->nlist * sizeof *next);
    for (uint32_t row = 0; row < covered; row++)
        if (cells[row] != ROW_NONE)
            l->entries[next[cells[row]]++] = (list_entry){.row = row, .docno = rows_docno(r, row)};
    free(next);
    l->covered = covered;
    return SEM_OK;
}

/* scores[i] for centroids from first on; returns how many. */
static size_t score_centroids(const lists *l, const dot_kernel *kernel, const float *query, size_t first,
                              float scores[DOT_BATCH])
{
    const float *batch[DOT_BATCH];
    size_t n = l->nlist - first < DOT_BATCH ? l->nlist - first : DOT_BATCH;
    for (size_t i = 0; i < n; i++)
        batch[i] = l->centroids + (first + i) * l->width;
    kernel->rows(query, batch, n, l->width, scores);
    return n;
}

uint32_t lists_nearest(const lists *l, const dot_kernel *kernel, const float *vector, float *score)
{
    uint32_t best = 0;
    *score = -INFINITY;
    for (size_t first = 0; first < l->nlist;) {
        float scores[DOT_BATCH];
        size_t n = score_centroids(l, kernel, vector, first, scores);
        for (size_t i = 0; i < n; i++)
            if (scores[i] > *score) {
                *score = scores[i];
                best = (uint32_t)(first + i);
            }
        first += n;
    }
    return best;
}

static bool nearer(probe a, probe b)
{
    return a.score != b.score ? a.score > b.score : a.cell < b.cell;
}

static void sift(probe *heap, size_t count, size_t hole, probe moved)
{
    for (;;) {
        size_t child = 2 * hole + 1;
        if (child >= count)
            break;
        if (child + 1 < count && nearer(heap[child + 1], heap[child]))
            child++;
        if (!nearer(heap[child], moved))
            break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = moved;
}

probes probes_start(const lists *l, const dot_kernel *kernel, const float *query, probe *heap)
{
    for (size_t first = 0; first < l->nlist;) {
        float scores[DOT_BATCH];
        size_t n = score_centroids(l, kernel, query, first, scores);
        for (size_t i = 0; i < n; i++)
            heap[first + i] = (probe){.score = isnan(scores[i]) ? -INFINITY : scores[i], .cell = (uint32_t)(first + i)};
        first += n;
    }
    for (size_t i = l->nlist / 2; i-- > 0;)
        sift(heap, l->nlist, i, heap[i]);
    return (probes){.heap = heap, .count = l->nlist};
}

uint32_t probes_next(probes *p)
{
    probe next = p->heap[0];
    p->count--;
    if (p->count > 0)
        sift(p->heap, p->count, 0, p->heap[p->count]);
    p->heap[p->count] = next;
    return next.cell;
}

void lists_scan(const lists *l, uint32_t cell, scan *s)
{
    const list_entry *e = l->entries + l->starts[cell], *end = l->entries + l->starts[cell + 1];
    for (; e < end; e++) {
        /* Rows of a cell lie anywhere: the start of each is asked for one batch
         * ahead, the processor's own prefetching takes it from there. */
        if (e + DOT_BATCH < end && scan_allows(s, e[DOT_BATCH].docno)) {
            const float *ahead = rows_vector(s->view, e[DOT_BATCH].row);
            __builtin_prefetch(ahead);
            __builtin_prefetch(ahead + DOT_LANES);
        }
        if (scan_allows(s, e->docno))
            scan_offer(s, e->row, rows_vector(s->view, e->row));
    }
}
