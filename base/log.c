#include "base/log.h"

#include "base/names.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096 };

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const int journal_priorities[] = {3, 4, 6, 7};

void log_init(sem_log *log, int fd, log_level level)
{
    log->fd = fd;
    log->journal = getenv("JOURNAL_STREAM") != NULL;
    log->level = (int)level;
}

bool log_level_parse(const char *text, log_level *out)
{
    size_t place;
    if (!names_find(level_names, sizeof level_names / sizeof *level_names, text, &place))
        return false;
    *out = (log_level)place;
    return true;
}

static size_t line_start(const sem_log *log, log_level level, const char *event, char *line, size_t size)
{
    int n;
    if (log->journal) {
        n = snprintf(line, size, "<%d>level=%s event=%s", journal_priorities[level], level_names[level], event);
    } else {
        struct timespec now;
        struct tm utc;
        char stamp[32];
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &utc);
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
        n = snprintf(line, size, "%s.%03ldZ level=%s event=%s", stamp, now.tv_nsec / 1000000, level_names[level],
                     event);
    }
    return n < 0 ? 0 : (size_t)n < size ? (size_t)n : size - 1;
}

void log_event(sem_log *log, log_level level, const char *event, const char *format, ...)
{
    if (log == NULL || (int)level > log->level)
        return;
    char line[LINE_MAX_BYTES];
    size_t used = line_start(log, level, event, line, sizeof line - 1);
    if (format[0] != '\0' && used + 1 < sizeof line - 1) {
        line[used++] = ' ';
        va_list args;
        va_start(args, format);
        int n = vsnprintf(line + used, sizeof line - 1 - used, format, args);
        va_end(args);
        if (n > 0)
            used += (size_t)n < sizeof line - 1 - used ? (size_t)n : sizeof line - 2 - used;
    }
    line[used++] = '\n';
    /* A log that can't be written has nobody left to tell. */
    ssize_t written = write(log->fd, line, used);
    (void)written;
}

const char *log_value(char *buffer, unsigned long size, const char *text)
{
    size_t used = 0;
    if (size < 3)
        return "";
    buffer[used++] = '"';
    for (; *text != '\0' && used + 3 < size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            buffer[used++] = '\\';
            buffer[used++] = (char)c;
        } else {
            buffer[used++] = c < 0x20 || c == 0x7F ? ' ' : (char)c;
        }
    }
    buffer[used++] = '"';
    buffer[used] = '\0';
    return buffer;
}
