#include "tools/demo/rpc.h"

enum { SEARCH_HITS = 10 };

sem_status rpc_pack_search(buffer *out, const char *query, bool exact, bool log, bool text, sem_error *err)
{
    packer p;
    out->size = 0;
    pack_init(&p, out);
    pack_array(&p, 1);
    pack_map(&p, 3 + (exact ? 1 : 0) + (text ? 1 : 0));
    pack_str(&p, "query");
    pack_str(&p, query);
    pack_str(&p, "k");
    pack_uint(&p, SEARCH_HITS);
    pack_str(&p, "log");
    pack_bool(&p, log);
    if (exact) {
        pack_str(&p, "exact");
        pack_bool(&p, true);
    }
    if (text) {
        pack_str(&p, "with");
        pack_array(&p, 1);
        pack_str(&p, "text");
    }
    return p.failed ? sem_fail_memory(err, "a search") : SEM_OK;
}

static sem_status check_answer(const char *method, client_reply *reply, sem_error *err)
{
    sem_error said = {0};
    sem_status status = client_reply_status(reply, &said);
    if (status == SEM_OK)
        return SEM_OK;
    client_reply_free(reply);
    return sem_fail(err, status, "%s: %s", method, said.message);
}

sem_status rpc_receive(client *c, client_reply *reply, sem_error *err)
{
    sem_status status = client_receive(c, RPC_TIMEOUT_MS, reply, err);
    return status != SEM_OK ? status : check_answer("an answer", reply, err);
}

sem_status rpc_call(client *c, const char *method, const buffer *params, client_reply *reply, sem_error *err)
{
    sem_status status = client_call(c, method, params == NULL ? NULL : params->data, params == NULL ? 0 : params->size,
                                    RPC_TIMEOUT_MS, reply, err);
    return status != SEM_OK ? status : check_answer(method, reply, err);
}

size_t rpc_hit_rank(const msgpack_object *result, const char *name)
{
    const msgpack_object *hits = object_get(result, "hits");
    if (hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY)
        return 0;
    for (uint32_t i = 0; i < hits->via.array.size; i++) {
        const msgpack_object *id = object_get(&hits->via.array.ptr[i], "id");
        if (id != NULL && object_is(id, name))
            return i + 1;
    }
    return 0;
}
