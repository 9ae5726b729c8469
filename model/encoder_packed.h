/* The encoder's matrices, packed for serving. */
#ifndef SEM_MODEL_ENCODER_PACKED_H
#define SEM_MODEL_ENCODER_PACKED_H

#include "model/encoder_plan.h"
#include "model/packed.h"
#include "model/weights.h"

/* Matrices of a layer, in the order in which they are used. */
enum { LAYER_QKV, LAYER_OUT, LAYER_UP, LAYER_DOWN, LAYER_MATRICES };

typedef struct packed_layers {
    packed **matrices; /* [L * LAYER_MATRICES], owned with what they point to */
    size_t count;
    covariance **records; /* of each matrix while something is recorded, owned; or NULL */
} packed_layers;

/* Places for the matrices, all of them empty. */
sem_status packed_layers_create(packed_layers *out, const encoder_plan *plan, sem_error *err);
/* Packs every layer's matrices alike, one after the other from w (of the plan's
 * layout) into the place of what is there; what has its precision already stays.
 * int8 is rounded by what is recorded. */
sem_status packed_layers_fill(packed_layers *layers, const encoder_plan *plan, model_weights *w,
                              packed_precision precision, packed_precision projections, sem_error *err);
/* From now on what the matrices multiply is recorded, until it is forgotten. */
sem_status packed_layers_record(packed_layers *layers, const kernels *k, sem_error *err);
void packed_layers_forget(packed_layers *layers);
void packed_layers_free(packed_layers *layers);
/* Floats of working space for any of the products. */
size_t packed_layers_space(const encoder_plan *plan);

#endif
