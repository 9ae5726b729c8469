/* AVX-VNNI: int8 by vpdpbusd of 256 bits, 6 rows x 16 columns, the rest by AVX2.
 * Machines that have the instruction with AVX-512's encoding only use that, so that
 * this level can be compared with the others there. */
#include "model/packed_256.h"
#include "model/processor.h"

#ifdef PACKED_X86

enum { TILE_ROWS = 6 };

#define ADD_PRODUCT(ENCODING, sum, left, right)                                                                        \
    __asm__("%{" ENCODING "%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(left), "x"(right))

#define INT8_ROW(ENCODING, r, at)                                                                                      \
    if (rows > (r)) {                                                                                                  \
        const __m256i left = group(at);                                                                                \
        ADD_PRODUCT(ENCODING, sum_a##r, left, first);                                                                  \
        ADD_PRODUCT(ENCODING, sum_b##r, left, second);                                                                 \
    }
#define INT_STORE(r)                                                                                                   \
    if (rows > (r)) {                                                                                                  \
        store_part(out, r, 0, real(out, r, 0, sum_a##r, out->row_zero[r]));                                            \
        store_part(out, r, 8, real(out, r, 8, sum_b##r, out->row_zero[r]));                                            \
    }

#define ROWS_FUNCTION(NAME, ENCODING)                                                                                  \
    INLINE void NAME(const size_t rows, size_t steps, const char *a, size_t stride, const char *panel,                 \
                     const packed_tile_out *out)                                                                       \
    {                                                                                                                  \
        SIX_ROWS(INT_SUM)                                                                                              \
        const char *b = a + 3 * stride;                                                                                \
        for (size_t p = 0; p < steps; p++, panel += STEP_256, a += 4, b += 4) {                                        \
            const __m256i first = load(panel), second = load(panel + 32);                                              \
            INT8_ROW(ENCODING, 0, a)                                                                                   \
            INT8_ROW(ENCODING, 1, a + stride)                                                                          \
            INT8_ROW(ENCODING, 2, a + 2 * stride)                                                                      \
            INT8_ROW(ENCODING, 3, b)                                                                                   \
            INT8_ROW(ENCODING, 4, b + stride)                                                                          \
            INT8_ROW(ENCODING, 5, b + 2 * stride)                                                                      \
        }                                                                                                              \
        SIX_ROWS(INT_STORE)                                                                                            \
    }

ROWS_FUNCTION(rows_vex, "vex")
ROWS_FUNCTION(rows_evex, "evex")
TILE_FUNCTION(tile_vex, rows_vex)
TILE_FUNCTION(tile_evex, rows_evex)

void packed_add_avxvnni(packed_kernels *k)
{
    const bool vex = processor_has_avxvnni();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !(vex || processor_has_short_vnni()))
        return;
    k->name[PACKED_INT8] = "avxvnni";
    k->tile[PACKED_INT8] = vex ? tile_vex : tile_evex;
    k->tile_rows[PACKED_INT8] = TILE_ROWS;
    k->columns[PACKED_INT8] = COLUMNS_256;
    packed_widen(k);
    k->fast[PACKED_INT8] = true;
}

#endif
