#include "tools/semctl_lines.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { FILE_BYTES_MAX = 64 << 20, READ_CHUNK = 1 << 16 };

size_t lines_mark(const void *text, size_t size)
{
    static const char mark[] = "\xef\xbb\xbf";
    const size_t length = sizeof mark - 1;
    return size >= length && memcmp(text, mark, length) == 0 ? length : 0;
}

sem_status lines_read(const char *path, buffer *content, sem_error *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *in = standard ? stdin : fopen(path, "re");
    sem_status status = SEM_OK;
    if (in == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "cannot open %s: %s", path, strerror(errno));
    while (status == SEM_OK && !feof(in)) {
        if (!buffer_reserve(content, READ_CHUNK)) {
            status = sem_fail_memory(err, path);
            break;
        }
        content->size += fread(content->data + content->size, 1, READ_CHUNK, in);
        if (ferror(in))
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "cannot read %s: %s", path, strerror(errno));
        else if (content->size > FILE_BYTES_MAX)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: more than %d bytes", path, FILE_BYTES_MAX);
    }
    if (!standard)
        fclose(in);
    size_t mark = content->size > 0 ? lines_mark(content->data, content->size) : 0;
    if (mark > 0) {
        content->size -= mark;
        memmove(content->data, content->data + mark, content->size);
    }
    return status;
}

bool lines_next(const char **at, const char *end, const char **line, size_t *length)
{
    if (*at >= end)
        return false;
    const char *stop = memchr(*at, '\n', (size_t)(end - *at));
    *line = *at;
    *length = (size_t)((stop != NULL ? stop : end) - *at);
    *at += *length + 1;
    if (*length > 0 && (*line)[*length - 1] == '\r')
        (*length)--;
    return true;
}
