#include "index/nearest.h"

static int32_t product(const uint8_t *panel, size_t lane, const int8_t *row, size_t width)
{
    int32_t sum = 0;
    for (size_t i = 0; i < width; i += PANEL_STEP) {
        const uint8_t *centroid = panel + (i / PANEL_STEP * PANEL_LANES + lane) * PANEL_STEP;
        for (size_t j = 0; j < PANEL_STEP; j++)
            sum += row[i + j] * (centroid[j] - 128);
    }
    return sum;
}

static void tile(const panels *p, size_t first_panel, const byte_rows *rows, const size_t at[ROWS_AT_ONCE],
                 size_t count, near_cells *near)
{
    size_t first = first_panel * PANEL_LANES;
    for (size_t i = 0; i < count; i++)
        for (size_t c = first; c < first + PANELS_AT_ONCE * PANEL_LANES && c < p->count; c++) {
            const uint8_t *panel = p->bytes + c / PANEL_LANES * PANEL_LANES * p->width;
            int32_t sum = product(panel, c % PANEL_LANES, rows->bytes + at[i] * p->width, p->width);
            float score = nearest_score(p, c, rows, at[i], sum);
            if (score >= near_cells_threshold(&near[i])) /* not a NaN */
                near_cells_note(&near[i], (uint32_t)c, score);
        }
}

static bool always(void)
{
    return true;
}

const nearest_kernel nearest_generic = {.name = "generic", .tile = tile, .available = always};
