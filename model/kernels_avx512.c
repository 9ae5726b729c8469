#include "model/kernels_levels.h"

#ifdef KERNELS_X86

#include "model/vectors_avx512.h"

#define TILE_ROWS   8
#define TABLE       kernels_avx512
#define TABLE_NAME  "avx512"
#define UPPER_TABLE kernels_amx
#define UPPER_NAME  "amx"

#include "model/kernels_body.h"

#endif
