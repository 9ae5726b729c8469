#include "index/dot.h"

#include "base/simd.h"

const dot_kernel *dot_choose(void)
{
    static const dot_kernel *const kernels[SIMD_WIDTHS] = {&dot_generic, &dot_avx2, &dot_avx512};
    simd_width width = simd_widest();
    while (width > SIMD_GENERIC && !kernels[width]->available())
        width--;
    return kernels[width];
}
