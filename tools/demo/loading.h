/* Loading many documents with a progress bar. */
#ifndef SEM_TOOLS_DEMO_LOADING_H
#define SEM_TOOLS_DEMO_LOADING_H

#include "base/status.h"
#include "proto/client.h"
#include "proto/pack.h"

#include <stddef.h>

typedef struct loading {
    size_t count; /* of documents */
    /* Document `number` as a map of `docs`. */
    void (*pack)(void *context, size_t number, packer *p);
    void *context;
} loading;

/* Upserts them all, some requests under way at a time; they are on disk when it returns. Ends the
 * bar's line with how fast that was. */
sem_status loading_run(client *c, const loading *l, sem_error *err);

#endif
