/* The rotation of rows before they are rounded to int8: see kernels.h. Included by
 * kernels_body.h; no include guard, because there is no other use. */

/* Sum and difference in place of two. */
#define PAIR(a, b)                                                                                                     \
    do {                                                                                                               \
        const vec difference = (a) - (b);                                                                              \
        (a) += (b);                                                                                                    \
        (b) = difference;                                                                                              \
    } while (0)

/* Those of count vectors, a power of two up to 8, whose numbers differ in one bit. */
INLINE void mix_bit(vec *v, size_t count, size_t bit)
{
    UNROLL for (size_t i = 0; i < count; i++)
    {
        if ((i & bit) == 0)
            PAIR(v[i], v[i | bit]);
    }
}

INLINE void mix_held(vec *v, size_t count)
{
    if (count >= 2)
        mix_bit(v, count, 1);
    if (count >= 4)
        mix_bit(v, count, 2);
    if (count >= 8)
        mix_bit(v, count, 4);
}

/* Mixes what lies step apart, count at a time. */
INLINE void mix(size_t count, const float *x, float *y, size_t n, size_t step)
{
    for (size_t base = 0; base < n; base += count * step) {
        for (size_t i = base; i < base + step; i += LANES) {
            vec v[8];
            UNROLL for (size_t c = 0; c < count; c++) v[c] = vec_load(x + i + c * step);
            mix_held(v, count);
            UNROLL for (size_t c = 0; c < count; c++) vec_store(y + i + c * step, v[c]);
        }
    }
}

/* Each value with the one whose lane differs in one bit: their sum in the lower
 * lane, their difference in the upper. */
INLINE vec mix_lanes(vec v, vec other, uint32_t bit)
{
    vec signs;
    UNROLL for (uint32_t l = 0; l < LANES; l++) signs[l] = l & bit ? -1.0f : 1.0f;
    return vec_fma(v, signs, other);
}

INLINE vec mix_vector(vec v)
{
#if LANES == 4
    v = mix_lanes(v, __builtin_shufflevector(v, v, 1, 0, 3, 2), 1);
    v = mix_lanes(v, __builtin_shufflevector(v, v, 2, 3, 0, 1), 2);
#elif LANES == 8
    v = mix_lanes(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6), 1);
    v = mix_lanes(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5), 2);
    v = mix_lanes(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3), 4);
#else
    v = mix_lanes(v, __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14), 1);
    v = mix_lanes(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13), 2);
    v = mix_lanes(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11), 4);
    v = mix_lanes(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7), 8);
#endif
    return v;
}

/* The SPREAD_BLOCK values of every block with each other. */
INLINE void mix_blocks(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vec_store(x + i, mix_vector(vec_load(x + i)));
    if (LANES < SPREAD_BLOCK)
        mix(SPREAD_BLOCK / LANES, x, x, n, LANES);
}

/* The reflection 1 - 2/3 of the three thirds of a row: it keeps lengths, and leaves
 * no value where it was. */
INLINE void reflect(vec *a, vec *b, vec *c)
{
    const vec share = (*a + *b + *c) * vec_splat(2.0f / 3);
    *a -= share;
    *b -= share;
    *c -= share;
}

/* Three thirds of a row, each mixed as above, then reflected, then where a vector is
 * a block and `blocks` says so the values of each: all that while they are in registers. */
INLINE void mix_thirds(size_t count, const float *x, float *y, size_t n, size_t step, bool blocks)
{
    const size_t third = n / 3;
    for (size_t base = 0; base < third; base += count * step) {
        for (size_t i = base; i < base + step; i += LANES) {
            vec v[3][8];
            UNROLL for (size_t t = 0; t < 3; t++)
            {
                UNROLL for (size_t c = 0; c < count; c++) v[t][c] = vec_load(x + t * third + i + c * step);
                mix_held(v[t], count);
            }
            UNROLL for (size_t c = 0; c < count; c++)
            {
                reflect(&v[0][c], &v[1][c], &v[2][c]);
                UNROLL for (size_t t = 0; t < 3; t++)
                    vec_store(y + t * third + i + c * step, blocks ? mix_vector(v[t][c]) : v[t][c]);
            }
        }
    }
}

/* One of the two, in a loop of its own for each count. Eight are always the first that
 * are mixed: with their step a constant, so are the distances between loads. */
INLINE void pass(bool thirds, size_t count, const float *x, float *y, size_t n, size_t step, bool blocks)
{
    if (!thirds) {
        switch (count) {
        case 1: mix(1, x, y, n, step); break;
        case 2: mix(2, x, y, n, step); break;
        case 4: mix(4, x, y, n, step); break;
        default: mix(8, x, y, n, SPREAD_BLOCK); break;
        }
        return;
    }
    switch (count) {
    case 1: mix_thirds(1, x, y, n, step, blocks); break;
    case 2: mix_thirds(2, x, y, n, step, blocks); break;
    case 4: mix_thirds(4, x, y, n, step, blocks); break;
    default: mix_thirds(8, x, y, n, SPREAD_BLOCK, blocks); break;
    }
}

KERNEL void spread(const float *x, size_t n, float *y)
{
    const size_t whole = n / SPREAD_BLOCK * SPREAD_BLOCK;
    const bool thirds = n / SPREAD_BLOCK % 3 == 0, blocks = n <= SPREAD_LANES_MAX;
    const float *from = x;
    for (size_t left = kernels_spread_group(n), step = SPREAD_BLOCK; left > 0;) {
        const size_t count = left >= 8 ? 8 : left;
        const bool last = left == count;
        pass(thirds && last, count, from, y, whole, step, blocks && LANES == SPREAD_BLOCK);
        from = y;
        step *= count;
        left = last ? 0 : left / count;
    }
    if (blocks && !(thirds && LANES == SPREAD_BLOCK))
        mix_blocks(y, whole);
    const float gain = kernels_spread_gain(n);
    for (size_t i = whole; i < n; i++)
        y[i] = x[i] * gain;
}
