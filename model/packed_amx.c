/* AMX: products of whole tiles of bytes or bfloat16 in one instruction (Intel
 * Architecture Instruction Set Extensions Programming Reference, chapter 3). */
#include "model/packed_levels.h"
#include "model/processor.h"

#ifdef PACKED_X86

#include "model/vectors_avx512.h"

#define AMX_TARGET __attribute__((target("amx-tile,amx-int8,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))

/* gcc's intrinsics do not say what memory they read (gcc 12, amxtileintrin.h): what was written
 * before could be left away. */
static inline void amx_reads_memory(void)
{
    __asm__ volatile("" ::: "memory");
}

#define AMX_CONFIGURE(config)                                                                                          \
    do {                                                                                                               \
        amx_reads_memory();                                                                                            \
        _tile_loadconfig(config);                                                                                      \
    } while (0)
#define AMX_FETCH_RESULT(address) __asm__ volatile("prefetchw %0" ::"m"(*(const char *)(address)))
#define AMX_LOAD(t, from, stride)                                                                                      \
    do {                                                                                                               \
        amx_reads_memory();                                                                                            \
        _tile_loadd(t, from, stride);                                                                                  \
    } while (0)
#define AMX_RELEASE()                  _tile_release()
#define AMX_ZERO(t)                    _tile_zero(t)
#define AMX_STORE(t, to, stride)       _tile_stored(t, to, stride)
#define AMX_INT8(sum, left, right)     _tile_dpbusd(sum, left, right)
#define AMX_BFLOAT16(sum, left, right) _tile_dpbf16ps(sum, left, right)

#include "model/packed_amx_body.h"
#include "model/packed_split_body.h"

/* Below so many rows most of each tile register is empty, and what the level below has is quicker. Only of bytes,
 * whose sums are exact: a row of bfloat16 would have other bits alone than among many. */
enum { AMX_ROWS_LEAST = 8 };

void packed_add_amx(packed_kernels *k)
{
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vnni") || !processor_has_amx())
        return;
    packed_add_avx512_bf16(k); /* rows that are bfloat16 */
    if (k->reads_floats[PACKED_BFLOAT16])
        return;
    k->few[PACKED_INT8] = k->tile[PACKED_INT8];
    k->few_rows[PACKED_INT8] = k->tile_rows[PACKED_INT8];
    k->few_below[PACKED_INT8] = AMX_ROWS_LEAST;
    k->tile[PACKED_INT8] = amx_tile_int8;
    k->tile[PACKED_BFLOAT16] = amx_tile_bfloat16;
    for (packed_precision p = PACKED_BFLOAT16; p <= PACKED_INT8; p++) {
        k->name[p] = "amx";
        k->tile_rows[p] = PACKED_TILE_ROWS_MAX;
        k->fast[p] = true;
    }
    k->split_tile = amx_tile_split;
    k->split_row = split_row;
    k->split_panel = split_panel;
    k->split_columns = split_columns;
}

#endif
