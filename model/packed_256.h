/* What the kernels of 256-bit vectors share: panels of two vectors of 8 columns, so that
 * 384 steps are half of a first-level cache. */
#ifndef SEM_MODEL_PACKED_256_H
#define SEM_MODEL_PACKED_256_H

#include "model/packed_levels.h"

#ifdef PACKED_X86

#include <immintrin.h>

#include <string.h>

#define TARGET __attribute__((target("avx2,fma")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { COLUMNS_256 = 16, STEP_256 = COLUMNS_256 * 4 /* bytes */ };

INLINE __m256i group(const char *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm256_set1_epi32(bits);
}

INLINE __m256i load(const char *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* Asks for weights that come later. */
INLINE void fetch_at(const char *p)
{
    _mm_prefetch(p, _MM_HINT_T1);
}

/* 8 columns of y from column on, of which only some may exist: those that do not are 0. */
INLINE __m256 load_part(const packed_tile_out *out, size_t r, size_t column)
{
    const float *y = out->y + r * out->stride + column;
    if (column + 8 <= out->columns)
        return _mm256_loadu_ps(y);
    float part[8] = {0};
    if (column < out->columns)
        memcpy(part, y, (out->columns - column) * sizeof *y);
    return _mm256_loadu_ps(part);
}

INLINE void store_part(const packed_tile_out *out, size_t r, size_t column, __m256 v)
{
    float *y = out->y + r * out->stride + column;
    if (!out->unfinished)
        v = _mm256_add_ps(v, _mm256_loadu_ps(out->bias + column));
    if (column + 8 <= out->columns) {
        _mm256_storeu_ps(y, v);
    } else if (column < out->columns) {
        float part[8];
        _mm256_storeu_ps(part, v);
        memcpy(y, part, (out->columns - column) * sizeof *y);
    }
}

/* row_scale * scale * (sum - zero * sums) of 8 columns: zero is the byte that the row's
 * zeros were in the sums. */
INLINE __m256 real(const packed_tile_out *out, size_t r, size_t column, __m256i sum, int32_t zero)
{
    __m256i moved = _mm256_mullo_epi32(_mm256_set1_epi32(zero), load((const char *)(out->sums + column)));
    __m256 scale = _mm256_mul_ps(_mm256_set1_ps(out->row_scale[r]), _mm256_loadu_ps(out->scale + column));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum, moved)), scale);
}

/* The sums have names, because an array of them would be kept in memory. rows is
 * a constant where this is expanded, and what is beyond it falls away. */
#define FOUR_ROWS(DO) DO(0) DO(1) DO(2) DO(3)
#define SIX_ROWS(DO)  FOUR_ROWS(DO) DO(4) DO(5)

#define INT_SUM(r) __m256i sum_a##r = _mm256_setzero_si256(), sum_b##r = sum_a##r;

/* A function of any number of rows from one of a constant number. */
#define TILE_FUNCTION(NAME, ROWS_FUNCTION)                                                                             \
    TARGET static void NAME(size_t rows, size_t steps, const char *a, size_t stride, const char *panel,                \
                            const packed_tile_out *out)                                                                \
    {                                                                                                                  \
        switch (rows) {                                                                                                \
        case 1: ROWS_FUNCTION(1, steps, a, stride, panel, out); break;                                                 \
        case 2: ROWS_FUNCTION(2, steps, a, stride, panel, out); break;                                                 \
        case 3: ROWS_FUNCTION(3, steps, a, stride, panel, out); break;                                                 \
        case 4: ROWS_FUNCTION(4, steps, a, stride, panel, out); break;                                                 \
        case 5: ROWS_FUNCTION(5, steps, a, stride, panel, out); break;                                                 \
        default: ROWS_FUNCTION(6, steps, a, stride, panel, out); break;                                                \
        }                                                                                                              \
    }

#endif

#endif
