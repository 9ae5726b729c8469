/* A growable run of bytes. */
#ifndef SEM_BASE_BUFFER_H
#define SEM_BASE_BUFFER_H

#include "base/pool.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct buffer {
    unsigned char *data; /* owned; NULL while empty */
    size_t size;         /* bytes in use */
    size_t capacity;     /* bytes allocated */
    pool *memory;        /* borrowed: where data is taken from; NULL: malloc */
} buffer;

/* Makes room for `more` bytes behind size; false when memory is out (the
 * content is then unchanged). A zeroed struct is an empty buffer. */
bool buffer_reserve(buffer *b, size_t more);

/* Appends; false when memory is out (the content is then unchanged). */
bool buffer_append(buffer *b, const void *data, size_t size);

/* Appends printf(...), without its NUL; false as of buffer_append. */
bool buffer_print(buffer *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool buffer_print_list(buffer *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));

/* Frees the memory and leaves an empty buffer. */
void buffer_free(buffer *b);

#endif
