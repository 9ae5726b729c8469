#include "base/simd.h"
#include "model/kernels_levels.h"
#include "model/processor.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

void kernels_available(const kernels *out[KERNELS_MAX + 1])
{
    size_t count = 0;
    out[count++] = &kernels_generic;
#ifdef KERNELS_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        out[count++] = &kernels_avx2;
    const bool narrow = count == 2;
    const bool wide = narrow && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq");
    if (narrow && (processor_has_avxvnni() || processor_has_short_vnni()))
        out[count++] = &kernels_avxvnni;
    if (wide)
        out[count++] = &kernels_avx512;
    if (wide && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bf16") && processor_has_amx())
        out[count++] = &kernels_amx;
#endif
    out[count] = NULL;
}

sem_status kernels_choose(const kernels **out, sem_error *err)
{
    const kernels *levels[KERNELS_MAX + 1];
    kernels_available(levels);
    const char *wanted = simd_wanted();
    size_t i = 0;
    for (; levels[i] != NULL; i++) {
        if (wanted == NULL ? levels[i + 1] == NULL : strcmp(levels[i]->name, wanted) == 0) {
            *out = levels[i];
            return SEM_OK;
        }
    }
    if (simd_is_level(wanted))
        return sem_fail(err, SEM_INVALID_ARGUMENT,
                        "SEMD_SIMD is \"%s\", whose instructions this machine lacks; its best level is \"%s\"", wanted,
                        levels[i - 1]->name);
    return sem_fail(
        err, SEM_INVALID_ARGUMENT,
        "SEMD_SIMD is \"%.40s\": use generic, avx2, avxvnni, avx512 or amx, or unset it; this machine's best "
        "level is \"%s\"",
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
