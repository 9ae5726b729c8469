/* semd through its own client: a collection of external vectors. */
#include "proto/client.h"
#include "proto/pack.h"
#include "bench/server/peer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COLLECTION "vectors"

enum { ANSWER_MS = 600000, POLL_MS = 200, CALM_POLLS = 100 };

struct peer_session {
    client *c;
    size_t dim;
    double recall;
    buffer request;
};

static sem_status open_semd(peer_session **out, const char *address, size_t dim, sem_error *err)
{
    peer_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a session");
    s->dim = dim;
    sem_status status = client_connect(&s->c, address, 10000, err);
    if (status != SEM_OK) {
        free(s);
        return status;
    }
    *out = s;
    return SEM_OK;
}

static void close_semd(peer_session *s)
{
    if (s == NULL)
        return;
    client_close(s->c);
    buffer_free(&s->request);
    free(s);
}

static packer begin(peer_session *s)
{
    packer p;
    s->request.size = 0;
    pack_init(&p, &s->request);
    pack_array(&p, 1);
    return p;
}

static sem_status call(peer_session *s, const packer *p, const char *method, client_reply *reply, sem_error *err)
{
    if (p->failed)
        return sem_fail_memory(err, "a request");
    sem_status status = client_call(s->c, method, s->request.data, s->request.size, ANSWER_MS, reply, err);
    return status == SEM_OK ? client_reply_status(reply, err) : status;
}

static sem_status create(peer_session *s, sem_error *err)
{
    client_reply reply = {0};
    packer p = begin(s);
    pack_map(&p, 2);
    pack_str(&p, "name");
    pack_str(&p, COLLECTION);
    pack_str(&p, "options");
    pack_map(&p, 3);
    pack_str(&p, "vectors");
    pack_str(&p, "external");
    pack_str(&p, "dim");
    pack_uint(&p, s->dim);
    pack_str(&p, "lexical");
    pack_bool(&p, false);
    sem_status status = call(s, &p, "collection.create", &reply, err);
    client_reply_free(&reply);
    return status;
}

static sem_status insert(peer_session *s, uint64_t first, const float *vectors, size_t count, sem_error *err)
{
    client_reply reply = {0};
    packer p = begin(s);
    pack_map(&p, 2);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "docs");
    pack_array(&p, count);
    for (size_t i = 0; i < count; i++) {
        pack_map(&p, 3);
        pack_str(&p, "id");
        pack_uint(&p, first + i);
        pack_str(&p, "text");
        pack_str(&p, "");
        pack_str(&p, "vector");
        pack_bin(&p, vectors + i * s->dim, s->dim * sizeof *vectors);
    }
    sem_status status = call(s, &p, "upsert", &reply, err);
    client_reply_free(&reply);
    return status;
}

/* When its lists were trained, 0 before that; *count gets its documents. */
static sem_status look(peer_session *s, uint64_t *count, uint64_t *trained_at, sem_error *err)
{
    client_reply reply = {0};
    packer p = begin(s);
    pack_map(&p, 0);
    sem_status status = call(s, &p, "collection.list", &reply, err);
    for (uint32_t i = 0; status == SEM_OK && i < reply.value.via.array.size; i++) {
        const msgpack_object *one = &reply.value.via.array.ptr[i];
        if (!object_is(object_get(one, "name"), COLLECTION))
            continue;
        *count = object_uint(object_get(one, "count"), 0);
        *trained_at = object_uint(object_get(object_get(one, "index"), "trained_at"), 0);
    }
    client_reply_free(&reply);
    return status;
}

/* Training goes on beside everything: waits until none has come for longer than one takes. */
static sem_status settle(peer_session *s, uint64_t count, sem_error *err)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    uint64_t before = 0, trained_at = 0, there = 0;
    sem_status status = SEM_OK;
    for (int calm = 0; calm < CALM_POLLS && status == SEM_OK; calm++) {
        nanosleep(&pause, NULL);
        before = trained_at;
        status = look(s, &there, &trained_at, err);
        if (trained_at != before || trained_at == 0)
            calm = 0;
    }
    if (status == SEM_OK && there != count)
        return sem_fail(err, SEM_INTERNAL, "the collection holds %llu documents instead of %llu",
                        (unsigned long long)there, (unsigned long long)count);
    return status;
}

static sem_status set_effort(peer_session *s, double effort, sem_error *err)
{
    (void)err;
    s->recall = effort;
    return SEM_OK;
}

static sem_status search(peer_session *s, const float *query, size_t k, uint32_t *ids, size_t *found, sem_error *err)
{
    client_reply reply = {0};
    packer p = begin(s);
    pack_map(&p, 5);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "vector");
    pack_bin(&p, query, s->dim * sizeof *query);
    pack_str(&p, "k");
    pack_uint(&p, k);
    pack_str(&p, "recall");
    pack_double(&p, s->recall);
    pack_str(&p, "log");
    pack_bool(&p, false);
    *found = 0;
    sem_status status = call(s, &p, "search", &reply, err);
    const msgpack_object *hits = status == SEM_OK ? object_get(&reply.value, "hits") : NULL;
    if (status == SEM_OK && (hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY))
        status = sem_fail(err, SEM_INTERNAL, "an answer without hits");
    for (uint32_t i = 0; status == SEM_OK && i < hits->via.array.size && *found < k; i++)
        ids[(*found)++] = (uint32_t)object_uint(object_get(&hits->via.array.ptr[i], "id"), UINT32_MAX);
    client_reply_free(&reply);
    return status;
}

const peer peer_semd = {.name = "semd",
                        .open = open_semd,
                        .close = close_semd,
                        .create = create,
                        .insert = insert,
                        .settle = settle,
                        .set_effort = set_effort,
                        .search = search};
