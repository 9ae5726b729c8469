/* The picture of a simulation's rounds. */
#include "finetune/plot.h"
#include "bench/clicksim/results.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FOOT_HEIGHT = 90, FOOT_LINE = 18, FOOT_MARK = 28 };

static const char TITLE[] = "MRR@10 after rounds of searching, clicking and learning";

static const char *const MEANINGS[] = {"no learning", "learning from all clicks alike",
                                       "clicks weighed against position bias",
                                       "the same, and what was passed by and mined as hard negatives"};

typedef struct panel {
    const results_row *rows;
    size_t count;
    const char *world;
    bool kept;
    unsigned last; /* round of all rows */
    plot_axis x, y;
} panel;

static const people_quality *quality_of(const panel *p, const results_row *row)
{
    return p->kept ? &row->kept : &row->heldout;
}

static bool is_in(const panel *p, const results_row *row, const char *variant)
{
    return strcmp(row->world, p->world) == 0 && (variant == NULL || strcmp(row->variant, variant) == 0);
}

static void find_range(panel *p)
{
    double least = INFINITY, most = -INFINITY;
    for (size_t i = 0; i < p->count; i++) {
        if (!is_in(p, &p->rows[i], NULL))
            continue;
        const people_quality *q = quality_of(p, &p->rows[i]);
        least = fmin(least, q->mrr - q->error);
        most = fmax(most, q->mrr + q->error);
    }
    p->x = (plot_axis){0, p->last > 0 ? p->last : 1, 1};
    p->y = plot_axis_make(least, most, true);
}

static double x_of(const panel *p, double round)
{
    return plot_place(&p->x, round, PLOT_WIDTH);
}

static double y_of(const panel *p, double mrr)
{
    return PLOT_HEIGHT - plot_place(&p->y, mrr, PLOT_HEIGHT);
}

static void draw_band(plot *out, const panel *p, size_t variant)
{
    plot_say(out, "<polygon class=\"band k%zu\" points=\"", variant);
    for (size_t i = 0; i < 2 * p->count; i++) {
        const results_row *row = &p->rows[i < p->count ? i : 2 * p->count - 1 - i]; /* there and back */
        const people_quality *q = quality_of(p, row);
        if (is_in(p, row, results_variants[variant]))
            plot_say(out, "%.1f,%.1f ", x_of(p, row->round),
                     y_of(p, i < p->count ? q->mrr + q->error : q->mrr - q->error));
    }
    plot_say(out, "\"/>\n");
}

/* Without learning what was measured once holds for all rounds. */
static void draw_line(plot *out, const panel *p, size_t variant)
{
    const results_row *last = NULL;
    plot_say(out, "<polyline class=\"line k%zu\" points=\"", variant);
    for (size_t i = 0; i < p->count; i++) {
        const results_row *row = &p->rows[i];
        if (!is_in(p, row, results_variants[variant]))
            continue;
        plot_say(out, "%.1f,%.1f ", x_of(p, row->round), y_of(p, quality_of(p, row)->mrr));
        last = row;
    }
    if (last != NULL && variant == 0)
        plot_say(out, "%.1f,%.1f ", x_of(p, p->last), y_of(p, quality_of(p, last)->mrr));
    plot_say(out, "\"/>\n");
    for (size_t i = 0; i < p->count; i++) {
        const results_row *row = &p->rows[i];
        if (is_in(p, row, results_variants[variant]) && strcmp(row->decision, "promoted") == 0)
            plot_say(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\" class=\"dot k%zu\"/>\n", x_of(p, row->round),
                     y_of(p, quality_of(p, row)->mrr), variant);
    }
}

static void draw_panel(plot *out, panel *p, const results_row *first, size_t place)
{
    char name[192];
    snprintf(name, sizeof name, "%s, %s", first->world, p->kept ? first->kept_is : first->heldout_is);
    find_range(p);
    plot_panel_begin(out, place, &p->x, &p->y, name, "rounds");
    for (size_t v = 0; results_variants[v] != NULL; v++) {
        draw_band(out, p, v);
        draw_line(out, p, v);
    }
    plot_panel_end(out);
}

static void draw_legend(plot *out, size_t panels)
{
    size_t x, y;
    plot_foot_at(panels, &x, &y);
    for (size_t v = 0; results_variants[v] != NULL; v++) {
        size_t at = y + v * FOOT_LINE;
        plot_say(out, "<path d=\"M%zu %zuh%d\" class=\"line k%zu\"/>", x, at, FOOT_MARK - 8, v);
        plot_say(out, "<text x=\"%zu\" y=\"%zu\">%s</text>\n", x + FOOT_MARK, at + 4, MEANINGS[v]);
    }
    plot_say(out,
             "<text x=\"%zu\" y=\"%zu\">a dot: the gate let the candidate through; the band: a standard error</text>\n",
             x + FOOT_MARK, y + PLOT_COLOURS * FOOT_LINE + 4);
}

static bool is_first(const results_row *rows, size_t number)
{
    for (size_t i = 0; i < number; i++)
        if (strcmp(rows[i].world, rows[number].world) == 0)
            return false;
    return true;
}

sem_status results_draw(const results_row *rows, size_t count, const char *path, sem_error *err)
{
    plot out = {0};
    size_t worlds = 0, place = 0;
    unsigned last = 0;
    for (size_t i = 0; i < count; i++) {
        worlds += is_first(rows, i);
        last = rows[i].round > last ? rows[i].round : last;
    }
    if (count == 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "there are no rounds to draw");
    plot_begin(&out, TITLE, 2 * worlds, FOOT_HEIGHT);
    for (size_t i = 0; i < count; i++) {
        if (!is_first(rows, i))
            continue;
        panel heldout = {.rows = rows, .count = count, .world = rows[i].world, .last = last};
        panel kept = {.rows = rows, .count = count, .world = rows[i].world, .last = last, .kept = true};
        draw_panel(&out, &heldout, &rows[i], place);
        if (rows[i].kept_is[0] != '\0')
            draw_panel(&out, &kept, &rows[i], place + 1);
        place += 2;
    }
    draw_legend(&out, 2 * worlds);
    return plot_end(&out, path, "a picture of the rounds", err);
}
