/* One layer of a training pass, forward and backward, between the tape's x and dx. */
#ifndef SEM_MODEL_ENCODER_LAYER_H
#define SEM_MODEL_ENCODER_LAYER_H

#include "model/encoder_tape.h"

/* Layer i from its input t->x to its output, there as well. */
void layer_forward(encoder_tape *t, const float *w, size_t i);
/* What layer i keeps and an outline does not, as layer_forward had it. */
void layer_again(encoder_tape *t, const float *w, size_t i);
/* t->dx, the gradient of the layer's output, becomes that of its input. */
void layer_backward(encoder_tape *t, const float *w, size_t i, float *dw);

#endif
