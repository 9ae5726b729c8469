#include "tools/demo/screen.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR_CELLS = 28, LABEL_CELLS = 18, REDRAW_NS = 100 * 1000 * 1000 };

void screen_bar_begin(screen_bar *bar)
{
    memset(bar, 0, sizeof *bar);
    bar->terminal = isatty(STDOUT_FILENO);
}

static void draw_line(screen_bar *bar, const char *label, size_t done, size_t total, const char *tail)
{
    char cells[BAR_CELLS + 1];
    size_t full = total == 0 ? 0 : done * BAR_CELLS / total;
    for (size_t i = 0; i < BAR_CELLS; i++)
        cells[i] = i < full ? '#' : '.';
    cells[BAR_CELLS] = '\0';
    int n = printf("  %-*s [%s] %3zu%% %s", LABEL_CELLS, label, cells, total == 0 ? 0 : 100 * done / total, tail);
    size_t width = n > 0 ? (size_t)n : 0;
    if (bar->terminal && width < bar->width)
        printf("%*s", (int)(bar->width - width), "");
    bar->width = width;
}

void screen_bar_draw(screen_bar *bar, const char *label, size_t done, size_t total, const char *tail)
{
    done = done > total ? total : done;
    if (bar->terminal) {
        uint64_t now = clock_monotonic_ns();
        if (done < total && bar->drawn_ns != 0 && now - bar->drawn_ns < REDRAW_NS)
            return;
        bar->drawn_ns = now;
        putchar('\r');
        draw_line(bar, label, done, total, tail);
        fflush(stdout);
        return;
    }
    unsigned quarter = total == 0 ? 0 : (unsigned)(4 * done / total);
    if (quarter <= bar->quarter)
        return;
    bar->quarter = quarter;
    draw_line(bar, label, done, total, tail);
    putchar('\n');
    fflush(stdout);
}

void screen_bar_end(screen_bar *bar, const char *label, const char *text)
{
    if (bar->terminal)
        printf("\r%*s\r", (int)bar->width, "");
    printf("  %-*s %s\n", LABEL_CELLS, label, text);
    fflush(stdout);
    screen_bar_begin(bar);
}

const char *screen_count(size_t number)
{
    static _Thread_local char texts[4][32];
    static _Thread_local unsigned next;
    char *text = texts[next++ % 4], digits[24];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%zu", number), at = 0;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}
