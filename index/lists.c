#include "index/lists.h"

#include "base/checked.h"
#include "base/pages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPARE_BLOCKS = 1024,    /* for rows to come, beside one more for each packed block */
    EXTENT_BLOCKS_MAX = 64, /* extents of a cell double up to it */
    BLOCKS_MAX = 1 << 28    /* so that a place fits into 32 bits */
};

size_t lists_query_size(size_t dim)
{
    return codes_width(dim) + (codes_lines(dim) * CODES_PLANES * sizeof(uint64_t) + 63) / 64 * 64;
}

void lists_query_take(code_query *q, size_t dim, void *memory)
{
    q->bytes = memory;
    q->planes = (uint64_t *)(void *)((char *)memory + codes_width(dim));
}

sem_status lists_create(lists **out, size_t nlist, size_t dim, bool dot, sem_error *err)
{
    lists *l = calloc(1, sizeof *l);
    if (l == NULL)
        return sem_fail_memory(err, "inverted lists");
    l->kernel = codes_choose();
    l->nlist = nlist;
    l->dim = dim;
    l->lines = codes_lines(dim);
    l->width = codes_width(dim);
    l->longest = l->typical = 1.0f;
    l->stranger_below = -INFINITY;
    l->centroids = checked_alloc_aligned(nlist, l->width);
    l->centroid_scales = calloc(nlist, sizeof *l->centroid_scales);
    l->centroid_shares = calloc(nlist, sizeof *l->centroid_shares);
    l->centroid_extras = dot ? calloc(nlist, sizeof *l->centroid_extras) : NULL;
    l->cells = calloc(nlist + 1, sizeof *l->cells);
    l->origin = calloc(dim, sizeof *l->origin);
    void *writing = checked_alloc_aligned(1, lists_query_size(dim));
    lists_query_take(&l->writing, dim, writing);
    if (l->centroids == NULL || l->centroid_scales == NULL || l->centroid_shares == NULL ||
        (dot && l->centroid_extras == NULL) || l->cells == NULL || l->origin == NULL || writing == NULL) {
        l->writing.bytes = writing;
        lists_free(l);
        return sem_fail_memory(err, "inverted lists");
    }
    memset(l->centroids, 0, nlist * l->width);
    for (size_t c = 0; c <= nlist; c++)
        l->cells[c].last = &l->cells[c].head;
    *out = l;
    return SEM_OK;
}

static void free_chain(list_extent *e)
{
    while (e != NULL) {
        list_extent *next = atomic_load_explicit(&e->next, memory_order_relaxed);
        free(e);
        e = next;
    }
}

void lists_free(lists *l)
{
    if (l == NULL)
        return;
    for (size_t c = 0; l->cells != NULL && c <= l->nlist; c++)
        free_chain(atomic_load_explicit(&l->cells[c].head.next, memory_order_relaxed));
    pages_free(l->blocks, l->capacity * codes_block_size(l->lines));
    pages_free(l->bytes, l->capacity * CODES_LANES * l->width);
    free(l->centroids);
    free(l->centroid_scales);
    free(l->centroid_shares);
    free(l->centroid_extras);
    free(l->cells);
    free(l->origin);
    free(l->writing.bytes);
    free(l);
}

void lists_set_centroid(lists *l, size_t cell, const float *centroid)
{
    l->centroid_scales[cell] = codes_scale(codes_to_bytes(centroid, l->dim, l->centroids + cell * l->width));
    if (l->centroid_extras != NULL)
        l->centroid_extras[cell] = centroid[l->dim];
    l->centroid_shares[cell] = 1.0f;
}

void lists_get_centroid(const lists *l, size_t cell, float *centroid)
{
    if (cell < l->nlist)
        codes_from_bytes(l->centroids + cell * l->width, l->centroid_scales[cell], l->dim, centroid);
    else
        memset(centroid, 0, l->dim * sizeof *centroid);
}

void lists_get_origin(const lists *l, size_t cell, float *origin)
{
    lists_get_centroid(l, cell, origin);
    for (size_t i = 0; cell < l->nlist && i < l->dim; i++)
        origin[i] *= l->centroid_shares[cell];
}

static uint8_t *block_at(const lists *l, size_t block)
{
    return l->blocks + block * codes_block_size(l->lines);
}

static void clear_blocks(lists *l, size_t first, size_t count)
{
    for (size_t b = first; b < first + count; b++)
        codes_clear_block(block_at(l, b), l->lines);
}

sem_status lists_reserve(lists *l, const size_t *counts, sem_error *err)
{
    size_t blocks = 0;
    for (size_t c = 0; c <= l->nlist; c++)
        blocks += (counts[c] + CODES_LANES - 1) / CODES_LANES;
    if (blocks > BLOCKS_MAX)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "lists hold at most %d blocks of rows, not %zu", BLOCKS_MAX,
                        blocks);
    /* What is not used takes address space, no memory. */
    l->capacity = 2 * blocks + l->nlist + SPARE_BLOCKS;
    if (l->capacity > BLOCKS_MAX)
        l->capacity = BLOCKS_MAX;
    l->blocks = pages_alloc_huge(l->capacity * codes_block_size(l->lines));
    l->bytes = pages_alloc_huge(l->capacity * CODES_LANES * l->width);
    if (l->blocks == NULL || l->bytes == NULL)
        return sem_fail_memory(err, "inverted lists");
    size_t entries = 0;
    for (size_t c = 0; c <= l->nlist; c++) {
        list_cell *cell = &l->cells[c];
        cell->head.first = (uint32_t)l->taken;
        cell->head.blocks = (uint32_t)((counts[c] + CODES_LANES - 1) / CODES_LANES);
        cell->lanes = (uint32_t)counts[c];
        atomic_init(&cell->head.used, cell->head.blocks);
        atomic_init(&cell->count, counts[c]);
        l->taken += cell->head.blocks;
        entries += counts[c];
    }
    atomic_init(&l->entries, entries);
    clear_blocks(l, 0, l->taken);
    return SEM_OK;
}

static void write_at(lists *l, size_t place, uint32_t row, const float *vector, const float *origin)
{
    uint16_t scale = codes_to_bytes(vector, l->dim, l->bytes + place * l->width);
    codes_write_lane(block_at(l, place / CODES_LANES), place % CODES_LANES, vector, origin, l->dim, row, scale);
}

void lists_place(lists *l, size_t cell, size_t n, uint32_t row, const float *vector, const float *origin)
{
    write_at(l, (size_t)l->cells[cell].head.first * CODES_LANES + n, row, vector, origin);
}

static double squares(const float *vector, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)vector[i] * vector[i];
    return sum;
}

void lists_prepare(const lists *l, code_query *q, const float *vector)
{
    codes_prepare(q, vector, l->dim);
    double length = l->centroid_extras == NULL ? 0.0 : sqrt(squares(vector, l->dim));
    float stretch = length > 0 ? (float)((double)l->typical / length) : 1.0f;
    if (stretch > 0 && isfinite(stretch))
        codes_stretch(q, stretch);
}

void lists_score_cells(const lists *l, const code_query *q, float *scores)
{
    for (size_t c = 0; c < l->nlist; c += CODES_BYTES_BATCH) {
        const uint8_t *batch[CODES_BYTES_BATCH];
        int32_t sums[CODES_BYTES_BATCH];
        size_t n = l->nlist - c < CODES_BYTES_BATCH ? l->nlist - c : CODES_BYTES_BATCH;
        for (size_t i = 0; i < n; i++)
            batch[i] = l->centroids + (c + i) * l->width;
        l->kernel->bytes(q->bytes, batch, n, l->width, sums);
        for (size_t i = 0; i < n; i++) {
            float score = codes_byte_score(q, sums[i], l->centroid_scales[c + i]);
            scores[c + i] = isnan(score) ? -INFINITY : score;
        }
    }
}

/* What the vector is in the dimension that makes all equally long (Bachrach et al.
 * 2014, section 3): then the nearest by cosine has the largest product. */
static float added_dimension(const lists *l, const float *vector)
{
    if (l->centroid_extras == NULL)
        return 0.0f;
    double rest = (double)l->longest * l->longest - squares(vector, l->dim);
    return rest > 0 ? (float)sqrt(rest) : 0.0f;
}

uint32_t lists_nearest(const lists *l, const float *vector, code_query *q, double *distance)
{
    codes_prepare_bytes(q, vector, l->dim);
    float extra = added_dimension(l, vector), best_score = -INFINITY;
    uint32_t best = 0;
    for (size_t c = 0; c < l->nlist; c += CODES_BYTES_BATCH) {
        const uint8_t *batch[CODES_BYTES_BATCH];
        int32_t sums[CODES_BYTES_BATCH];
        size_t n = l->nlist - c < CODES_BYTES_BATCH ? l->nlist - c : CODES_BYTES_BATCH;
        for (size_t i = 0; i < n; i++)
            batch[i] = l->centroids + (c + i) * l->width;
        l->kernel->bytes(q->bytes, batch, n, l->width, sums);
        for (size_t i = 0; i < n; i++) {
            float score = codes_byte_score(q, sums[i], l->centroid_scales[c + i]);
            if (l->centroid_extras != NULL)
                score += extra * l->centroid_extras[c + i];
            if (score > best_score) {
                best_score = score;
                best = (uint32_t)(c + i);
            }
        }
    }
    *distance = 1.0 - (double)best_score / ((double)l->longest * l->longest);
    return best;
}

uint32_t lists_cell_of(const lists *l, const float *vector, code_query *q, double *distance)
{
    uint32_t cell = lists_nearest(l, vector, q, distance);
    if (1.0 - *distance < (double)l->stranger_below)
        return (uint32_t)l->nlist;
    if (l->centroid_extras != NULL && squares(vector, l->dim) > (double)l->longest * l->longest)
        return (uint32_t)l->nlist;
    return cell;
}

/* A new last extent, twice as large as the one before. */
static bool extend(lists *l, list_cell *cell)
{
    size_t blocks = cell->last == &cell->head ? 1 : 2 * (size_t)cell->last->blocks;
    if (blocks > EXTENT_BLOCKS_MAX)
        blocks = EXTENT_BLOCKS_MAX;
    if (l->taken + blocks > l->capacity)
        return false;
    list_extent *e = calloc(1, sizeof *e);
    if (e == NULL)
        return false;
    e->first = (uint32_t)l->taken;
    e->blocks = (uint32_t)blocks;
    atomic_init(&e->used, 0);
    clear_blocks(l, l->taken, blocks);
    l->taken += blocks;
    atomic_store_explicit(&cell->last->next, e, memory_order_release);
    cell->last = e;
    cell->lanes = 0;
    return true;
}

bool lists_append(lists *l, uint32_t row, const float *vector)
{
    if (row != atomic_load_explicit(&l->covered, memory_order_relaxed))
        return false;
    double distance;
    uint32_t c = lists_cell_of(l, vector, &l->writing, &distance);
    list_cell *cell = &l->cells[c];
    if (cell->lanes == cell->last->blocks * CODES_LANES && !extend(l, cell))
        return false;
    lists_get_origin(l, c, l->origin);
    l->newest = cell->last->first * CODES_LANES + cell->lanes;
    write_at(l, l->newest, row, vector, l->origin);
    cell->lanes++;
    atomic_store_explicit(&cell->last->used, (cell->lanes + CODES_LANES - 1) / CODES_LANES, memory_order_release);
    atomic_fetch_add_explicit(&cell->count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->entries, 1, memory_order_relaxed);
    l->added_rows++;
    l->added_distance += distance;
    atomic_store_explicit(&l->covered, row + 1, memory_order_release);
    return true;
}

/* The lane stays empty. */
void lists_take_back(lists *l)
{
    const float none = -INFINITY;
    code_tail *tail = codes_tail(block_at(l, l->newest / CODES_LANES), l->lines);
    __atomic_store(&tail->offset[l->newest % CODES_LANES], &none, __ATOMIC_RELEASE);
    atomic_fetch_sub_explicit(&l->covered, 1, memory_order_release);
}

void lists_each(const lists *l, void (*f)(void *context, uint32_t cell, uint32_t row), void *context)
{
    for (size_t c = 0; c <= l->nlist; c++)
        for (const list_extent *e = &l->cells[c].head; e != NULL;
             e = atomic_load_explicit(&e->next, memory_order_acquire)) {
            uint32_t used = atomic_load_explicit(&e->used, memory_order_acquire);
            for (uint32_t place = e->first * CODES_LANES; place < (e->first + used) * CODES_LANES; place++)
                if (lists_has_row(l, place))
                    f(context, (uint32_t)c, lists_row(l, place));
        }
}
