/* Redis with RediSearch through hiredis: hashes with an HNSW index over them. */
#include "bench/server/peer.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { POLL_MS = 200 };

struct peer_session {
    redisContext *c;
    size_t dim;
    char effort[32];
};

static sem_status open_redis(peer_session **out, const char *address, size_t dim, sem_error *err)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    if (colon == NULL || (size_t)(colon - address) >= sizeof host)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s is no host:port", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    peer_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a session");
    s->dim = dim;
    s->c = redisConnect(host, atoi(colon + 1));
    if (s->c == NULL || s->c->err != 0) {
        sem_status status = sem_fail(err, SEM_UNAVAILABLE, "%s: %s", address, s->c != NULL ? s->c->errstr : "memory");
        if (s->c != NULL)
            redisFree(s->c);
        free(s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

static void close_redis(peer_session *s)
{
    if (s == NULL)
        return;
    redisFree(s->c);
    free(s);
}

/* Takes the reply over where it is an error. */
static sem_status check(peer_session *s, redisReply *reply, sem_error *err)
{
    if (reply == NULL)
        return sem_fail(err, SEM_UNAVAILABLE, "redis: %s", s->c->errstr);
    if (reply->type != REDIS_REPLY_ERROR)
        return SEM_OK;
    sem_status status = sem_fail(err, SEM_INTERNAL, "redis: %s", reply->str);
    freeReplyObject(reply);
    return status;
}

static sem_status create(peer_session *s, sem_error *err)
{
    redisReply *reply = redisCommand(s->c,
                                     "FT.CREATE vectors ON HASH PREFIX 1 d: SCHEMA v VECTOR HNSW 10 TYPE FLOAT32 DIM "
                                     "%d DISTANCE_METRIC IP M 16 EF_CONSTRUCTION 200",
                                     (int)s->dim);
    sem_status status = check(s, reply, err);
    if (status == SEM_OK)
        freeReplyObject(reply);
    return status;
}

static sem_status insert(peer_session *s, uint64_t first, const float *vectors, size_t count, sem_error *err)
{
    sem_status status = SEM_OK;
    size_t sent = 0;
    for (; sent < count; sent++)
        if (redisAppendCommand(s->c, "HSET d:%llu v %b", (unsigned long long)first + sent, vectors + sent * s->dim,
                               s->dim * sizeof *vectors) != REDIS_OK)
            return sem_fail(err, SEM_UNAVAILABLE, "redis: %s", s->c->errstr);
    for (size_t i = 0; i < sent && status == SEM_OK; i++) {
        void *reply = NULL;
        if (redisGetReply(s->c, &reply) != REDIS_OK)
            reply = NULL;
        status = check(s, reply, err);
        if (status == SEM_OK)
            freeReplyObject(reply);
    }
    return status;
}

static sem_status indexed(peer_session *s, uint64_t *count, bool *busy, sem_error *err)
{
    redisReply *reply = redisCommand(s->c, "FT.INFO vectors");
    sem_status status = check(s, reply, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i + 1 < reply->elements; i += 2) {
        const redisReply *value = reply->element[i + 1];
        const char *text = value->str != NULL ? value->str : "";
        if (strcmp(reply->element[i]->str, "num_docs") == 0)
            *count = value->type == REDIS_REPLY_INTEGER ? (uint64_t)value->integer : strtoull(text, NULL, 10);
        else if (strcmp(reply->element[i]->str, "indexing") == 0)
            *busy = value->type == REDIS_REPLY_INTEGER ? value->integer != 0 : strcmp(text, "0") != 0;
    }
    freeReplyObject(reply);
    return SEM_OK;
}

static sem_status settle(peer_session *s, uint64_t count, sem_error *err)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    uint64_t there = 0;
    bool busy = true;
    sem_status status = indexed(s, &there, &busy, err);
    while (status == SEM_OK && (busy || there < count)) {
        nanosleep(&pause, NULL);
        status = indexed(s, &there, &busy, err);
    }
    return status;
}

static sem_status set_effort(peer_session *s, double effort, sem_error *err)
{
    (void)err;
    snprintf(s->effort, sizeof s->effort, "%d", (int)effort);
    return SEM_OK;
}

static sem_status search(peer_session *s, const float *query, size_t k, uint32_t *ids, size_t *found, sem_error *err)
{
    char what[128];
    snprintf(what, sizeof what, "*=>[KNN %zu @v $q EF_RUNTIME %s AS s]", k, s->effort);
    redisReply *reply = redisCommand(s->c, "FT.SEARCH vectors %s PARAMS 2 q %b SORTBY s NOCONTENT LIMIT 0 %d DIALECT 2",
                                     what, query, s->dim * sizeof *query, (int)k);
    sem_status status = check(s, reply, err);
    if (status != SEM_OK)
        return status;
    *found = 0;
    for (size_t i = 1; i < reply->elements && *found < k; i++)
        ids[(*found)++] = (uint32_t)strtoul(reply->element[i]->str + strlen("d:"), NULL, 10);
    freeReplyObject(reply);
    return SEM_OK;
}

const peer peer_redis = {.name = "redis",
                         .open = open_redis,
                         .close = close_redis,
                         .create = create,
                         .insert = insert,
                         .settle = settle,
                         .set_effort = set_effort,
                         .search = search};
