#include "model/attention_levels.h"
#include "model/vectors_generic.h"

#define ROWS       5
#define TABLE      attention_generic
#define TABLE_NAME "generic"

#include "model/attention_float32.h"
