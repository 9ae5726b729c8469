/* What the processor can do that the compiler's own questions do not cover. All false
 * on other processors than x86-64. Any thread. */
#ifndef SEM_MODEL_PROCESSOR_H
#define SEM_MODEL_PROCESSOR_H

#include <stdbool.h>

/* vpdpbusd of 256 bits, encoded as AVX (AVX-VNNI) or as AVX-512 (VNNI and VL). */
bool processor_has_avxvnni(void);
bool processor_has_short_vnni(void);

/* vdpbf16ps of 512 bits that does more in a second than vfmadd231ps on float32. */
bool processor_has_quick_bf16(void);

/* AMX with products of int8 and bfloat16. Asks Linux for the tile registers, which it
 * gives to all threads of a process together. */
bool processor_has_amx(void);

#endif
