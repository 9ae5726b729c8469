/* What the load generator's commands share. */
#ifndef SEM_BENCH_SERVER_LOAD_H
#define SEM_BENCH_SERVER_LOAD_H

#include "base/status.h"

#include <stddef.h>

enum { LOAD_DIM = 384 };

typedef struct load_options {
    const char *address, *command, *files[3];
    size_t clients, rows, first, batch;
    double seconds, effort;
} load_options;

/* A file in memory until the program ends. */
typedef struct load_file {
    void *data;
    size_t size; /* bytes */
} load_file;

sem_status load_map(load_file *out, const char *path, sem_error *err);

/* Seconds of the monotonic clock. */
double load_now(void);

/* For qsort over doubles. */
int load_by_value(const void *left, const void *right);

#endif
