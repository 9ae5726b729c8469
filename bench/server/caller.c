#include "bench/server/caller.h"

#include <time.h>

enum { CONNECT_MS = 10000, ANSWER_MS = 600000, POLL_MS = 200, CALM_POLLS = 100 };

sem_status caller_open(caller *c, const char *address, sem_error *err)
{
    return client_connect(&c->client, address, CONNECT_MS, err);
}

void caller_close(caller *c)
{
    client_close(c->client);
    buffer_free(&c->request);
}

packer caller_begin(caller *c)
{
    packer p;
    c->request.size = 0;
    pack_init(&p, &c->request);
    pack_array(&p, 1);
    return p;
}

void caller_pack_document(packer *p, uint64_t id, const char *text, const float *vector, size_t dim)
{
    pack_map(p, 3);
    pack_str(p, "id");
    pack_uint(p, id);
    pack_str(p, "text");
    pack_str(p, text);
    pack_str(p, "vector");
    pack_bin(p, vector, dim * sizeof *vector);
}

sem_status caller_call(caller *c, const packer *p, const char *method, client_reply *reply, sem_error *err)
{
    if (p->failed)
        return sem_fail_memory(err, "a request");
    sem_status status = client_call(c->client, method, c->request.data, c->request.size, ANSWER_MS, reply, err);
    return status == SEM_OK ? client_reply_status(reply, err) : status;
}

sem_status caller_do(caller *c, const packer *p, const char *method, sem_error *err)
{
    client_reply reply = {0};
    sem_status status = caller_call(c, p, method, &reply, err);
    client_reply_free(&reply);
    return status;
}

sem_status caller_create(caller *c, const char *collection, size_t dim, bool lexical, sem_error *err)
{
    packer p = caller_begin(c);
    pack_map(&p, 2);
    pack_str(&p, "name");
    pack_str(&p, collection);
    pack_str(&p, "options");
    pack_map(&p, 3);
    pack_str(&p, "vectors");
    pack_str(&p, "external");
    pack_str(&p, "dim");
    pack_uint(&p, dim);
    pack_str(&p, "lexical");
    pack_bool(&p, lexical);
    return caller_do(c, &p, "collection.create", err);
}

/* When its lists were trained, 0 before that; *count gets its documents. */
static sem_status look(caller *c, const char *collection, uint64_t *count, uint64_t *trained_at, sem_error *err)
{
    client_reply reply = {0};
    packer p = caller_begin(c);
    pack_map(&p, 0);
    sem_status status = caller_call(c, &p, "collection.list", &reply, err);
    for (uint32_t i = 0; status == SEM_OK && i < reply.value.via.array.size; i++) {
        const msgpack_object *one = &reply.value.via.array.ptr[i];
        if (!object_is(object_get(one, "name"), collection))
            continue;
        *count = object_uint(object_get(one, "count"), 0);
        *trained_at = object_uint(object_get(object_get(one, "index"), "trained_at"), 0);
    }
    client_reply_free(&reply);
    return status;
}

sem_status caller_settle(caller *c, const char *collection, uint64_t *count, sem_error *err)
{
    const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
    uint64_t before = 0, trained_at = 0;
    sem_status status = SEM_OK;
    *count = 0;
    for (int calm = 0; calm < CALM_POLLS && status == SEM_OK; calm++) {
        nanosleep(&pause, NULL);
        before = trained_at;
        status = look(c, collection, count, &trained_at, err);
        if (trained_at != before || trained_at == 0)
            calm = 0;
    }
    return status;
}
