/* Arithmetic on sizes that came from outside: every result says whether it fits. */
#ifndef SEM_BASE_CHECKED_H
#define SEM_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* *out = a * b; false (and *out untouched) when it does not fit in size_t. */
static inline bool checked_mul(size_t a, size_t b, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product))
        return false;
    *out = product;
    return true;
}

/* *out = a + b; false (and *out untouched) when it does not fit in size_t. */
static inline bool checked_add(size_t a, size_t b, size_t *out)
{
    size_t sum;
    if (__builtin_add_overflow(a, b, &sum))
        return false;
    *out = sum;
    return true;
}

/* realloc of count elements of size bytes; NULL on overflow or when memory is
 * out, and then `old` is still valid. count and size must not both be 0. */
static inline void *checked_realloc(void *old, size_t count, size_t size)
{
    size_t bytes;
    return checked_mul(count, size, &bytes) ? realloc(old, bytes) : NULL;
}

/* Memory for count elements aligned to a cache line (64 bytes), not cleared;
 * NULL on overflow or when memory is out. Freed with free(). */
static inline void *checked_alloc_aligned(size_t count, size_t size)
{
    size_t bytes;
    if (!checked_mul(count, size, &bytes) || !checked_add(bytes, 63, &bytes))
        return NULL;
    return aligned_alloc(64, bytes == 63 ? 64 : bytes & ~(size_t)63);
}

/* [row_count, width] floats, as checked_alloc_aligned takes them. */
static inline float *checked_alloc_floats(size_t row_count, size_t width)
{
    size_t count;
    return checked_mul(row_count, width, &count) ? checked_alloc_aligned(count, sizeof(float)) : NULL;
}

#endif
