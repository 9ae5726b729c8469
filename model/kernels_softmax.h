/* The kernels of softmax and dropout. Included once by kernels_body.h; no include guard,
 * because there is no other use. */

/* --- dropout (Srivastava et al. 2014) */

INLINE uvec first_positions(void)
{
    uvec position;
    for (uint32_t l = 0; l < LANES; l++)
        position[l] = l;
    return position;
}

/* All bits of what is kept. A hash of position and key, mixed by multiplication and shifts;
 * rows have two key words, so that the positions of one never repeat those of another. */
INLINE uvec kept_positions(uvec position, const kernel_mask *mask)
{
    uvec h = (position + mask->key[0]) * UINT32_C(0x9E3779B1);
    h ^= h >> 15;
    h = (h ^ mask->key[1]) * UINT32_C(0x85EBCA77);
    h ^= h >> 13;
    h *= UINT32_C(0xC2B2AE3D);
    h = (h ^ h >> 16) >> 8;
    return (uvec)((ivec)h >= (ivec)(mask->threshold - (uvec){0}));
}

INLINE vec drop(vec x, uvec keep, const kernel_mask *mask)
{
    return (vec)((uvec)(x * vec_splat(mask->scale)) & keep);
}

KERNEL void dropout(float *x, size_t n, const kernel_mask *mask)
{
    uvec position = first_positions();
    size_t i = 0;
    for (; i + LANES <= n; i += LANES, position += LANES)
        vec_store(x + i, drop(vec_load(x + i), kept_positions(position, mask), mask));
    if (i < n)
        vec_store_part(x + i, drop(vec_load_part(x + i, n - i), kept_positions(position, mask), mask), n - i);
}

/* --- softmax */

/* All bits where a value is one of the first n. */
INLINE uvec before(uvec position, size_t n)
{
    return (uvec)((ivec)position < (ivec)((uint32_t)n - (uvec){0}));
}

/* Those of s[n], and what is small enough to count for nothing behind them. */
INLINE vec load_scores(const float *s, uvec inside)
{
    const uvec little = (uvec)vec_splat(-1e30f);
    return (vec)(((uvec)vec_load(s) & inside) | (little & ~inside));
}

INLINE float top_score(const float *s, size_t n, size_t padded)
{
    uvec position = first_positions();
    vec largest = load_scores(s, before(position, n));
    for (size_t i = LANES; i < padded; i += LANES) {
        position += LANES;
        largest = vec_max(largest, load_scores(s + i, before(position, n)));
    }
    return vec_largest(largest);
}

INLINE float exponents(float *s, size_t n, size_t padded, float scale, const bool drops, const kernel_mask *mask)
{
    const vec top = vec_splat(top_score(s, n, padded)), scales = vec_splat(scale);
    uvec position = first_positions();
    vec sums = {0};
    for (size_t i = 0; i < padded; i += LANES, position += LANES) {
        const uvec inside = before(position, n);
        const vec e = (vec)((uvec)vec_exp((load_scores(s + i, inside) - top) * scales) & inside);
        sums += e;
        vec_store(s + i, drops ? drop(e, kept_positions(position, mask), mask) : e);
    }
    return vec_sum(sums);
}

KERNEL float softmax(float *s, size_t n, size_t padded, float scale, const kernel_mask *mask)
{
    return mask != NULL ? exponents(s, n, padded, scale, true, mask) : exponents(s, n, padded, scale, false, NULL);
}

/* With p = softmax(scale s): ds = scale p (d - sum(p d)), d what dropout gives of the gradient
 * behind it. Exponents are positive: until p is known, a sign says what was dropped. */
INLINE void exponents_backward(float *s, float *d, size_t n, size_t padded, float scale, const bool drops,
                               const kernel_mask *mask)
{
    const vec top = vec_splat(top_score(s, n, padded)), scales = vec_splat(scale);
    const uvec sign = (uvec)vec_splat(-0.0f);
    uvec position = first_positions();
    vec sums = {0}, products = {0};
    for (size_t i = 0; i < padded; i += LANES, position += LANES) {
        const uvec inside = before(position, n);
        const vec e = (vec)((uvec)vec_exp((load_scores(s + i, inside) - top) * scales) & inside);
        vec g = (vec)((uvec)vec_load(d + i) & inside);
        uvec keep = {0};
        if (drops) {
            keep = kept_positions(position, mask);
            g = drop(g, keep, mask);
        }
        vec_store(d + i, g);
        sums += e;
        products = vec_fma(e, g, products);
        vec_store(s + i, drops ? (vec)((uvec)e | (sign & ~keep)) : e);
    }
    const float inverse = 1.0f / vec_sum(sums);
    const vec inverses = vec_splat(inverse), means = vec_splat(vec_sum(products) * inverse);
    for (size_t i = 0; i < padded; i += LANES) {
        const vec e = vec_load(s + i), p = (vec)((uvec)e & ~sign) * inverses;
        vec_store(d + i, p * (vec_load(d + i) - means) * scales);
        vec_store(s + i, drops ? drop(p, (uvec)((ivec)e >= 0), mask) : p);
    }
}

KERNEL void softmax_backward(float *s, float *d, size_t n, size_t padded, float scale, const kernel_mask *mask)
{
    if (mask != NULL)
        exponents_backward(s, d, n, padded, scale, true, mask);
    else
        exponents_backward(s, d, n, padded, scale, false, NULL);
}
