/* A small model that is in no file; its widths are no multiples of a panel. */
#ifndef SEM_TESTS_MODEL_SMALL_MODEL_H
#define SEM_TESTS_MODEL_SMALL_MODEL_H

#include "model/model_config.h"

static const model_config SMALL = {.family = FAMILY_BERT,
                                   .family_name = "bert",
                                   .vocab = 50,
                                   .hidden = 40,
                                   .layers = 2,
                                   .heads = 2,
                                   .intermediate = 70,
                                   .positions = 90,
                                   .types = 2,
                                   .layer_norm_eps = 1e-12f,
                                   .activation = ACT_GELU,
                                   .pooling = POOL_MEAN,
                                   .dim = 40,
                                   .max_tokens = 80};

#endif
