#include "model/dropout.h"

#include "base/random.h"

dropout_site dropout_make_site(float probability, uint64_t seed, uint64_t number)
{
    return (dropout_site){
        .key = random_at(seed, number),
        .threshold = (uint32_t)(probability * (float)(1 << 24)),
        .scale = 1.0f / (1.0f - probability),
    };
}

const kernel_mask *dropout_mask(const dropout_site *site, uint64_t row, kernel_mask *room)
{
    if (site->threshold == 0)
        return NULL;
    const uint64_t key = random_at(site->key, row);
    *room = (kernel_mask){
        .key = {(uint32_t)key, (uint32_t)(key >> 32)}, .threshold = site->threshold, .scale = site->scale};
    return room;
}

void dropout_row(const kernels *k, const dropout_site *site, uint64_t row, float *x, size_t n)
{
    kernel_mask room;
    const kernel_mask *mask = dropout_mask(site, row, &room);
    if (mask != NULL)
        k->dropout(x, n, mask);
}

void dropout_rows(const kernels *k, const dropout_site *site, uint64_t first, float *x, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows && site->threshold > 0; r++)
        dropout_row(k, site, first + r, x + r * n, n);
}
