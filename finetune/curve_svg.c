#include "finetune/curve_svg.h"

#include "base/buffer.h"
#include "base/files.h"
#include "finetune/curve.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    POINTS = 360, /* of a line: one a pixel of the plot */
    PLOT_WIDTH = 360,
    PLOT_HEIGHT = 200,
    PANEL_WIDTH = 480,
    PANEL_HEIGHT = 280,
    LEFT = 84, /* of a plot in its panel */
    TOP = 44,
    HEAD = 34, /* of the picture, for its title */
    TICKS = 5
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
    buffer out;
    bool failed; /* memory ran out */
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

/* --- text */

static void say(drawing *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(drawing *d, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    d->failed = !buffer_print_list(&d->out, format, args) || d->failed;
    va_end(args);
}

/* Text that XML takes as it is meant. */
static void say_escaped(drawing *d, const char *text)
{
    for (; *text != '\0'; text++)
        switch (*text) {
        case '&': say(d, "&amp;"); break;
        case '<': say(d, "&lt;"); break;
        case '>': say(d, "&gt;"); break;
        default:
            /* XML has no other control characters. */
            if ((unsigned char)*text >= 0x20 && !buffer_append(&d->out, text, 1))
                d->failed = true;
        }
}

/* 1234567 as 1,234,567; others in as few digits as tell ticks apart. */
static const char *number(char out[32], double value)
{
    if (!(fabs(value) >= 1000 && fabs(value) < 1e15 && value == floor(value))) {
        snprintf(out, 32, "%.6g", value);
        return out;
    }
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%.0f", value);
    size_t used = 0;
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

/* --- axes */

typedef struct axis {
    double from, to, tick;
} axis;

/* Ticks at 1, 2 or 5 times a power of ten, about TICKS of them; the ends are ticks where round is true. */
static axis make_axis(double least, double most, bool round)
{
    if (!(most > least)) {
        const double room = least != 0 ? fabs(least) / 10 : 1;
        least -= room;
        most += room;
    }
    const double raw = (most - least) / TICKS, power = pow(10, floor(log10(raw)));
    const double times = raw / power;
    const double tick = power * (times <= 1 ? 1 : times <= 2 ? 2 : times <= 5 ? 5 : 10);
    if (round)
        return (axis){floor(least / tick) * tick, ceil(most / tick) * tick, tick};
    return (axis){least, most, tick};
}

static double place_on(const axis *a, double value, double length)
{
    return (value - a->from) / (a->to - a->from) * length;
}

static void draw_axes(drawing *d, const axis *x, const axis *y, const char *name)
{
    char text[32];
    say(d, "<rect width=\"%d\" height=\"%d\" class=\"frame\"/>\n", PLOT_WIDTH, PLOT_HEIGHT);
    for (double k = ceil(x->from / x->tick); k * x->tick <= x->to * (1 + 1e-9); k++) {
        const double at = place_on(x, k * x->tick, PLOT_WIDTH);
        say(d, "<line x1=\"%.1f\" x2=\"%.1f\" y2=\"%d\" class=\"grid\"/>", at, at, PLOT_HEIGHT);
        say(d, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at, PLOT_HEIGHT + 16,
            number(text, k * x->tick));
    }
    for (double k = round(y->from / y->tick); k <= round(y->to / y->tick); k++) {
        const double value = k * y->tick, at = PLOT_HEIGHT - place_on(y, value, PLOT_HEIGHT);
        say(d, "<line x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>", PLOT_WIDTH, at, at);
        say(d, "<text x=\"-6\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", at + 4, number(text, value));
    }
    say(d, "<text x=\"0\" y=\"-10\" class=\"name\">");
    say_escaped(d, name);
    say(d, "</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"end\">steps</text>\n", PLOT_WIDTH, PLOT_HEIGHT + 34);
}

/* --- lines */

static void draw_band(drawing *d, const series *s, const axis *x, const axis *y, series_kind kind)
{
    say(d, "<polygon class=\"band k%d\" points=\"", (int)kind);
    for (size_t i = 0; i < 2 * POINTS; i++) {
        const point *p = &s->points[i < POINTS ? i : 2 * POINTS - 1 - i]; /* there and back */
        if (p->count > 0)
            say(d, "%.1f,%.1f ", place_on(x, p->step_sum / (double)p->count, PLOT_WIDTH),
                PLOT_HEIGHT - place_on(y, i < POINTS ? p->most : p->least, PLOT_HEIGHT));
    }
    say(d, "\"/>\n");
}

static void draw_line(drawing *d, const series *s, const axis *x, const axis *y, series_kind kind)
{
    say(d, "<polyline class=\"line k%d\" points=\"", (int)kind);
    for (size_t i = 0; i < POINTS; i++) {
        const point *p = &s->points[i];
        if (p->count > 0)
            say(d, "%.1f,%.1f ", place_on(x, p->step_sum / (double)p->count, PLOT_WIDTH),
                PLOT_HEIGHT - place_on(y, p->sum / (double)p->count, PLOT_HEIGHT));
    }
    say(d, "\"/>\n");
}

/* Measurements are few: each is a dot. */
static void draw_dots(drawing *d, const series *s, const axis *x, const axis *y)
{
    for (size_t i = 0; i < POINTS; i++) {
        const point *p = &s->points[i];
        if (p->count > 0)
            say(d, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" class=\"dot k%d\"/>\n",
                place_on(x, p->step_sum / (double)p->count, PLOT_WIDTH),
                PLOT_HEIGHT - place_on(y, p->sum / (double)p->count, PLOT_HEIGHT), (int)EVALUATION);
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
    const axis x = make_axis(0, (double)d->last_step, false);
    const axis y = make_axis(s->least, s->most, true);
    say(d, "<g transform=\"translate(%zu %zu)\">\n", place % 2 * PANEL_WIDTH + LEFT,
        place / 2 * PANEL_HEIGHT + HEAD + TOP);
    draw_axes(d, &x, &y, names[kind]);
    if (kind == LOSS)
        draw_band(d, s, &x, &y, kind);
    draw_line(d, s, &x, &y, kind);
    if (kind == EVALUATION)
        draw_dots(d, s, &x, &y);
    say(d, "</g>\n");
}

/* --- the picture */

static const char STYLE[] =
    "<style>\n"
    ".page{fill:#fff}\n"
    "text{fill:#222}.name,.title{font-weight:bold}.title{font-size:15px}\n"
    ".frame{fill:none;stroke:#888}.grid{stroke:#ddd}\n"
    ".line{fill:none;stroke-width:1.6;stroke-linejoin:round}.band{opacity:.25;stroke:none}\n"
    ".line.k0{stroke:#1f6fb4}.band.k0{fill:#1f6fb4}.line.k1{stroke:#2a7f3f}.dot.k1{fill:#2a7f3f}\n"
    ".line.k2{stroke:#b3530b}.line.k3{stroke:#7b4fb0}\n"
    "@media (prefers-color-scheme:dark){\n"
    ".page{fill:#16191d}\n"
    "text{fill:#dde1e6}.frame{stroke:#7a828c}.grid{stroke:#343a42}\n"
    ".line.k0{stroke:#6db3f2}.band.k0{fill:#6db3f2}.line.k1{stroke:#6fcf87}.dot.k1{fill:#6fcf87}\n"
    ".line.k2{stroke:#f2a35e}.line.k3{stroke:#c3a1ee}\n"
    "}\n</style>\n";

static void draw(drawing *d)
{
    size_t panels = 0, place = 0;
    for (size_t k = 0; k < SERIES_COUNT; k++)
        panels += d->series[k].count > 0;
    const size_t width = panels > 1 ? 2 * PANEL_WIDTH : PANEL_WIDTH;
    const size_t height = (panels + 1) / 2 * PANEL_HEIGHT + HEAD;
    say(d,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %zu\" font-family=\"sans-serif\" "
        "font-size=\"12\">\n<title>",
        width, height);
    say_escaped(d, d->labels->title);
    say(d, "</title>\n");
    d->failed = d->failed || !buffer_append(&d->out, STYLE, sizeof STYLE - 1);
    say(d, "<rect width=\"%zu\" height=\"%zu\" class=\"page\"/>\n", width, height);
    say(d, "<text x=\"%d\" y=\"26\" class=\"title\">", LEFT);
    say_escaped(d, d->labels->title);
    say(d, "</text>\n");
    for (size_t k = 0; k < SERIES_COUNT; k++)
        if (d->series[k].count > 0)
            draw_panel(d, (series_kind)k, place++);
    say(d, "</svg>\n");
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
    if (status == SEM_OK)
        draw(d);
    if (status == SEM_OK && d->failed)
        status = sem_fail_memory(err, "a picture of the training curve");
    if (status == SEM_OK)
        status = files_write(svg, d->out.data, d->out.size, err);
    buffer_free(&d->out);
    free(d);
    return status;
}
