/* A connection to semd, as the load generator's own requests need it. */
#ifndef SEM_BENCH_SERVER_CALLER_H
#define SEM_BENCH_SERVER_CALLER_H

#include "base/buffer.h"
#include "base/status.h"
#include "proto/client.h"
#include "proto/pack.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one thread; all zero before caller_open(). */
typedef struct caller {
    client *client;
    buffer request; /* under way */
} caller;

sem_status caller_open(caller *c, const char *address, sem_error *err);

/* Accepts one that was not opened. */
void caller_close(caller *c);

/* A packer for the next request's parameters: the map is the caller's. */
packer caller_begin(caller *c);

/* One document of `docs`: its id, text and vector, float32 [dim]. */
void caller_pack_document(packer *p, uint64_t id, const char *text, const float *vector, size_t dim);

/* Sends what was packed since caller_begin() and waits for the result. reply: the
 * caller's, for client_reply_free() on errors too, all zero before. */
sem_status caller_call(caller *c, const packer *p, const char *method, client_reply *reply, sem_error *err);

/* The same where nothing is asked of the result. */
sem_status caller_do(caller *c, const packer *p, const char *method, sem_error *err);

/* Creates a collection of the caller's own vectors. */
sem_status caller_create(caller *c, const char *collection, size_t dim, bool lexical, sem_error *err);

/* Training goes on beside everything: returns when the collection's lists are trained
 * and no training has come for longer than one takes. *count: its documents. */
sem_status caller_settle(caller *c, const char *collection, uint64_t *count, sem_error *err);

#endif
