#include "model/kernels.h"
#include "model/vectors_generic.h"

#define TILE_ROWS  2
#define TABLE      kernels_generic
#define TABLE_NAME "generic"

#include "model/kernels_body.h"
