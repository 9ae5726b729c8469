/* An INI file read by inih, with lines' numbers and without inih's liberties: nothing
 * is cut, continued or passed over. */
#ifndef SEM_DAEMON_CONFIG_FILE_H
#define SEM_DAEMON_CONFIG_FILE_H

#include "base/status.h"

#include <stddef.h>

enum {
    CONFIG_LINE_MAX = 198,  /* bytes of a line; inih cuts longer ones */
    CONFIG_SECTION_MAX = 48 /* bytes of a section's name; inih cuts longer ones */
};

/* What a file's content is given to; errors get the place put before them. */
typedef struct config_taker {
    /* Each section's head, before any value. */
    sem_status (*section)(void *context, const char *name, sem_error *err);
    /* Each value, in order; its section is never "". line: from 1. */
    sem_status (*value)(void *context, const char *section, const char *name, const char *value, size_t line,
                        sem_error *err);
    void *context;
} config_taker;

sem_status config_file_read(const char *path, const config_taker *to, sem_error *err);

#endif
