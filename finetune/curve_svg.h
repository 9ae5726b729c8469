/* The course of a training run as a picture. */
#ifndef SEM_FINETUNE_CURVE_SVG_H
#define SEM_FINETUNE_CURVE_SVG_H

#include "base/status.h"

typedef struct curve_labels {
    const char *title;      /* UTF-8 */
    const char *loss;       /* what stands at the loss's axis, its unit included */
    const char *evaluation; /* at that of the evaluation */
} curve_labels;

/* Draws the file of a curve (finetune/curve.h) as the SVG file svg: loss, scale, learning
 * rate and evaluation over the steps, each where there is one. Lines are means over as
 * many steps as a point of the picture has, within the band of these steps' values.
 * It has colours for light and for dark pages, of which the viewer takes one. Memory
 * and size do not grow with the steps. */
sem_status curve_draw(const char *path, const char *svg, const curve_labels *labels, sem_error *err);

#endif
