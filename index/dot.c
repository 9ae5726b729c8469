#include "index/dot.h"

#include <stdlib.h>
#include <string.h>

const dot_kernel *dot_choose(void)
{
    static const dot_kernel *const levels[] = {&dot_avx512, &dot_avx2, &dot_generic};
    enum { LEVELS = sizeof levels / sizeof levels[0] };
    size_t first = 0;
    const char *forced = getenv("SEMD_SIMD");
    for (size_t i = 0; forced != NULL && i < LEVELS; i++)
        if (strcmp(forced, levels[i]->name) == 0 || (strcmp(forced, "avxvnni") == 0 && levels[i] == &dot_avx2))
            first = i;
    for (size_t i = first; i < LEVELS; i++)
        if (levels[i]->available())
            return levels[i];
    return &dot_generic;
}
