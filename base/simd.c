#include "base/simd.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct simd_level {
    const char *name;
    simd_width width;
} simd_level;

static const simd_level *find_level(const char *name)
{
    static const simd_level levels[] = {{"generic", SIMD_GENERIC},
                                        {"avx2", SIMD_AVX2},
                                        {"avxvnni", SIMD_AVX2},
                                        {"avx512", SIMD_AVX512},
                                        {"amx", SIMD_AVX512}};
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (strcmp(levels[i].name, name) == 0)
            return &levels[i];
    return NULL;
}

const char *simd_wanted(void)
{
    const char *name = getenv("SEMD_SIMD");
    return name != NULL && name[0] != '\0' ? name : NULL;
}

bool simd_is_level(const char *name)
{
    return find_level(name) != NULL;
}

simd_width simd_widest(void)
{
    const char *wanted = simd_wanted();
    const simd_level *level = wanted != NULL ? find_level(wanted) : NULL;
    return level != NULL ? level->width : SIMD_AVX512;
}
