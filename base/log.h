/* The log: one line an event on a descriptor, as key=value pairs.
 *
 *   2026-11-24T17:46:21.123Z level=info event=listening address=tcp://127.0.0.1:41234
 *
 * Under systemd (JOURNAL_STREAM set) the time is left out and the line starts
 * with the "<6>" priority prefix that the journal reads. A line is written with
 * one write(2), so lines of several threads never mix. Any thread may log. */
#ifndef SEM_BASE_LOG_H
#define SEM_BASE_LOG_H

#include <stdbool.h>

typedef enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG } log_level;

typedef struct sem_log {
    int fd;            /* where lines go, normally 2 */
    bool journal;      /* priority prefix instead of a time stamp */
    _Atomic int level; /* a log_level; what is above it is dropped; may change at reload */
} sem_log;

void log_init(sem_log *log, int fd, log_level level);

/* "error", "warning", "info", "debug"; false for anything else. */
bool log_level_parse(const char *text, log_level *out);

/* event is one word; format gives "key=value key=value". A value that may hold
 * spaces, quotes or newlines is printed through log_value(). log may be NULL. */
void log_event(sem_log *log, log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Writes text as a quoted, escaped value into buffer (size bytes, cut if it
 * does not fit) and returns buffer. */
const char *log_value(char *buffer, unsigned long size, const char *text);

#endif
