/* Options of benchmarks that are numbers: name=value. */
#ifndef SEM_BENCH_NUMBERS_H
#define SEM_BENCH_NUMBERS_H

#include <stddef.h>

typedef struct number_option {
    const char *name; /* with its '=' */
    size_t *value, least, most;
} number_option;

typedef enum number_found {
    NUMBER_NONE,   /* the argument has none of the names */
    NUMBER_SET,    /* its value is set */
    NUMBER_REFUSED /* it is no number, or out of its range */
} number_found;

number_found numbers_set(const number_option *options, size_t count, const char *argument);

#endif
