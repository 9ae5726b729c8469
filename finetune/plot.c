#include "finetune/plot.h"

#include "base/files.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    PANEL_WIDTH = 480,
    PANEL_HEIGHT = 280,
    LEFT = 84, /* of a plot in its panel */
    TOP = 44,
    HEAD = 34, /* of the picture, for its title */
    TICKS = 5
};

/* --- text */

void plot_say(plot *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    p->failed = !buffer_print_list(&p->out, format, args) || p->failed;
    va_end(args);
}

void plot_say_escaped(plot *p, const char *text)
{
    for (; *text != '\0'; text++)
        switch (*text) {
        case '&': plot_say(p, "&amp;"); break;
        case '<': plot_say(p, "&lt;"); break;
        case '>': plot_say(p, "&gt;"); break;
        default:
            /* XML has no other control characters. */
            if ((unsigned char)*text >= 0x20 && !buffer_append(&p->out, text, 1))
                p->failed = true;
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

plot_axis plot_axis_make(double least, double most, bool round)
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
        return (plot_axis){floor(least / tick) * tick, ceil(most / tick) * tick, tick};
    return (plot_axis){least, most, tick};
}

double plot_place(const plot_axis *a, double value, double length)
{
    return (value - a->from) / (a->to - a->from) * length;
}

static void draw_axes(plot *p, const plot_axis *x, const plot_axis *y, const char *name, const char *x_name)
{
    char text[32];
    plot_say(p, "<rect width=\"%d\" height=\"%d\" class=\"frame\"/>\n", PLOT_WIDTH, PLOT_HEIGHT);
    const long last_x = lround(floor(x->to * (1 + 1e-9) / x->tick)), last_y = lround(y->to / y->tick);
    for (long k = lround(ceil(x->from / x->tick)); k <= last_x; k++) {
        const double value = (double)k * x->tick, at = plot_place(x, value, PLOT_WIDTH);
        plot_say(p, "<line x1=\"%.1f\" x2=\"%.1f\" y2=\"%d\" class=\"grid\"/>", at, at, PLOT_HEIGHT);
        plot_say(p, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", at, PLOT_HEIGHT + 16,
                 number(text, value));
    }
    for (long k = lround(y->from / y->tick); k <= last_y; k++) {
        const double value = (double)k * y->tick, at = PLOT_HEIGHT - plot_place(y, value, PLOT_HEIGHT);
        plot_say(p, "<line x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" class=\"grid\"/>", PLOT_WIDTH, at, at);
        plot_say(p, "<text x=\"-6\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", at + 4, number(text, value));
    }
    plot_say(p, "<text x=\"0\" y=\"-10\" class=\"name\">");
    plot_say_escaped(p, name);
    plot_say(p, "</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", PLOT_WIDTH, PLOT_HEIGHT + 34);
    plot_say_escaped(p, x_name);
    plot_say(p, "</text>\n");
}

void plot_panel_begin(plot *p, size_t place, const plot_axis *x, const plot_axis *y, const char *name,
                      const char *x_name)
{
    plot_say(p, "<g transform=\"translate(%zu %zu)\">\n", place % 2 * PANEL_WIDTH + LEFT,
             place / 2 * PANEL_HEIGHT + HEAD + TOP);
    draw_axes(p, x, y, name, x_name);
}

void plot_panel_end(plot *p)
{
    plot_say(p, "</g>\n");
}

/* --- the picture */

static const char STYLE[] =
    "<style>\n"
    ".page{fill:#fff}\n"
    "text{fill:#222}.name,.title{font-weight:bold}.title{font-size:15px}\n"
    ".frame{fill:none;stroke:#888}.grid{stroke:#ddd}\n"
    ".line{fill:none;stroke-width:1.6;stroke-linejoin:round}.band{opacity:.25;stroke:none}\n"
    ".line.k0{stroke:#1f6fb4}.line.k1{stroke:#2a7f3f}.line.k2{stroke:#b3530b}.line.k3{stroke:#7b4fb0}\n"
    ".band.k0,.dot.k0{fill:#1f6fb4}.band.k1,.dot.k1{fill:#2a7f3f}.band.k2,.dot.k2{fill:#b3530b}"
    ".band.k3,.dot.k3{fill:#7b4fb0}\n"
    "@media (prefers-color-scheme:dark){\n"
    ".page{fill:#16191d}\n"
    "text{fill:#dde1e6}.frame{stroke:#7a828c}.grid{stroke:#343a42}\n"
    ".line.k0{stroke:#6db3f2}.line.k1{stroke:#6fcf87}.line.k2{stroke:#f2a35e}.line.k3{stroke:#c3a1ee}\n"
    ".band.k0,.dot.k0{fill:#6db3f2}.band.k1,.dot.k1{fill:#6fcf87}.band.k2,.dot.k2{fill:#f2a35e}"
    ".band.k3,.dot.k3{fill:#c3a1ee}\n"
    "}\n</style>\n";

void plot_begin(plot *p, const char *title, size_t panels, size_t foot)
{
    const size_t width = panels > 1 ? 2 * PANEL_WIDTH : PANEL_WIDTH;
    const size_t height = (panels + 1) / 2 * PANEL_HEIGHT + HEAD + foot;
    plot_say(p,
             "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %zu %zu\" font-family=\"sans-serif\" "
             "font-size=\"12\">\n<title>",
             width, height);
    plot_say_escaped(p, title);
    plot_say(p, "</title>\n");
    p->failed = p->failed || !buffer_append(&p->out, STYLE, sizeof STYLE - 1);
    plot_say(p, "<rect width=\"%zu\" height=\"%zu\" class=\"page\"/>\n", width, height);
    plot_say(p, "<text x=\"%d\" y=\"26\" class=\"title\">", LEFT);
    plot_say_escaped(p, title);
    plot_say(p, "</text>\n");
}

void plot_foot_at(size_t panels, size_t *x, size_t *y)
{
    *x = LEFT;
    *y = (panels + 1) / 2 * PANEL_HEIGHT + HEAD;
}

sem_status plot_end(plot *p, const char *path, const char *what, sem_error *err)
{
    plot_say(p, "</svg>\n");
    sem_status status = p->failed ? sem_fail_memory(err, what) : files_write(path, p->out.data, p->out.size, err);
    buffer_free(&p->out);
    *p = (plot){0};
    return status;
}
