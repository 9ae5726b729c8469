/* What the demonstration prints beside plain lines. One thread. */
#ifndef SEM_TOOLS_DEMO_SCREEN_H
#define SEM_TOOLS_DEMO_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A progress bar: redrawn in place on a terminal, a line at each quarter elsewhere. */
typedef struct screen_bar {
    bool terminal;
    unsigned quarter; /* the last one printed, not on a terminal */
    uint64_t drawn_ns;
    size_t width; /* of the last drawing, to wipe it */
} screen_bar;

void screen_bar_begin(screen_bar *bar);
/* tail: what follows the bar, "" for nothing. */
void screen_bar_draw(screen_bar *bar, const char *label, size_t done, size_t total, const char *tail);
/* Ends the line with what was reached. */
void screen_bar_end(screen_bar *bar, const char *label, const char *text);

/* 12345 as "12,345"; the text lives until the fourth call after this one. */
const char *screen_count(size_t number);

#endif
