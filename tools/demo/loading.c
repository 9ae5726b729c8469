#include "tools/demo/loading.h"

#include "base/clock.h"
#include "tools/demo/rpc.h"
#include "tools/demo/screen.h"

#include <stdint.h>
#include <stdio.h>

enum {
    BATCH = 50, /* documents an upsert: a bar that moves, few commits */
    WINDOW = 4  /* upserts under way: the encoder never waits for the client */
};

static sem_status send_batch(client *c, const loading *l, size_t from, size_t to, buffer *params, sem_error *err)
{
    packer p;
    uint32_t msgid;
    params->size = 0;
    pack_init(&p, params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "docs");
    pack_array(&p, to - from);
    for (size_t i = from; i < to; i++)
        l->pack(l->context, i, &p);
    return p.failed ? sem_fail_memory(err, "an upsert")
                    : client_send(c, "upsert", params->data, params->size, &msgid, err);
}

static sem_status load_all(client *c, const loading *l, screen_bar *bar, buffer *params, sem_error *err)
{
    size_t sent = 0, loaded = 0, under_way = 0;
    while (loaded < l->count) {
        sem_status status = SEM_OK;
        for (; status == SEM_OK && sent < l->count && under_way < WINDOW; under_way++) {
            size_t to = l->count - sent < BATCH ? l->count : sent + BATCH;
            status = send_batch(c, l, sent, to, params, err);
            sent = to;
        }
        client_reply reply;
        if (status == SEM_OK)
            status = rpc_receive(c, &reply, err);
        if (status != SEM_OK)
            return status;
        size_t upserted = object_uint(object_get(&reply.value, "upserted"), 0);
        client_reply_free(&reply);
        under_way--;
        if (upserted == 0)
            return sem_fail(err, SEM_INTERNAL, "upsert: the answer counts no document");
        loaded += upserted;
        char tail[64];
        snprintf(tail, sizeof tail, "%s of %s", screen_count(loaded), screen_count(l->count));
        screen_bar_draw(bar, "loading", loaded, l->count, tail);
    }
    return SEM_OK;
}

sem_status loading_run(client *c, const loading *l, sem_error *err)
{
    screen_bar bar;
    buffer params = {0};
    screen_bar_begin(&bar);
    uint64_t start = clock_monotonic_ns();
    sem_status status = load_all(c, l, &bar, &params, err);
    buffer_free(&params);
    if (status != SEM_OK)
        return status;
    double seconds = (double)(clock_monotonic_ns() - start) / 1e9;
    char text[96];
    snprintf(text, sizeof text, "%s documents in %.1f s (%.0f a second), all on disk", screen_count(l->count), seconds,
             (double)l->count / seconds);
    screen_bar_end(&bar, "loaded", text);
    return SEM_OK;
}
