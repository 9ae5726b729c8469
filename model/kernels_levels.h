/* The tables beside the generic one, for the chooser only. */
#ifndef SEM_MODEL_KERNELS_LEVELS_H
#define SEM_MODEL_KERNELS_LEVELS_H

#include "model/kernels.h"

#if defined(__x86_64__)
#define KERNELS_X86 1
extern const kernels kernels_avx2;
extern const kernels kernels_avxvnni;
extern const kernels kernels_avx512;
extern const kernels kernels_amx;
#endif

#endif
