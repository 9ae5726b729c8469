/* Python with a package that a test needs. */
#ifndef SEM_TESTS_COMMON_PYTHON_H
#define SEM_TESTS_COMMON_PYTHON_H

#include "base/files.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A Python that has the package, the machine's or one that a benchmark made for itself; false: none has. */
static inline bool find_python(char python[FILES_PATH_MAX], const char *package)
{
    static const char *const places[] = {"python3", "build/venv/encode/bin/python", "build/venv/train/bin/python"};
    const char *root = getenv("SEMD_ROOT");
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char line[2 * FILES_PATH_MAX];
        if (strchr(places[i], '/') == NULL)
            snprintf(python, FILES_PATH_MAX, "%s", places[i]);
        else
            snprintf(python, FILES_PATH_MAX, "%s/%s", root != NULL && *root != '\0' ? root : ".", places[i]);
        snprintf(line, sizeof line,
                 "'%s' -c 'import importlib.util as u, sys; sys.exit(u.find_spec(\"%s\") is None)' 2>/dev/null", python,
                 package);
        if (system(line) == 0)
            return true;
    }
    fprintf(stderr, "skipped: no Python here has the package %s (make bench-encode installs it)\n", package);
    return false;
}

#endif
