/* Debian's package lists, as apt unpacks them, to one JSON line a package. */
#ifndef SEM_TOOLS_DEMO_TEXTS_H
#define SEM_TOOLS_DEMO_TEXTS_H

#include "base/status.h"

#include <stddef.h>

typedef struct texts_report {
    size_t english, italian; /* descriptions */
    size_t packages;         /* written: twins count once */
    size_t both;             /* of these, in both languages */
} texts_report;

/* Joins Translation-en, Translation-it and Packages by Description-md5 and
 * writes {"name", "section", "en", "it"?, "text"} in order of names: the
 * one-line descriptions and the English long one. Packages whose long
 * descriptions begin alike count once. */
sem_status texts_join(const char *english, const char *italian, const char *packages, const char *out,
                      texts_report *report, sem_error *err);

#endif
