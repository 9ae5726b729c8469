/* Plain C: the reference that the other levels are compared with. */
#include "model/packed_levels.h"

#include <math.h>
#include <string.h>

static float widen(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}

static void tile_float32(size_t rows, size_t steps, const char *a, size_t a_stride, const char *panel,
                         const packed_tile_out *out)
{
    for (size_t r = 0; r < rows; r++) {
        float sum[PACKED_COLUMNS] = {0};
        const float *x = (const float *)(const void *)(a + r * a_stride);
        const float *w = (const float *)(const void *)panel;
        for (size_t p = 0; p < steps; p++, w += PACKED_COLUMNS)
            for (size_t j = 0; j < PACKED_COLUMNS; j++)
                sum[j] += x[p] * w[j];
        for (size_t j = 0; j < out->columns; j++)
            out->y[r * out->stride + j] = packed_result(out, r, j, sum[j]);
    }
}

static void tile_bfloat16(size_t rows, size_t steps, const char *a, size_t a_stride, const char *panel,
                          const packed_tile_out *out)
{
    for (size_t r = 0; r < rows; r++) {
        float sum[PACKED_COLUMNS] = {0};
        const uint16_t *x = (const uint16_t *)(const void *)(a + r * a_stride);
        const uint16_t *w = (const uint16_t *)(const void *)panel;
        for (size_t p = 0; p < steps; p++, w += 2 * PACKED_COLUMNS) {
            float even = widen(x[2 * p]), odd = widen(x[2 * p + 1]);
            for (size_t j = 0; j < PACKED_COLUMNS; j++)
                sum[j] += even * widen(w[2 * j]) + odd * widen(w[2 * j + 1]);
        }
        for (size_t j = 0; j < out->columns; j++)
            out->y[r * out->stride + j] = packed_result(out, r, j, sum[j]);
    }
}

static void tile_int8(size_t rows, size_t steps, const char *a, size_t a_stride, const char *panel,
                      const packed_tile_out *out)
{
    for (size_t r = 0; r < rows; r++) {
        int32_t sum[PACKED_COLUMNS] = {0};
        const uint8_t *x = (const uint8_t *)a + r * a_stride;
        const int8_t *w = (const int8_t *)panel;
        for (size_t p = 0; p < steps; p++, w += PACKED_STEP)
            for (size_t j = 0; j < PACKED_COLUMNS; j++)
                for (size_t i = 0; i < 4; i++)
                    sum[j] += x[4 * p + i] * w[4 * j + i];
        for (size_t j = 0; j < out->columns; j++) {
            float exact = (float)(sum[j] - out->row_zero[r] * out->sums[j]);
            out->y[r * out->stride + j] = exact * (out->row_scale[r] * out->scale[j]) + out->bias[j];
        }
    }
}

static void to_bfloat16(const float *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        out[i] = (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
}

static void to_int8(const float *x, size_t n, int32_t most, uint8_t *out, float *scale, int32_t *zero)
{
    float low = 0, high = 0;
    for (size_t i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    float inverse = packed_range(low, high, most, scale, zero);
    for (size_t i = 0; i < n; i++) {
        long q = lrintf(x[i] * inverse) + *zero;
        out[i] = (uint8_t)(q < 0 ? 0 : q > most ? most : q);
    }
}

const packed_kernels packed_generic = {
    .vectors = &kernels_generic,
    .name = {"generic", "generic", "generic"},
    .tile = {tile_float32, tile_bfloat16, tile_int8},
    .tile_rows = {4, 4, 4},
    .columns = {PACKED_COLUMNS, PACKED_COLUMNS, PACKED_COLUMNS},
    .byte_most = UINT8_MAX,
    .fast = {true, false, false},
    .reads_floats = {true, false, false},
    .to_bfloat16 = to_bfloat16,
    .to_int8 = to_int8,
};
