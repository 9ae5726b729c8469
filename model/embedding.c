#include "model/embedding.h"

#include <string.h>

/* The row of the position table for a token, *next being the one for the next
 * token that is no padding. */
static size_t place_of(const embedding_shape *shape, int32_t id, size_t *next)
{
    if (shape->position_start > 0 && (size_t)id == shape->position_start - 1)
        return shape->position_start - 1;
    return (*next)++;
}

void embedding_forward(const kernels *k, const embedding_shape *shape, const int32_t *ids, size_t n,
                       const float *params, float *y)
{
    const size_t H = shape->hidden;
    const float *words = shape->table != NULL ? shape->table : params + shape->words;
    size_t next = shape->position_start;
    for (size_t i = 0; i < n; i++, y += H) {
        memcpy(y, words + (size_t)ids[i] * H, H * sizeof *y);
        if (!shape->no_positions)
            k->axpy(1, params + shape->positions + place_of(shape, ids[i], &next) * H, y, H);
        if (shape->has_types)
            k->axpy(1, params + shape->types, y, H);
    }
}

void embedding_backward(const kernels *k, const embedding_shape *shape, const int32_t *ids, size_t n, const float *dy,
                        float *grads)
{
    const size_t H = shape->hidden;
    size_t next = shape->position_start;
    for (size_t i = 0; i < n; i++, dy += H) {
        k->axpy(1, dy, grads + shape->words + (size_t)ids[i] * H, H);
        if (!shape->no_positions)
            k->axpy(1, dy, grads + shape->positions + place_of(shape, ids[i], &next) * H, H);
        if (shape->has_types)
            k->axpy(1, dy, grads + shape->types, H);
    }
}
