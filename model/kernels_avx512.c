#include "model/kernels_levels.h"

#ifdef KERNELS_X86

#include "model/vectors_avx512.h"

#define TILE_ROWS       8
#define TABLE           kernels_avx512
#define TABLE_NAME      "avx512"
#define UPPER_TABLE     kernels_amx
#define UPPER_NAME      "amx"
#define UPPER_PAIR_ROWS pair_rows_quick

#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")))

/* pair_rows by the instruction that rounds, which makes 0 of denormals. */
TARGET_BF16 static void pair_rows_quick(const float *even, const float *odd, size_t n, uint32_t *out)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    for (size_t i = 0; i < n; i += LANES) {
        const __mmask16 mask = n - i < LANES ? (__mmask16)((1U << (n - i)) - 1) : (__mmask16)0xFFFF;
        const __m512 low = _mm512_maskz_loadu_ps(mask, even + i);
        const __m512 high = odd != NULL ? _mm512_maskz_loadu_ps(mask, odd + i) : _mm512_setzero_ps();
        const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh(high, low);
        _mm512_mask_storeu_epi32(out + i, mask, _mm512_permutexvar_epi16(order, halves));
    }
}

#include "model/kernels_body.h"

#endif
