#include "index/lists.h"

#include "base/checked.h"
#include "base/pages.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    SPARE_BLOCKS = 1024,    /* for rows to come, beside one more for each packed block */
    EXTENT_BLOCKS_MAX = 32, /* extents of a cell double up to it */
    BLOCKS_MAX = 1 << 27,   /* so that a place fits into 32 bits */
    SPARE_ROWS = 8192,      /* for nibbles of rows to come, beside one more for each */
    ASSIGN_WANTED = 64      /* nearest centroids that are looked for: a cell is for long */
};

/* What counts against a second cell whose row lies in the same direction from it as
 * from the first. At 1 to 3 the same recall took half of the rows that one cell takes. */
static const float SAME_DIRECTION = 1.5f;

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
    l->nibbles_width = codes_nibbles_width(dim);
    l->longest = l->typical = 1.0f;
    l->stranger_below = -INFINITY;
    l->centroids = checked_alloc_aligned(nlist, l->width);
    l->centroid_scales = calloc(nlist, sizeof *l->centroid_scales);
    l->centroid_squares = calloc(nlist, sizeof *l->centroid_squares);
    l->centroid_shares = calloc(nlist, sizeof *l->centroid_shares);
    l->spreads = calloc(nlist, sizeof *l->spreads);
    l->centroid_extras = dot ? calloc(nlist, sizeof *l->centroid_extras) : NULL;
    l->cells = calloc(nlist + 1, sizeof *l->cells);
    l->origin = calloc(dim, sizeof *l->origin);
    if (l->centroids == NULL || l->centroid_scales == NULL || l->centroid_squares == NULL ||
        l->centroid_shares == NULL || l->spreads == NULL || (dot && l->centroid_extras == NULL) || l->cells == NULL ||
        l->origin == NULL || !codes_query_reserve(&l->writing, dim) ||
        coarse_scores_reserve(&l->scores, nlist, NULL) != SEM_OK) {
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
    pages_free(l->nibbles, l->row_capacity * l->nibbles_width);
    free(l->centroids);
    free(l->centroid_scales);
    free(l->centroid_squares);
    free(l->centroid_shares);
    free((void *)l->spreads);
    free(l->centroid_extras);
    free(l->cells);
    coarse_scores_free(&l->scores);
    coarse_clear(&l->coarse);
    free(l->origin);
    codes_query_free(&l->writing);
    lists_saved_free(l->saved);
    free(l);
}

void lists_set_centroid(lists *l, size_t cell, const float *centroid)
{
    l->centroid_scales[cell] = codes_scale(codes_to_bytes(centroid, l->dim, l->centroids + cell * l->width));
    if (l->centroid_extras != NULL)
        l->centroid_extras[cell] = centroid[l->dim];
    l->centroid_shares[cell] = 1.0f;
}

void lists_take_centroid(lists *l, size_t cell, const lists *from, size_t from_cell)
{
    memcpy(l->centroids + cell * l->width, from->centroids + from_cell * l->width, l->width);
    l->centroid_scales[cell] = from->centroid_scales[from_cell];
    if (l->centroid_extras != NULL)
        l->centroid_extras[cell] = from->centroid_extras[from_cell];
    l->centroid_shares[cell] = from->centroid_shares[from_cell];
}

void lists_inherit(lists *l, const lists *from)
{
    l->longest = from->longest;
    l->typical = from->typical;
    l->stranger_below = from->stranger_below;
    l->trained_at_ms = from->trained_at_ms;
    l->trained_rows = from->trained_rows;
    l->measured_rows = from->measured_rows;
    l->moved = from->moved;
    atomic_init(&l->came, atomic_load_explicit(&from->came, memory_order_relaxed));
    l->curve = from->curve;
}

sem_status lists_finish_centroids(lists *l, sem_error *err)
{
    for (size_t c = 0; c < l->nlist; c++) {
        int64_t sum = 0;
        for (size_t i = 0; i < l->width; i++) {
            int byte = (int)l->centroids[c * l->width + i] - 128;
            sum += byte * byte;
        }
        double scale = (double)l->centroid_scales[c];
        double extra = l->centroid_extras == NULL ? 0.0 : (double)l->centroid_extras[c];
        l->centroid_squares[c] = (float)(scale * scale * (double)sum + extra * extra);
    }
    l->coarse = (coarse){.kernel = l->kernel,
                         .count = l->nlist,
                         .dim = l->dim,
                         .width = l->width,
                         .bytes = l->centroids,
                         .scales = l->centroid_scales};
    return l->centroid_extras == NULL ? coarse_prepare(&l->coarse, err) : SEM_OK;
}

void lists_get_centroid(const lists *l, size_t cell, float *centroid)
{
    if (cell < l->nlist)
        codes_from_bytes(l->centroids + cell * l->width, l->centroid_scales[cell], l->dim, centroid);
    else
        memset(centroid, 0, l->dim * sizeof *centroid);
}

float *lists_unit_centroids(const lists *l)
{
    size_t wide = l->dim + (l->centroid_extras != NULL);
    float *c = checked_realloc(NULL, l->nlist, wide * sizeof *c);
    for (size_t i = 0; c != NULL && i < l->nlist; i++) {
        lists_get_centroid(l, i, c + i * wide);
        for (size_t j = 0; j < l->dim; j++)
            c[i * wide + j] /= l->longest;
        if (wide > l->dim)
            c[i * wide + l->dim] = l->centroid_extras[i] / l->longest;
    }
    return c;
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

sem_status lists_reserve_rows(lists *l, size_t count, sem_error *err)
{
    /* What is not used takes address space, no memory. */
    l->row_capacity = 2 * count + SPARE_ROWS;
    if (l->row_capacity > LISTS_SECOND)
        l->row_capacity = LISTS_SECOND;
    if (count > l->row_capacity)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "lists hold at most %zu rows, not %zu", l->row_capacity, count);
    l->nibbles = pages_alloc_huge(l->row_capacity * l->nibbles_width);
    return l->nibbles != NULL ? SEM_OK : sem_fail_memory(err, "inverted lists");
}

void lists_meet_all(const lists *l)
{
    lists_meet_blocks(l, 0, l->saved == NULL ? 0 : l->saved->blocks);
    for (size_t row = 0; l->saved != NULL && row < l->saved->rows; row += SAVED_ROWS)
        (void)lists_nibbles(l, (uint32_t)row);
}

sem_status lists_lay_out(lists *l, const size_t *counts, size_t seconds, sem_error *err)
{
    size_t blocks = 0;
    for (size_t c = 0; c <= l->nlist; c++)
        blocks += (counts[c] + CODES_LANES - 1) / CODES_LANES;
    if (blocks > BLOCKS_MAX)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "lists hold at most %d blocks of rows, not %zu", BLOCKS_MAX,
                        blocks);
    l->capacity = 2 * blocks + l->nlist + SPARE_BLOCKS;
    if (l->capacity > BLOCKS_MAX)
        l->capacity = BLOCKS_MAX;
    l->blocks = pages_alloc_huge(l->capacity * codes_block_size(l->lines));
    if (l->blocks == NULL)
        return sem_fail_memory(err, "inverted lists");
    size_t entries = 0;
    for (size_t c = 0; c <= l->nlist; c++) {
        list_cell *cell = &l->cells[c];
        cell->head.first = (uint32_t)l->taken;
        cell->head.blocks = (uint32_t)((counts[c] + CODES_LANES - 1) / CODES_LANES);
        cell->lanes = (uint32_t)counts[c];
        atomic_init(&cell->head.used, cell->head.blocks);
        atomic_init(&cell->count, counts[c]);
        cell->made_with = (uint32_t)counts[c];
        l->taken += cell->head.blocks;
        entries += counts[c];
    }
    atomic_init(&l->entries, entries - seconds);
    atomic_init(&l->seconds, seconds);
    return SEM_OK;
}

sem_status lists_reserve(lists *l, const size_t *counts, size_t seconds, sem_error *err)
{
    sem_status s = lists_lay_out(l, counts, seconds, err);
    if (s == SEM_OK)
        clear_blocks(l, 0, l->taken);
    return s;
}

uint16_t lists_code_row(lists *l, uint32_t row, const float *vector)
{
    return codes_to_nibbles(l->kernel, vector, l->dim, l->nibbles + (size_t)row * l->nibbles_width);
}

static void write_at(lists *l, size_t place, uint32_t row, uint16_t scale, const float *vector, const float *origin)
{
    codes_write_lane(l->kernel, block_at(l, place / CODES_LANES), place % CODES_LANES, vector, origin, l->dim, row,
                     scale);
}

/* Takes the lane that comes after `before` others of its cell into the mean. */
static void note_spread(lists *l, size_t cell, size_t before, size_t place)
{
    if (cell == l->nlist)
        return;
    float factor = codes_scale(lists_tail(l, (uint32_t)place)->factor[place % CODES_LANES]);
    float mean = atomic_load_explicit(&l->spreads[cell], memory_order_relaxed);
    atomic_store_explicit(&l->spreads[cell], mean + (factor * factor - mean) / (float)(before + 1),
                          memory_order_relaxed);
}

void lists_place(lists *l, size_t cell, size_t n, uint32_t row, uint16_t scale, const float *vector,
                 const float *origin)
{
    size_t place = (size_t)l->cells[cell].head.first * CODES_LANES + n;
    write_at(l, place, row, scale, vector, origin);
    note_spread(l, cell, n, place);
}

void lists_copy(lists *l, size_t cell, size_t n, const lists *from, uint32_t place)
{
    size_t to = (size_t)l->cells[cell].head.first * CODES_LANES + n;
    codes_copy_lane(block_at(l, to / CODES_LANES), to % CODES_LANES, block_at(from, place / CODES_LANES),
                    place % CODES_LANES, l->lines);
    note_spread(l, cell, n, to);
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

/* What the vector is in the dimension that makes all equally long (Bachrach et al.
 * 2014, section 3): then the nearest by cosine has the largest product. */
float lists_added_dimension(const lists *l, const float *vector)
{
    if (l->centroid_extras == NULL)
        return 0.0f;
    double rest = (double)l->longest * l->longest - squares(vector, l->dim);
    return rest > 0 ? (float)sqrt(rest) : 0.0f;
}

/* ⟨a, b⟩ of two centroids. */
static float between(const lists *l, const int8_t *a, int32_t a_sum, size_t a_cell, size_t b_cell)
{
    const uint8_t *const row = l->centroids + b_cell * l->width;
    int32_t sum;
    l->kernel->bytes(a, &row, 1, l->width, &sum);
    float product = (float)(sum - 128 * a_sum) * (l->centroid_scales[a_cell] * l->centroid_scales[b_cell]);
    return l->centroid_extras == NULL ? product : product + l->centroid_extras[a_cell] * l->centroid_extras[b_cell];
}

/* Of the nearest but the first: with r and r' the vector seen from the first centroid and
 * from this one, least |r'|² + weight ⟨r, r'⟩² / |r|² (Sun et al. 2023, section 4). squares:
 * of the vector. bytes: scratch for the first centroid. */
static uint32_t second_of(const lists *l, const near_cells *near, float squares_of_vector, int8_t *bytes)
{
    size_t first = near->cells[0];
    int32_t sum = 0;
    for (size_t i = 0; i < l->width; i++) {
        bytes[i] = (int8_t)(l->centroids[first * l->width + i] - 128);
        sum += bytes[i];
    }
    float r = squares_of_vector - 2 * near->scores[0] + l->centroid_squares[first];
    float weight = r > 1e-6f * squares_of_vector ? SAME_DIRECTION / r : 0.0f, least = INFINITY;
    uint32_t best = LISTS_NONE;
    for (size_t i = 1; i < near->count; i++) {
        size_t cell = near->cells[i];
        float other = squares_of_vector - 2 * near->scores[i] + l->centroid_squares[cell];
        float along = squares_of_vector - near->scores[i] - near->scores[0] + between(l, bytes, sum, first, cell);
        float cost = other + weight * along * along;
        if (cost < least) {
            least = cost;
            best = near->cells[i];
        }
    }
    return best;
}

static near_cells find_near(const lists *l, const float *vector, code_query *q, coarse_scores *scores)
{
    codes_prepare(q, vector, l->dim);
    size_t listed = coarse_list(&l->coarse, q, ASSIGN_WANTED, scores);
    float extra = lists_added_dimension(l, vector);
    near_cells near = {.keep = LISTS_NEAR};
    for (size_t i = 0; i < listed; i++) {
        uint32_t c = scores->order[i];
        near_cells_note(&near, c, scores->of[c] + (l->centroid_extras == NULL ? 0.0f : extra * l->centroid_extras[c]));
    }
    return near;
}

size_t lists_near(const lists *l, const float *vector, code_query *q, coarse_scores *scores, uint32_t *cells)
{
    near_cells near = find_near(l, vector, q, scores);
    memcpy(cells, near.cells, near.count * sizeof *cells);
    return near.count;
}

list_choice lists_choose_of(const lists *l, const float *vector, const near_cells *near, code_query *q)
{
    double whole = (double)l->longest * l->longest;
    float squares_of_vector = l->centroid_extras == NULL ? (float)squares(vector, l->dim) : (float)whole;
    return (list_choice){.cell = near->cells[0],
                         .second = second_of(l, near, squares_of_vector, q->bytes),
                         .distance = 1.0 - (double)near->scores[0] / whole};
}

list_choice lists_choose(const lists *l, const float *vector, code_query *q, coarse_scores *scores)
{
    near_cells near = find_near(l, vector, q, scores);
    return lists_choose_of(l, vector, &near, q);
}

sem_status lists_panels(const lists *l, panels *out, sem_error *err)
{
    return panels_create(out, l->centroids, l->centroid_scales, l->centroid_extras, l->nlist, l->dim, err);
}

list_choice lists_or_stranger(const lists *l, const float *vector, list_choice chosen)
{
    bool strange = 1.0 - chosen.distance < (double)l->stranger_below;
    if (l->centroid_extras != NULL && squares(vector, l->dim) > (double)l->longest * l->longest)
        strange = true;
    if (strange) {
        chosen.cell = (uint32_t)l->nlist;
        chosen.second = LISTS_NONE;
    }
    return chosen;
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

/* One lane more in a cell; false when there is no room. */
static bool append_to(lists *l, uint32_t c, uint32_t row, uint16_t scale, const float *vector)
{
    list_cell *cell = &l->cells[c];
    if (cell->lanes == cell->last->blocks * CODES_LANES && !extend(l, cell))
        return false;
    lists_get_origin(l, c, l->origin);
    uint32_t place = cell->last->first * CODES_LANES + cell->lanes;
    lists_meet_blocks(l, place / CODES_LANES, 1);
    write_at(l, place, row, scale, vector, l->origin);
    note_spread(l, c, atomic_load_explicit(&cell->count, memory_order_relaxed), place);
    cell->lanes++;
    atomic_store_explicit(&cell->last->used, (cell->lanes + CODES_LANES - 1) / CODES_LANES, memory_order_release);
    atomic_fetch_add_explicit(&cell->count, 1, memory_order_relaxed);
    return true;
}

bool lists_append(lists *l, uint32_t row, const float *vector)
{
    if (row != atomic_load_explicit(&l->covered, memory_order_relaxed) || row >= l->row_capacity)
        return false;
    list_choice choice = lists_or_stranger(l, vector, lists_choose(l, vector, &l->writing, &l->scores));
    uint16_t scale = lists_code_row(l, row, vector);
    if (!append_to(l, choice.cell, row, scale, vector))
        return false;
    if (choice.second != LISTS_NONE && append_to(l, choice.second, row | LISTS_SECOND, scale, vector))
        atomic_fetch_add_explicit(&l->seconds, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->entries, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&l->came, 1, memory_order_relaxed);
    atomic_store_explicit(&l->covered, row + 1, memory_order_release);
    return true;
}

void lists_each_of(const lists *l, uint32_t cell, lists_each_fn *f, void *context)
{
    for (const list_extent *e = &l->cells[cell].head; e != NULL;
         e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        uint32_t used = atomic_load_explicit(&e->used, memory_order_acquire);
        for (uint32_t place = e->first * CODES_LANES; place < (e->first + used) * CODES_LANES; place++)
            if (lists_has_row(l, place))
                f(context, cell, place);
    }
}

void lists_each(const lists *l, lists_each_fn *f, void *context)
{
    for (size_t c = 0; c <= l->nlist; c++)
        lists_each_of(l, (uint32_t)c, f, context);
}
