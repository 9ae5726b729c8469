#include "tools/demo/window.h"

#include "tools/demo/rpc.h"

#include <stdint.h>

static sem_status take_answer(client *c, const window_calls *calls, const uint32_t *msgids, size_t from, size_t to,
                              sem_error *err)
{
    client_reply reply;
    sem_status status = rpc_receive(c, &reply, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = from; i < to; i++) {
        if (msgids[i - from] != reply.msgid)
            continue;
        status = calls->answer(calls->context, i, &reply.value, err);
        break;
    }
    client_reply_free(&reply);
    return status;
}

static sem_status run_one(client *c, const window_calls *calls, size_t from, size_t to, buffer *params, sem_error *err)
{
    uint32_t msgids[WINDOW_SIZE];
    sem_status status = SEM_OK;
    for (size_t i = from; i < to && status == SEM_OK; i++) {
        params->size = 0;
        status = calls->pack(calls->context, i, params, err);
        if (status == SEM_OK)
            status = client_send(c, calls->method, params->data, params->size, &msgids[i - from], err);
    }
    for (size_t i = from; i < to && status == SEM_OK; i++)
        status = take_answer(c, calls, msgids, from, to, err);
    return status;
}

sem_status window_run(client *c, const window_calls *calls, size_t from, size_t to, sem_error *err)
{
    buffer params = {0};
    sem_status status = SEM_OK;
    for (size_t next; from < to && status == SEM_OK; from = next) {
        next = to - from < WINDOW_SIZE ? to : from + WINDOW_SIZE;
        status = run_one(c, calls, from, next, &params, err);
    }
    buffer_free(&params);
    return status;
}
