/* The environment variable SEMD_SIMD, which lowers the instruction set of kernels that exist for
 * several: generic, avx2, avxvnni, avx512, amx. Any thread, while nobody sets it. */
#ifndef SEM_BASE_SIMD_H
#define SEM_BASE_SIMD_H

#include <stdbool.h>

/* Of the vectors that a level works in. */
typedef enum simd_width { SIMD_GENERIC, SIMD_AVX2, SIMD_AVX512, SIMD_WIDTHS } simd_width;

/* What SEMD_SIMD is set to; NULL: to nothing, so that any level may be taken. */
const char *simd_wanted(void);

/* Whether there is a level of that name on some machine. */
bool simd_is_level(const char *name);

/* The widest that SEMD_SIMD allows, whatever the machine has. avxvnni is as wide as avx2, amx as
 * avx512. What names no level lowers nothing here: who runs an encoder refuses it (kernels_choose). */
simd_width simd_widest(void);

#endif
