/* semd through its own client: a collection of external vectors. */
#include "bench/server/caller.h"
#include "bench/server/peer.h"

#include <stdbool.h>
#include <stdlib.h>

#define COLLECTION "vectors"

struct peer_session {
    caller caller;
    size_t dim;
    double recall;
};

static sem_status open_semd(peer_session **out, const char *address, size_t dim, sem_error *err)
{
    peer_session *s = calloc(1, sizeof *s);
    if (s == NULL)
        return sem_fail_memory(err, "a session");
    s->dim = dim;
    sem_status status = caller_open(&s->caller, address, err);
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
    caller_close(&s->caller);
    free(s);
}

static sem_status create(peer_session *s, sem_error *err)
{
    return caller_create(&s->caller, COLLECTION, s->dim, false, err);
}

static sem_status insert(peer_session *s, uint64_t first, const float *vectors, size_t count, sem_error *err)
{
    packer p = caller_begin(&s->caller);
    pack_map(&p, 2);
    pack_str(&p, "collection");
    pack_str(&p, COLLECTION);
    pack_str(&p, "docs");
    pack_array(&p, count);
    for (size_t i = 0; i < count; i++)
        caller_pack_document(&p, first + i, "", vectors + i * s->dim, s->dim);
    return caller_do(&s->caller, &p, "upsert", err);
}

static sem_status settle(peer_session *s, uint64_t count, sem_error *err)
{
    uint64_t there;
    sem_status status = caller_settle(&s->caller, COLLECTION, &there, err);
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
    packer p = caller_begin(&s->caller);
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
    sem_status status = caller_call(&s->caller, &p, "search", &reply, err);
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
