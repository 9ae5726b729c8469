/* A file of lines, read whole. */
#ifndef SEM_TOOLS_SEMCTL_LINES_H
#define SEM_TOOLS_SEMCTL_LINES_H

#include "base/buffer.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* The bytes of the UTF-8 mark that some programs put before a text, or 0. */
size_t lines_mark(const void *text, size_t size);

/* The bytes of a file or a pipe, or of standard input for "-", at most 64 MiB, without a
 * mark. *content is the caller's to free in every case. */
sem_status lines_read(const char *path, buffer *content, sem_error *err);

/* The next line from *at, without its end; false when there is none before end. */
bool lines_next(const char **at, const char *end, const char **line, size_t *length);

#endif
