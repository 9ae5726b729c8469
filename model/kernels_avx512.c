#include "model/kernels_levels.h"

#ifdef KERNELS_X86

#include "model/vectors_avx512.h"

#define TILE_ROWS  8
#define TABLE      kernels_avx512
#define TABLE_NAME "avx512"

#include "model/kernels_body.h"

#endif
