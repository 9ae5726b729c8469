#include "index/dot.h"

static bool always(void)
{
    return true;
}

static float one_row(const float *query, const float *row, size_t width)
{
    float lanes[DOT_LANES] = {0};
    for (size_t i = 0; i < width; i += DOT_LANES)
        for (size_t l = 0; l < DOT_LANES; l++)
            lanes[l] += query[i + l] * row[i + l];
    for (size_t half = DOT_LANES / 2; half > 0; half /= 2)
        for (size_t l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    return lanes[0];
}

static void dot_rows(const float *query, const float *const *rows, size_t count, size_t width, float *scores)
{
    for (size_t i = 0; i < count; i++)
        scores[i] = one_row(query, rows[i], width);
}

const dot_kernel dot_generic = {.name = "generic", .rows = dot_rows, .available = always};
