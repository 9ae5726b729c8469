/* Requests of one kind, some of them under way at a time, so that the daemon has its batches. */
#ifndef SEM_TOOLS_DEMO_WINDOW_H
#define SEM_TOOLS_DEMO_WINDOW_H

#include "base/buffer.h"
#include "base/status.h"
#include "proto/client.h"

#include <stddef.h>

enum { WINDOW_SIZE = 16 };

typedef struct window_calls {
    const char *method;
    /* The parameters of request `number`, into params (emptied before). */
    sem_status (*pack)(void *context, size_t number, buffer *params, sem_error *err);
    /* What came of it; in any order. */
    sem_status (*answer)(void *context, size_t number, const msgpack_object *result, sem_error *err);
    void *context;
} window_calls;

/* Sends the requests [from, to), WINDOW_SIZE at a time, and waits for all their answers. An error
 * answer is an error. Nothing else is under way on the connection. */
sem_status window_run(client *c, const window_calls *calls, size_t from, size_t to, sem_error *err);

#endif
