#include "index/dot.h"

#include <string.h>

static bool always(void)
{
    return true;
}

/* A row that lies where a float may not is copied piece by piece, which compilers
 * make plain loads of. */
static float one_row(const float *query, const void *row, size_t width)
{
    float lanes[DOT_LANES] = {0}, piece[DOT_LANES];
    for (size_t i = 0; i < width; i += DOT_LANES) {
        memcpy(piece, (const char *)row + i * sizeof piece[0], sizeof piece);
        for (size_t l = 0; l < DOT_LANES; l++)
            lanes[l] += query[i + l] * piece[l];
    }
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
