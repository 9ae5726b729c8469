#include "model/processor.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bits of cpuid's leaf 7 (Intel 64 and IA-32 Architectures Software Developer's
 * Manual, volume 2, CPUID). */
enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25, AMX_ALL = AMX_BF16 | AMX_TILE | AMX_INT8 };
enum { AVX_VNNI = 1 << 4 };

bool processor_has_avxvnni(void)
{
    unsigned a, b, c, d;
    return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & AVX_VNNI) != 0;
}

bool processor_has_short_vnni(void)
{
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl");
}

/* Twice as many products as float32 on Zen 4; half as many on Intel's, which have AMX
 * for it (89 of 177 GFLOP/s on family 6, model 207: bench/bench_peak.c). */
bool processor_has_quick_bf16(void)
{
    return __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_is("intel");
}

/* Linux gives the tile registers to a process that asks for them (kernel
 * documentation, x86/xstate). */
static bool ask_for_tiles(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

bool processor_has_amx(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d & AMX_ALL) == AMX_ALL && ask_for_tiles();
}

#else

bool processor_has_avxvnni(void)
{
    return false;
}

bool processor_has_short_vnni(void)
{
    return false;
}

bool processor_has_quick_bf16(void)
{
    return false;
}

bool processor_has_amx(void)
{
    return false;
}

#endif
