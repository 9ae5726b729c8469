#include "model/attention_levels.h"

#ifdef ATTENTION_X86

#include "model/vectors_avx512.h"

#define ROWS       12
#define TABLE      attention_avx512
#define TABLE_NAME "avx512"

#include "model/attention_float32.h"

#endif
