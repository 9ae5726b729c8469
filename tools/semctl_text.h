/* What semctl shows to people: widths, units, tables, progress. */
#ifndef SEM_TOOLS_SEMCTL_TEXT_H
#define SEM_TOOLS_SEMCTL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { TEXT_MAX = 64 /* bytes of a formatted number, NUL included */ };

/* Columns that a terminal needs for it. */
size_t text_columns(const char *text, size_t size);

/* A malloc'd copy for one line of a terminal: control characters and runs of
 * white space become one space, what is not UTF-8 becomes '?', and it is cut
 * to `columns` (0: not) with an ellipsis. NULL when memory is out. */
char *text_clean(const char *text, size_t size, size_t columns);

const char *text_duration(char out[TEXT_MAX], double seconds); /* "850 ms", "12.3 s", "2 min 05 s", "1 h 02 min" */
const char *text_bytes(char out[TEXT_MAX], uint64_t bytes);    /* "1.5 MiB" */
const char *text_time(char out[TEXT_MAX], uint64_t unix_ms);   /* local time to the second */

/* --- tables: cells are added row by row */

enum { TABLE_COLUMNS_MAX = 12 };

typedef struct table {
    const char *const *headers; /* borrowed; "" for none */
    size_t columns;
    uint32_t right; /* bit c: column c is aligned to the right */
    char **cells;   /* owned */
    size_t count, capacity;
    bool failed; /* memory ran out */
} table;

void table_init(table *t, const char *const *headers, size_t columns, uint32_t right);
void table_add(table *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_add_text(table *t, const char *text, size_t size, size_t columns);
/* False when memory ran out while it was filled; nothing is printed then. */
bool table_print(const table *t, FILE *out);
void table_free(table *t);

/* --- progress on a terminal; nothing is drawn where err is none */

typedef struct progress {
    bool terminal;
    bool drawn;
    uint64_t started_ms, drawn_ms;
} progress;

void progress_begin(progress *p);
/* One line: label, bar (share below 0: none), and what is said behind it.
 * Drawn ten times a second at most. */
void progress_show(progress *p, const char *label, double share, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
double progress_seconds(const progress *p);
/* Takes the line away, so that other lines may be printed. */
void progress_clear(progress *p);

#endif
