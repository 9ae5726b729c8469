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
    packed *aside;        /* what packed_layers_try took the place of, owned; or NULL */
    size_t tried;         /* the place */
    void *settled;        /* where packed_layers_settle has put the weights, owned; or NULL */
    size_t settled_bytes;
} packed_layers;

/* Places for the matrices, all of them empty. */
sem_status packed_layers_create(packed_layers *out, const encoder_plan *plan, sem_error *err);
/* Packs the layers' matrices as table says, one after the other from w (of the plan's
 * layout) into the place of what is there; what has its precision already stays.
 * int8 is rounded by what is recorded. */
sem_status packed_layers_fill(packed_layers *layers, const encoder_plan *plan, model_weights *w,
                              const encoder_precisions *table, sem_error *err);
/* Packs one matrix in another precision and keeps what was there, until
 * packed_layers_untry puts that back. One at a time. */
sem_status packed_layers_try(packed_layers *layers, const encoder_plan *plan, model_weights *w, size_t matrix,
                             packed_precision precision, sem_error *err);
void packed_layers_untry(packed_layers *layers);
/* Moves all weights, one matrix after the other, next to each other into huge pages,
 * where that memory is to be had: a lone query, which reads all of them once, then
 * hardly waits for the translation of addresses. Nothing may be tried meanwhile. */
void packed_layers_settle(packed_layers *layers);
/* From now on what the matrices multiply is recorded, until it is forgotten. */
sem_status packed_layers_record(packed_layers *layers, const kernels *k, sem_error *err);
void packed_layers_forget(packed_layers *layers);
void packed_layers_free(packed_layers *layers);
/* Weights of one matrix. */
size_t packed_layers_size(const encoder_plan *plan, size_t matrix);
/* Floats of working space for any of the products. */
size_t packed_layers_space(const encoder_plan *plan);

#endif
