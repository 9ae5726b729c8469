#include "model/kernels_levels.h"

#ifdef KERNELS_X86

#include "model/vectors_avx2.h"

#define TILE_ROWS   4
#define TABLE       kernels_avx2
#define TABLE_NAME  "avx2"
#define UPPER_TABLE kernels_avxvnni
#define UPPER_NAME  "avxvnni"

#include "model/kernels_body.h"

#endif
