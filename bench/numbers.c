#include "bench/numbers.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

number_found numbers_set(const number_option *options, size_t count, const char *argument)
{
    for (size_t i = 0; i < count; i++) {
        const number_option *o = &options[i];
        const size_t length = strlen(o->name);
        char *end;
        if (strncmp(argument, o->name, length) != 0)
            continue;
        *o->value = strtoul(argument + length, &end, 10);
        const bool number = argument[length] >= '0' && argument[length] <= '9' && *end == '\0';
        return number && *o->value >= o->least && *o->value <= o->most ? NUMBER_SET : NUMBER_REFUSED;
    }
    return NUMBER_NONE;
}
