#include "tools/semctl_text.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/utf8.h"

#include <utf8proc.h>

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
    DRAW_INTERVAL_MS = 100,
    BAR_COLUMNS = 30,
    TERMINAL_COLUMNS = 80, /* where the terminal does not say */
    LINE_MAX_BYTES = 512
};

/* --- width and cleaning */

static size_t character_columns(uint32_t code)
{
    int width = utf8proc_charwidth((utf8proc_int32_t)code);
    return width > 0 ? (size_t)width : 0;
}

size_t text_columns(const char *text, size_t size)
{
    size_t columns = 0;
    for (size_t i = 0; i < size;) {
        uint32_t code;
        i += utf8_decode(text + i, size - i, &code);
        columns += character_columns(code);
    }
    return columns;
}

static bool is_space_or_control(uint32_t code)
{
    return code <= 0x20 || (code >= 0x7f && code <= 0xa0) || code == 0x2028 || code == 0x2029 ||
           (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

/* Copies until the columns are used up; returns bytes written. *whole: all of it fitted. */
static size_t clean_into(char *out, const char *text, size_t size, size_t columns, bool *whole)
{
    size_t used = 0, length = 0;
    bool space = true; /* none at the start */
    for (size_t i = 0; i < size;) {
        uint32_t code;
        size_t n = utf8_decode(text + i, size - i, &code);
        bool blank = is_space_or_control(code);
        size_t wide = blank ? 1 : character_columns(code);
        if (!(blank && space)) {
            if (columns > 0 && used + wide > columns) {
                *whole = false;
                return length;
            }
            used += wide;
            memcpy(out + length, blank ? " " : text + i, blank ? 1 : n);
            length += blank ? 1 : n;
        }
        space = blank;
        i += n;
    }
    *whole = true;
    return length;
}

char *text_clean(const char *text, size_t size, size_t columns)
{
    static const char ellipsis[] = "\xe2\x80\xa6";
    char *valid = NULL; /* a copy without the bytes that are no UTF-8, where there are such */
    if (!utf8_valid(text, size)) {
        valid = malloc(size);
        if (valid == NULL)
            return NULL;
        for (size_t i = 0; i < size; i++)
            valid[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    }
    char *out = malloc(size + sizeof ellipsis);
    if (out == NULL) {
        free(valid);
        return NULL;
    }
    const char *from = valid != NULL ? valid : text;
    bool whole;
    size_t length = clean_into(out, from, size, columns, &whole);
    if (!whole) {
        length = clean_into(out, from, size, columns > 1 ? columns - 1 : 1, &whole);
        memcpy(out + length, ellipsis, sizeof ellipsis - 1);
        length += sizeof ellipsis - 1;
    }
    free(valid);
    while (length > 0 && out[length - 1] == ' ')
        length--;
    out[length] = '\0';
    return out;
}

/* --- units */

const char *text_duration(char out[TEXT_MAX], double seconds)
{
    if (!(seconds >= 0))
        snprintf(out, TEXT_MAX, "?");
    else if (seconds < 0.9995)
        snprintf(out, TEXT_MAX, "%.0f ms", seconds * 1e3);
    else if (seconds < 59.95)
        snprintf(out, TEXT_MAX, "%.1f s", seconds);
    else if (seconds < 3600)
        snprintf(out, TEXT_MAX, "%d min %02d s", (int)seconds / 60, (int)seconds % 60);
    else if (seconds < 360000)
        snprintf(out, TEXT_MAX, "%d h %02d min", (int)seconds / 3600, (int)seconds / 60 % 60);
    else
        snprintf(out, TEXT_MAX, "%.0f days", seconds / 86400);
    return out;
}

const char *text_bytes(char out[TEXT_MAX], uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    snprintf(out, TEXT_MAX, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return out;
}

const char *text_time(char out[TEXT_MAX], uint64_t unix_ms)
{
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm parts;
    if (localtime_r(&seconds, &parts) == NULL || strftime(out, TEXT_MAX, "%Y-%m-%d %H:%M:%S", &parts) == 0)
        snprintf(out, TEXT_MAX, "?");
    return out;
}

/* --- tables */

void table_init(table *t, const char *const *headers, size_t columns, uint32_t right)
{
    *t = (table){.headers = headers, .columns = columns, .right = right};
}

void table_add_text(table *t, const char *text, size_t size, size_t columns)
{
    if (t->count == t->capacity) {
        size_t capacity = t->capacity == 0 ? 64 : 2 * t->capacity;
        char **cells = checked_realloc(t->cells, capacity, sizeof *cells);
        if (cells == NULL) {
            t->failed = true;
            return;
        }
        t->cells = cells;
        t->capacity = capacity;
    }
    char *cell = text_clean(text, size, columns);
    if (cell == NULL)
        t->failed = true;
    else
        t->cells[t->count++] = cell;
}

void table_add(table *t, const char *format, ...)
{
    char text[LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    table_add_text(t, n > 0 ? text : "", n > 0 ? strlen(text) : 0, 0);
}

static void print_row(FILE *out, const table *t, const char *const *row, const size_t *widths)
{
    for (size_t c = 0; c < t->columns; c++) {
        size_t columns = text_columns(row[c], strlen(row[c]));
        int gap = (int)(widths[c] - columns);
        bool right = (t->right >> c & 1) != 0;
        bool last = c + 1 == t->columns;
        fprintf(out, "%*s%s%*s%s", right ? gap : 0, "", row[c], right || last ? 0 : gap, "", last ? "\n" : "  ");
    }
}

bool table_print(const table *t, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    if (t->failed || t->columns == 0)
        return !t->failed;
    bool headed = false;
    for (size_t c = 0; c < t->columns; c++) {
        widths[c] = text_columns(t->headers[c], strlen(t->headers[c]));
        headed = headed || t->headers[c][0] != '\0';
    }
    for (size_t i = 0; i < t->count; i++) {
        size_t columns = text_columns(t->cells[i], strlen(t->cells[i]));
        if (columns > widths[i % t->columns])
            widths[i % t->columns] = columns;
    }
    if (headed)
        print_row(out, t, t->headers, widths);
    for (size_t i = 0; i + t->columns <= t->count; i += t->columns)
        print_row(out, t, (const char *const *)(t->cells + i), widths);
    return true;
}

void table_free(table *t)
{
    for (size_t i = 0; i < t->count; i++)
        free(t->cells[i]);
    free(t->cells);
    *t = (table){0};
}

/* --- progress */

void progress_begin(progress *p)
{
    const char *kind = getenv("TERM");
    bool able = kind != NULL && strcmp(kind, "dumb") != 0;
    *p = (progress){.terminal = able && isatty(STDERR_FILENO) != 0, .started_ms = clock_monotonic_ms()};
}

double progress_seconds(const progress *p)
{
    return (double)(clock_monotonic_ms() - p->started_ms) / 1e3;
}

void progress_show(progress *p, const char *label, double share, const char *format, ...)
{
    uint64_t now = clock_monotonic_ms();
    if (!p->terminal || (p->drawn && now - p->drawn_ms < DRAW_INTERVAL_MS))
        return;
    p->drawn = true;
    p->drawn_ms = now;
    char said[LINE_MAX_BYTES], bar[BAR_COLUMNS + 16] = "", line[2 * LINE_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(said, sizeof said, format, args);
    va_end(args);
    if (share >= 0) {
        char cells[BAR_COLUMNS + 1] = "";
        size_t full = share >= 1 ? BAR_COLUMNS : (size_t)(share * BAR_COLUMNS);
        memset(cells, '.', BAR_COLUMNS);
        memset(cells, '#', full);
        snprintf(bar, sizeof bar, "[%s] %3.0f%%  ", cells, share >= 1 ? 100.0 : share * 100);
    }
    snprintf(line, sizeof line, "%s  %s%s", label, bar, said);
    struct winsize size;
    size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : TERMINAL_COLUMNS;
    char *clean = text_clean(line, strlen(line), columns - 1);
    fprintf(stderr, "\r%s\033[K", clean != NULL ? clean : "");
    fflush(stderr);
    free(clean);
}

void progress_clear(progress *p)
{
    if (!p->terminal || !p->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}
