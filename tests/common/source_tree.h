/* The project's own files, for tests of the project as a whole. */
#ifndef SEM_TESTS_COMMON_SOURCE_TREE_H
#define SEM_TESTS_COMMON_SOURCE_TREE_H

#include <stdbool.h>
#include <stddef.h>

/* Calls visit(context, path, content) for each regular file below the project's
 * folders (build and hidden ones are left out) whose name ends in one of the
 * suffixes (NULL ends them), in order of paths. path is relative to the root
 * ("base/log.c"); content ends with NUL and may be changed. Returns how many. */
size_t source_tree_visit(const char *const *suffixes, void (*visit)(void *context, const char *path, char *content),
                         void *context);

/* One file by its path from the root, malloc'd and NUL-terminated; NULL if it is missing. */
char *source_tree_read(const char *path);

/* The next line of *text, cut at its end; NULL after the last. */
char *source_tree_line(char **text);

/* Notes a broken rule: prints the line and counts it, so that one run shows all. */
void source_tree_complain(void *count, const char *format, ...) __attribute__((format(printf, 2, 3)));

bool text_begins(const char *text, const char *with);
bool text_ends(const char *text, const char *with);

#endif
