#include "finetune/curve_svg.h"

#include "finetune/curve.h"
#include "finetune/plot.h"

#include <math.h>
#include <stdlib.h>

enum {
    POINTS = PLOT_WIDTH /* of a line: one a pixel of the plot */
};

typedef enum series_kind { LOSS, EVALUATION, SCALE, LEARNING_RATE, SERIES_COUNT } series_kind;

/* What lies in the same 1/POINTS of the run. */
typedef struct point {
    double step_sum, sum, least, most;
    size_t count;
} point;

typedef struct series {
    point points[POINTS];
    double least, most;
    size_t count;
} series;

typedef struct drawing {
    series series[SERIES_COUNT];
    uint64_t last_step;
    const curve_labels *labels;
    plot plot;
} drawing;

/* --- what is drawn */

static void find_last(void *context, const curve_row *row)
{
    drawing *d = context;
    d->last_step = row->step > d->last_step ? row->step : d->last_step;
}

static void add_value(series *s, size_t place, double step, double value)
{
    point *p = &s->points[place];
    if (!isfinite(value))
        return;
    p->least = p->count == 0 ? value : fmin(p->least, value);
    p->most = p->count == 0 ? value : fmax(p->most, value);
    s->least = s->count == 0 ? value : fmin(s->least, value);
    s->most = s->count == 0 ? value : fmax(s->most, value);
    p->step_sum += step;
    p->sum += value;
    p->count++;
    s->count++;
}

static void add_row(void *context, const curve_row *row)
{
    drawing *d = context;
    const double step = (double)row->step;
    const size_t place = (size_t)((step - 1) / (double)d->last_step * POINTS);
    add_value(&d->series[LOSS], place, step, row->loss);
    add_value(&d->series[SCALE], place, step, row->scale > 0 ? row->scale : NAN);
    add_value(&d->series[LEARNING_RATE], place, step, row->learning_rate);
    add_value(&d->series[EVALUATION], place, step, row->evaluated ? row->evaluation : NAN);
}

/* --- lines */

static void draw_band(drawing *d, const series *s, const plot_axis *x, const plot_axis *y, series_kind kind)
{
    plot_say(&d->plot, "<polygon class=\"band k%d\" points=\"", (int)kind);
    for (size_t i = 0; i < 2 * POINTS; i++) {
        const point *p = &s->points[i < POINTS ? i : 2 * POINTS - 1 - i]; /* there and back */
        if (p->count > 0)
            plot_say(&d->plot, "%.1f,%.1f ", plot_place(x, p->step_sum / (double)p->count, PLOT_WIDTH),
                     PLOT_HEIGHT - plot_place(y, i < POINTS ? p->most : p->least, PLOT_HEIGHT));
    }
    plot_say(&d->plot, "\"/>\n");
}

static void draw_line(drawing *d, const series *s, const plot_axis *x, const plot_axis *y, series_kind kind)
{
    plot_say(&d->plot, "<polyline class=\"line k%d\" points=\"", (int)kind);
    for (size_t i = 0; i < POINTS; i++) {
        const point *p = &s->points[i];
        if (p->count > 0)
            plot_say(&d->plot, "%.1f,%.1f ", plot_place(x, p->step_sum / (double)p->count, PLOT_WIDTH),
                     PLOT_HEIGHT - plot_place(y, p->sum / (double)p->count, PLOT_HEIGHT));
    }
    plot_say(&d->plot, "\"/>\n");
}

/* Measurements are few: each is a dot. */
static void draw_dots(drawing *d, const series *s, const plot_axis *x, const plot_axis *y)
{
    for (size_t i = 0; i < POINTS; i++) {
        const point *p = &s->points[i];
        if (p->count > 0)
            plot_say(&d->plot, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" class=\"dot k%d\"/>\n",
                     plot_place(x, p->step_sum / (double)p->count, PLOT_WIDTH),
                     PLOT_HEIGHT - plot_place(y, p->sum / (double)p->count, PLOT_HEIGHT), (int)EVALUATION);
    }
}

static void draw_panel(drawing *d, series_kind kind, size_t place)
{
    const char *const names[SERIES_COUNT] = {[LOSS] = d->labels->loss,
                                             [EVALUATION] = d->labels->evaluation,
                                             [SCALE] = "scale (factor of the cosine)",
                                             [LEARNING_RATE] = "learning rate (of a step)"};
    const series *s = &d->series[kind];
    /* From step 0, so that a run of one step has an axis too. */
    const plot_axis x = plot_axis_make(0, (double)d->last_step, false);
    const plot_axis y = plot_axis_make(s->least, s->most, true);
    plot_panel_begin(&d->plot, place, &x, &y, names[kind], "steps");
    if (kind == LOSS)
        draw_band(d, s, &x, &y, kind);
    draw_line(d, s, &x, &y, kind);
    if (kind == EVALUATION)
        draw_dots(d, s, &x, &y);
    plot_panel_end(&d->plot);
}

/* --- the picture */

static void draw(drawing *d)
{
    size_t panels = 0, place = 0;
    for (size_t k = 0; k < SERIES_COUNT; k++)
        panels += d->series[k].count > 0;
    plot_begin(&d->plot, d->labels->title, panels, 0);
    for (size_t k = 0; k < SERIES_COUNT; k++)
        if (d->series[k].count > 0)
            draw_panel(d, (series_kind)k, place++);
}

sem_status curve_draw(const char *path, const char *svg, const curve_labels *labels, sem_error *err)
{
    drawing *d = calloc(1, sizeof *d);
    if (d == NULL)
        return sem_fail_memory(err, "a picture of the training curve");
    d->labels = labels;
    sem_status status = curve_read(path, find_last, d, err);
    if (status == SEM_OK && d->last_step == 0)
        status = sem_fail(err, SEM_FAILED_PRECONDITION, "%s: the curve has no step", path);
    if (status == SEM_OK)
        status = curve_read(path, add_row, d, err);
    if (status == SEM_OK) {
        draw(d);
        status = plot_end(&d->plot, svg, "a picture of the training curve", err);
    }
    free(d);
    return status;
}
