/* Values that go by a name in settings and files. */
#ifndef SEM_BASE_NAMES_H
#define SEM_BASE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* *place = that of name among names [count]; false (and *place untouched) when it is none of them. */
static inline bool names_find(const char *const *names, size_t count, const char *name, size_t *place)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        *place = i;
        return true;
    }
    return false;
}

#endif
