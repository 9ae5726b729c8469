#include "model/kernels_levels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void kernels_available(const kernels *out[KERNELS_MAX + 1])
{
    size_t count = 0;
    out[count++] = &kernels_generic;
#ifdef KERNELS_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[count++] = &kernels_avx2;
    if (count == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq"))
        out[count++] = &kernels_avx512;
#endif
    out[count] = NULL;
}

sem_status kernels_choose(const kernels **out, sem_error *err)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    const char *wanted = getenv("SEMD_SIMD");
    size_t i = 0;
    if (wanted == NULL || wanted[0] == '\0') {
        while (levels[i + 1] != NULL)
            i++;
        *out = levels[i];
        return SEM_OK;
    }
    for (; levels[i] != NULL; i++) {
        if (strcmp(levels[i]->name, wanted) == 0) {
            *out = levels[i];
            return SEM_OK;
        }
    }
    return sem_fail(err, SEM_INVALID_ARGUMENT,
                    "SEMD_SIMD is \"%.40s\": this machine runs levels up to \"%s\"; use generic, avx2 or avx512 as far "
                    "as it goes, or unset it",
                    wanted, levels[i - 1]->name);
}

size_t kernels_spread_group(size_t n)
{
    size_t blocks = n / SPREAD_BLOCK, group = 1;
    while (group < 32 && blocks > 0 && blocks % (2 * group) == 0)
        group *= 2;
    return group;
}

float kernels_spread_gain(size_t n)
{
    return sqrtf((float)(kernels_spread_group(n) * (n <= SPREAD_LANES_MAX ? SPREAD_BLOCK : 1)));
}
