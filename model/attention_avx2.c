#include "model/attention_levels.h"

#ifdef ATTENTION_X86

#include "model/vectors_avx2.h"

#define ROWS       6
#define TABLE      attention_avx2
#define TABLE_NAME "avx2"

#include "model/attention_float32.h"

#endif
