/* The rotation of rows before they are rounded to int8: see kernels.h. Included by
 * kernels_body.h; no include guard, because there is no other use. */

/* Sum and difference in place of two. */
#define PAIR(a, b)                                                                                                     \
    do {                                                                                                               \
        const vec difference = (a) - (b);                                                                              \
        (a) += (b);                                                                                                    \
        (b) = difference;                                                                                              \
    } while (0)

INLINE void mix_two(float *x, size_t step)
{
    vec a = vec_load(x), b = vec_load(x + step);
    PAIR(a, b);
    vec_store(x, a);
    vec_store(x + step, b);
}

INLINE void mix_four(float *x, size_t step)
{
    vec a = vec_load(x), b = vec_load(x + step), c = vec_load(x + 2 * step), d = vec_load(x + 3 * step);
    PAIR(a, b);
    PAIR(c, d);
    PAIR(a, c);
    PAIR(b, d);
    vec_store(x, a);
    vec_store(x + step, b);
    vec_store(x + 2 * step, c);
    vec_store(x + 3 * step, d);
}

INLINE void mix_eight(float *x, size_t step)
{
    vec a = vec_load(x), b = vec_load(x + step), c = vec_load(x + 2 * step), d = vec_load(x + 3 * step);
    vec e = vec_load(x + 4 * step), f = vec_load(x + 5 * step), g = vec_load(x + 6 * step), h = vec_load(x + 7 * step);
    PAIR(a, b);
    PAIR(c, d);
    PAIR(e, f);
    PAIR(g, h);
    PAIR(a, c);
    PAIR(b, d);
    PAIR(e, g);
    PAIR(f, h);
    PAIR(a, e);
    PAIR(b, f);
    PAIR(c, g);
    PAIR(d, h);
    vec_store(x, a);
    vec_store(x + step, b);
    vec_store(x + 2 * step, c);
    vec_store(x + 3 * step, d);
    vec_store(x + 4 * step, e);
    vec_store(x + 5 * step, f);
    vec_store(x + 6 * step, g);
    vec_store(x + 7 * step, h);
}

/* Mixes what lies step apart, count at a time. */
INLINE void mix(size_t count, float *x, size_t n, size_t step)
{
    for (size_t base = 0; base < n; base += count * step) {
        for (size_t i = base; i < base + step; i += LANES) {
            if (count == 8)
                mix_eight(x + i, step);
            else if (count == 4)
                mix_four(x + i, step);
            else
                mix_two(x + i, step);
        }
    }
}

/* The reflection 1 - 2/3 of the three thirds of a row: it keeps lengths, and leaves
 * no value where it was. */
INLINE void mix_thirds(float *x, size_t n)
{
    const size_t third = n / 3;
    for (size_t i = 0; i < third; i += LANES) {
        vec a = vec_load(x + i), b = vec_load(x + third + i), c = vec_load(x + 2 * third + i);
        vec share = (a + b + c) * vec_splat(2.0f / 3);
        vec_store(x + i, a - share);
        vec_store(x + third + i, b - share);
        vec_store(x + 2 * third + i, c - share);
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

/* The SPREAD_BLOCK values of every block with each other, neighbours first whatever
 * the vectors' width: all levels add in the same order and round alike. */
INLINE void mix_blocks(float *x, size_t n)
{
    for (size_t i = 0; i < n; i += LANES)
        vec_store(x + i, mix_vector(vec_load(x + i)));
    if (LANES < SPREAD_BLOCK)
        mix(SPREAD_BLOCK / LANES, x, n, LANES);
}

KERNEL void spread(float *x, size_t n)
{
    const size_t blocks = n / SPREAD_BLOCK, whole = blocks * SPREAD_BLOCK;
    size_t step = SPREAD_BLOCK;
    for (size_t left = kernels_spread_group(n); left > 1;) {
        size_t count = left >= 8 ? 8 : left;
        if (count == 8)
            mix(8, x, whole, step);
        else if (count == 4)
            mix(4, x, whole, step);
        else
            mix(2, x, whole, step);
        step *= count;
        left /= count;
    }
    if (blocks % 3 == 0)
        mix_thirds(x, whole);
    if (n <= SPREAD_LANES_MAX)
        mix_blocks(x, whole);
    const float gain = kernels_spread_gain(n);
    for (size_t i = whole; i < n; i++)
        x[i] *= gain;
}
