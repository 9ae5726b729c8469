/* Pictures of lines over a common axis, as SVG with colours for light and for dark pages, of which
 * the viewer takes one. A picture is a title above panels, two in a row. */
#ifndef SEM_FINETUNE_PLOT_H
#define SEM_FINETUNE_PLOT_H

#include "base/buffer.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    PLOT_WIDTH = 360, /* of what is within a panel's axes */
    PLOT_HEIGHT = 200,
    PLOT_COLOURS = 4 /* classes k0 to k3, for class "line", "band" (filled, faint) and "dot" */
};

/* All zero is an empty one. */
typedef struct plot {
    buffer out;
    bool failed; /* memory ran out */
} plot;

typedef struct plot_axis {
    double from, to, tick;
} plot_axis;

/* Ticks at 1, 2 or 5 times a power of ten, about five of them; the ends are ticks where round is
 * true. Where most is not above least there is room around it. */
plot_axis plot_axis_make(double least, double most, bool round);

/* Where the value is, from the axis's low end, if the axis is so long. */
double plot_place(const plot_axis *a, double value, double length);

void plot_say(plot *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text that XML takes as it is meant. */
void plot_say_escaped(plot *p, const char *text);

/* The picture's head: panels of them follow; foot: height of what the caller puts below them. */
void plot_begin(plot *p, const char *title, size_t panels, size_t foot);

/* Panel number `place` with its axes, their names and grids; plot_panel_end() follows what is drawn
 * in it, where the origin is the upper left corner of the axes. */
void plot_panel_begin(plot *p, size_t place, const plot_axis *x, const plot_axis *y, const char *name,
                      const char *x_name);
void plot_panel_end(plot *p);

/* The foot's upper left corner. */
void plot_foot_at(size_t panels, size_t *x, size_t *y);

/* Ends the picture and writes it to a file; what: for an error of memory. Frees p. */
sem_status plot_end(plot *p, const char *path, const char *what, sem_error *err);

#endif
