#include "daemon/config_file.h"

#include "base/files.h"

#include <ini.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20 /* of a configuration file: far more than any real one has */ };

/* One reading of a file. inih asks read_line() for lines and calls on_value()
 * for values, but tells no line numbers: they are counted here. */
typedef struct file_reading {
    const char *path;
    const char *rest; /* what is left of the text */
    size_t line;      /* of the text that inih is at, from 1 */
    const config_taker *to;
    bool failed; /* the error is filled; later lines are not looked at */
    sem_error *err;
} file_reading;

/* Refuses what inih would take for something else: cut lines, continuation
 * lines, unknown sections without keys, text behind a section's bracket. */
static sem_status check_line(const config_taker *to, const char *line, size_t length, sem_error *err)
{
    char section[CONFIG_LINE_MAX + 1];
    if (length > CONFIG_LINE_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the line has %zu bytes (at most %d)", length, CONFIG_LINE_MAX);
    if (memchr(line, '\0', length) != NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the line holds a NUL byte");
    size_t blank = 0;
    while (blank < length && (line[blank] == ' ' || line[blank] == '\t' || line[blank] == '\r'))
        blank++;
    if (blank == length || line[blank] == '#' || line[blank] == ';')
        return SEM_OK;
    if (blank > 0)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the line is indented (a key starts at the left edge)");
    if (line[0] != '[')
        return SEM_OK;
    const char *end = memchr(line, ']', length);
    if (end == NULL)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the section's ']' is missing");
    size_t name = (size_t)(end - line) - 1;
    memcpy(section, line + 1, name);
    section[name] = '\0';
    if (name > CONFIG_SECTION_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the section's name has %zu bytes (at most %d)", name,
                        CONFIG_SECTION_MAX);
    sem_status status = to->section(to->context, section, err);
    if (status != SEM_OK)
        return status;
    for (end++; end < line + length && strchr(" \t\r", *end) != NULL; end++)
        ;
    if (end < line + length && *end != ';' && *end != '#')
        return sem_fail(err, SEM_INVALID_ARGUMENT, "text follows [%s]", section);
    return SEM_OK;
}

static sem_status check_lines(const config_taker *to, const char *path, const char *text, size_t size, sem_error *err)
{
    size_t number = 1;
    const char *end = text + size;
    if (size >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        text += 3;
    for (const char *line = text; line < end; number++) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline != NULL ? newline : end) - line);
        if (check_line(to, line, length, err) != SEM_OK)
            return sem_error_prefix(err, "%s:%zu", path, number);
        line += length + 1;
    }
    return SEM_OK;
}

/* Like fgets(). Every line fits: check_lines() has seen to it. */
static char *read_line(char *into, int size, void *stream)
{
    file_reading *reading = stream;
    size_t length = strcspn(reading->rest, "\n");
    if (reading->rest[0] == '\0' || size < 2)
        return NULL;
    if (reading->rest[length] == '\n')
        length++;
    if (length > (size_t)size - 1)
        length = (size_t)size - 1;
    memcpy(into, reading->rest, length);
    into[length] = '\0';
    reading->rest += length;
    reading->line++;
    return into;
}

static int on_value(void *user, const char *section, const char *name, const char *value)
{
    file_reading *reading = user;
    if (reading->failed)
        return 0;
    if (section[0] == '\0')
        sem_fail(reading->err, SEM_INVALID_ARGUMENT, "the key %s stands before the first [section]", name);
    else if (reading->to->value(reading->to->context, section, name, value, reading->line, reading->err) == SEM_OK)
        return 1;
    sem_error_prefix(reading->err, "%s:%zu", reading->path, reading->line);
    reading->failed = true;
    return 0;
}

sem_status config_file_read(const char *path, const config_taker *to, sem_error *err)
{
    char *text = NULL;
    size_t size = 0;
    sem_status status = files_read(path, FILE_BYTES_MAX, &text, &size, err);
    if (status != SEM_OK)
        return status;
    sem_error inner;
    file_reading reading = {.path = path, .rest = text, .to = to, .err = err == NULL ? &inner : err};
    status = check_lines(to, path, text, size, err);
    if (status == SEM_OK) {
        int line = ini_parse_stream(read_line, &reading, on_value, &reading);
        if (reading.failed)
            status = SEM_INVALID_ARGUMENT;
        else if (line > 0)
            status =
                sem_fail(err, SEM_INVALID_ARGUMENT, "%s:%d: expected [section], key = value or a comment", path, line);
        else if (line < 0)
            status = sem_fail_memory(err, path);
    }
    free(text);
    return status;
}
