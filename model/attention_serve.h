/* Attention as it serves: no gradient, no dropout, and working space that grows with
 * the text and not with its square.
 *
 * A tile of a few queries goes through the keys block by block, as in Dao et al. 2022
 * (FlashAttention), but without a running maximum: softmax is the same whatever is
 * taken from all scores, so the weights are first computed as they are, and their sum
 * says afterwards whether all of it was within the range of a float. Only where it
 * was not, the tile is computed again with its largest scores taken off. */
#ifndef SEM_MODEL_ATTENTION_SERVE_H
#define SEM_MODEL_ATTENTION_SERVE_H

#include "model/attention.h"
#include "model/packed.h"

/* The kernels of one instruction set and precision. */
typedef struct attention_level attention_level;

/* Those of the level of kernels (model/kernels.h) that is called name. For
 * bfloat16 and int8 products are of bfloat16 where the machine has quick
 * instructions for that, in all other cases of float32. */
const attention_level *attention_choose(const char *name, packed_precision precision);
/* The products of bfloat16 of that level, quick or not; attention_choose's of float32
 * where the machine has none. */
const attention_level *attention_of_bfloat16(const char *name);

/* Floats of working space for texts of up to n tokens. */
size_t attention_space(const attention_level *level, const attention_shape *shape, size_t n);

/* qkv[n, 3H] (queries, keys, values, each of A heads) -> the columns of the heads
 * [first, end) of context[n, H]. Threads may compute different heads or texts at the
 * same time, each with a working space of its own. */
void attention_serve(const attention_level *level, const attention_shape *shape, const float *qkv, size_t n,
                     size_t first, size_t end, float *context, float *space);

#endif
