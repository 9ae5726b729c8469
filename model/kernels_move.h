/* The kernels that bring matrices into the order in which products read them. Included
 * once by kernels_body.h; no include guard, because there is no other use. */
#include "model/vectors_transpose.h"

KERNEL void transpose(const uint32_t *from, size_t stride, size_t rows, size_t columns, uint32_t *to, size_t to_stride)
{
    vec square[LANES];
    for (size_t j = 0; j < columns; j += LANES) {
        const size_t wide = columns - j < LANES ? columns - j : LANES;
        for (size_t i = 0; i < rows; i += LANES) {
            const size_t high = rows - i < LANES ? rows - i : LANES;
            const float *source = (const float *)(const void *)(from + i * stride + j);
            float *target = (float *)(void *)(to + j * to_stride + i);
            if (wide == LANES && high == LANES) {
                UNROLL for (size_t r = 0; r < LANES; r++) square[r] = vec_load(source + r * stride);
                transpose_square(square);
                UNROLL for (size_t r = 0; r < LANES; r++) vec_store(target + r * to_stride, square[r]);
                continue;
            }
            for (size_t r = 0; r < LANES; r++)
                square[r] = r < high ? vec_load_part(source + r * stride, wide) : (vec){0};
            transpose_square(square);
            for (size_t r = 0; r < wide; r++)
                vec_store_part(target + r * to_stride, square[r], high);
        }
    }
}

/* The bits of the nearest bfloat16 (ties to even) in the upper half, others in the lower. */
INLINE uvec vec_half(vec x)
{
    const uvec bits = (uvec)x;
    return bits + UINT32_C(0x7FFF) + (bits >> 16 & 1);
}

INLINE vec vec_pair(vec even, vec odd)
{
    return (vec)(vec_half(even) >> 16 | (vec_half(odd) & UINT32_C(0xFFFF0000)));
}

KERNEL void pair_rows(const float *even, const float *odd, size_t n, uint32_t *out)
{
    float *to = (float *)(void *)out;
    const vec zero = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        vec_store(to + i, vec_pair(vec_load(even + i), odd != NULL ? vec_load(odd + i) : zero));
    if (i < n)
        vec_store_part(to + i,
                       vec_pair(vec_load_part(even + i, n - i), odd != NULL ? vec_load_part(odd + i, n - i) : zero),
                       n - i);
}

KERNEL void part_rows(const uint32_t *pairs, size_t n, float *even, float *odd)
{
    const float *from = (const float *)(const void *)pairs;
    for (size_t i = 0; i < n; i += LANES) {
        const size_t some = n - i < LANES ? n - i : LANES;
        const uvec both = (uvec)(some == LANES ? vec_load(from + i) : vec_load_part(from + i, some));
        const vec low = (vec)(both << 16), high = (vec)(both & UINT32_C(0xFFFF0000));
        if (some == LANES)
            vec_store(even + i, low);
        else
            vec_store_part(even + i, low, some);
        if (odd != NULL && some == LANES)
            vec_store(odd + i, high);
        else if (odd != NULL)
            vec_store_part(odd + i, high, some);
    }
}
