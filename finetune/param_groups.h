/* Which parameters a run trains, and how fast: layers further down learn more
 * slowly (Clark et al. 2020, "ELECTRA"; Howard and Ruder 2018), and some not at all. */
#ifndef SEM_FINETUNE_PARAM_GROUPS_H
#define SEM_FINETUNE_PARAM_GROUPS_H

#include "base/status.h"
#include "model/encoder.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct param_group_options {
    double layer_decay;     /* above 0 and at most 1: the rate of a layer over that of the layer above it */
    bool freeze_embeddings; /* all that stands before the first layer, and relative positions */
    size_t freeze_layers;   /* the lowest ones */
} param_group_options;

/* factors [layout->count] becomes what each parameter's learning rate is multiplied
 * with: 1 for the top layer and what lies behind it, layer_decay for the layer
 * below it, and so on to the embeddings; 0 for what is frozen. Fails where
 * nothing would be trained. */
sem_status param_group_factors(const param_group_options *options, const param_layout *layout, size_t layers,
                               double *factors, sem_error *err);

#endif
