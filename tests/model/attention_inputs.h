/* What tests of attention put into it. */
#ifndef SEM_TESTS_MODEL_ATTENTION_INPUTS_H
#define SEM_TESTS_MODEL_ATTENTION_INPUTS_H

#include "tests/common/testing.h"

#include "base/random.h"
#include "model/attention.h"

#include <stdlib.h>

static inline float *floats(size_t n)
{
    float *out = calloc(n, sizeof *out);
    ck_assert_ptr_nonnull(out);
    return out;
}

static inline float *random_floats(size_t n, random_state *r, float width)
{
    float *out = floats(n);
    for (size_t i = 0; i < n; i++)
        out[i] = width * 2 * (float)(random_unit(r) - 0.5);
    return out;
}

static inline attention_shape shape_of(size_t heads, size_t width, size_t window)
{
    return (attention_shape){.hidden = heads * width, .heads = heads, .width = width, .window = window};
}

#endif
