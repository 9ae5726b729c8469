#include "index/nearest.h"

#include "base/checked.h"
#include "base/simd.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { BYTE_ZERO = 128 };

const nearest_kernel *nearest_choose(void)
{
    static const nearest_kernel *const kernels[SIMD_WIDTHS] = {&nearest_generic, &nearest_avx2, &nearest_avx512};
    simd_width width = simd_widest();
    while (width > SIMD_GENERIC && !kernels[width]->available())
        width--;
    return kernels[width];
}

void near_cells_note(near_cells *n, uint32_t cell, float score)
{
    if (n->count == n->keep && score <= n->scores[n->keep - 1])
        return;
    size_t at = n->count < n->keep ? n->count++ : n->keep - 1;
    for (; at > 0 && score > n->scores[at - 1]; at--) {
        n->scores[at] = n->scores[at - 1];
        n->cells[at] = n->cells[at - 1];
    }
    n->scores[at] = score;
    n->cells[at] = cell;
}

bool byte_rows_reserve(byte_rows *r, size_t room, size_t dim)
{
    *r = (byte_rows){.room = room, .dim = dim, .width = codes_width(dim)};
    r->bytes = checked_alloc_aligned(room, r->width);
    r->sums = checked_realloc(NULL, room, sizeof *r->sums);
    r->scales = checked_realloc(NULL, room, sizeof *r->scales);
    r->extras = checked_realloc(NULL, room, sizeof *r->extras);
    if (r->bytes != NULL && r->sums != NULL && r->scales != NULL && r->extras != NULL)
        return true;
    byte_rows_free(r);
    return false;
}

void byte_rows_free(byte_rows *r)
{
    free(r->bytes);
    free(r->sums);
    free(r->scales);
    free(r->extras);
    *r = (byte_rows){0};
}

void byte_rows_set(byte_rows *r, size_t at, const float *vector, float extra)
{
    int8_t *bytes = r->bytes + at * r->width;
    int32_t sum = 0;
    /* Bytes around 128, as centroids have them, less that. */
    r->scales[at] = codes_scale(codes_to_bytes(vector, r->dim, (uint8_t *)bytes));
    for (size_t i = 0; i < r->width; i++) {
        bytes[i] = (int8_t)((uint8_t)bytes[i] - BYTE_ZERO);
        sum += bytes[i];
    }
    r->sums[at] = sum;
    r->extras[at] = extra;
}

/* Where a dimension of a centroid lies. */
static size_t place_of(const panels *p, size_t cell, size_t dimension)
{
    size_t panel = cell / PANEL_LANES * PANEL_LANES * p->width;
    return panel + (dimension / PANEL_STEP * PANEL_LANES + cell % PANEL_LANES) * PANEL_STEP + dimension % PANEL_STEP;
}

sem_status panels_create(panels *p, const uint8_t *bytes, const float *scales, const float *extras, size_t count,
                         size_t dim, sem_error *err)
{
    enum { WHOLE = PANEL_LANES * PANELS_AT_ONCE };
    *p = (panels){.kernel = nearest_choose(), .count = count, .dim = dim, .width = codes_width(dim)};
    p->padded = (count + WHOLE - 1) / WHOLE * WHOLE;
    p->bytes = checked_alloc_aligned(p->padded, p->width);
    p->scales = checked_realloc(NULL, p->padded, sizeof *p->scales);
    p->extras = calloc(p->padded, sizeof *p->extras);
    if (p->bytes == NULL || p->scales == NULL || p->extras == NULL) {
        panels_free(p);
        return sem_fail_memory(err, "panels of centroids");
    }
    memset(p->bytes, BYTE_ZERO, p->padded * p->width);
    for (size_t c = 0; c < p->padded; c++) {
        p->scales[c] = c < count ? scales[c] : NAN;
        if (c < count && extras != NULL)
            p->extras[c] = extras[c];
        for (size_t i = 0; c < count && i < p->width; i += PANEL_STEP)
            memcpy(p->bytes + place_of(p, c, i), bytes + c * p->width + i, PANEL_STEP);
    }
    return SEM_OK;
}

void panels_free(panels *p)
{
    free(p->bytes);
    free(p->scales);
    free(p->extras);
    *p = (panels){0};
}

/* PANELS_AT_ONCE panels with rows [from, from + count). */
static void note_panels(const panels *p, size_t panel, const byte_rows *rows, size_t from, size_t count,
                        near_cells *near)
{
    for (size_t r = 0; r < count; r += ROWS_AT_ONCE) {
        size_t at[ROWS_AT_ONCE], here = count - r < ROWS_AT_ONCE ? count - r : ROWS_AT_ONCE;
        for (size_t i = 0; i < ROWS_AT_ONCE; i++)
            at[i] = from + r + (i < here ? i : here - 1);
        p->kernel->tile(p, panel, rows, at, here, near + r);
    }
}

void panels_nearest(const panels *p, const byte_rows *rows, size_t from, size_t count, size_t keep, near_cells *near)
{
    enum { ROWS = 256 /* that stay in the cache while all panels go by */ };
    for (size_t i = 0; i < count; i++)
        near[i] = (near_cells){.keep = (uint32_t)keep};
    for (size_t at = 0; at < count; at += ROWS) {
        size_t here = count - at < ROWS ? count - at : ROWS;
        for (size_t panel = 0; panel < p->padded / PANEL_LANES; panel += PANELS_AT_ONCE)
            note_panels(p, panel, rows, from + at, here, near + at);
    }
    for (size_t i = 0; i < count; i++)
        if (near[i].count == 0)
            near_cells_note(&near[i], 0, -FLT_MAX);
}
