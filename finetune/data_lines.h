/* Lines of a text file, gzip or not, one after the other in little memory. */
#ifndef SEM_FINETUNE_DATA_LINES_H
#define SEM_FINETUNE_DATA_LINES_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct data_lines data_lines;

/* Opens a regular file. longest:
 * bytes of a line; of a longer one the beginning is given. A file that begins with
 * gzip's two bytes is decompressed; a byte order mark is passed over. */
sem_status data_lines_open(data_lines **out, const char *path, size_t longest, sem_error *err);
void data_lines_close(data_lines *l); /* accepts NULL */

typedef struct data_line {
    const char *bytes; /* without its end ("\n" or "\r\n"); valid until the next call */
    size_t length;
    bool too_long; /* bytes holds only its beginning */
} data_line;

/* *more false: the file has ended. A gzip file that is cut or damaged is an error
 * that names it. */
sem_status data_lines_next(data_lines *l, data_line *line, bool *more, sem_error *err);

/* Where the next line begins: bytes of the text from its start (of what was
 * decompressed), and lines given so far. */
void data_lines_tell(const data_lines *l, uint64_t *offset, uint64_t *lines);
/* Goes back or on to what data_lines_tell said; in a gzip file all before it is
 * decompressed once more. */
sem_status data_lines_seek(data_lines *l, uint64_t offset, uint64_t lines, sem_error *err);

#endif
