/* A vector database as the load generator sees it: one connection of one thread. */
#ifndef SEM_BENCH_SERVER_PEER_H
#define SEM_BENCH_SERVER_PEER_H

#include "base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct peer_session peer_session;

enum { PEER_FOUND_MAX = 100 };

/* Vectors are unit length float32 [dim]; a document's id is the number of its row. */
typedef struct peer {
    const char *name;
    /* address is semd's own form, host:port (redis) or a connection string (postgres). */
    sem_status (*open)(peer_session **out, const char *address, size_t dim, sem_error *err);
    void (*close)(peer_session *s); /* accepts NULL */
    /* Makes an empty collection; called once. */
    sem_status (*create)(peer_session *s, sem_error *err);
    /* vectors [count, dim] become the documents from first on, in one request or one
     * transaction; what the server promises of an acknowledged write holds on return. */
    sem_status (*insert)(peer_session *s, uint64_t first, const float *vectors, size_t count, sem_error *err);
    /* Returns when all that was inserted is indexed. */
    sem_status (*settle)(peer_session *s, uint64_t count, sem_error *err);
    /* effort is what the server calls it: recall, EF_RUNTIME, ef_search. Called before search. */
    sem_status (*set_effort)(peer_session *s, double effort, sem_error *err);
    /* The k nearest, best first, in ids [k]; *found of them. */
    sem_status (*search)(peer_session *s, const float *query, size_t k, uint32_t *ids, size_t *found, sem_error *err);
} peer;

extern const peer peer_semd, peer_redis, peer_postgres;

#endif
