/* The files that `semctl load` was given, folders walked. */
#ifndef SEM_TOOLS_SEMCTL_FILES_H
#define SEM_TOOLS_SEMCTL_FILES_H

#include "base/files.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOAD_TEXT_MAX = 64 << 20 /* bytes of a text file; the server's own limit is lower */ };

typedef struct input_file {
    char *path;     /* owned */
    const char *id; /* inside path: relative to the folder that was named, else the path as it was named */
    uint64_t bytes;
    bool is_lines; /* JSON Lines */
} input_file;

typedef struct input_list {
    input_file *files;
    size_t count, capacity;
    uint64_t bytes; /* of all */
} input_list;

/* Files as named; of folders every regular file below, in order of name, those
 * whose name begins with a dot and links left out. */
sem_status input_list_find(input_list *list, char *const *paths, size_t count, sem_error *err);
void input_list_free(input_list *list);

#endif
