#include "tools/demo/steps.h"

#include "tools/demo/loading.h"
#include "tools/demo/rpc.h"
#include "tools/demo/screen.h"
#include "tools/demo/window.h"

#include <stdio.h>
#include <string.h>

enum {
    FEEDBACK_BATCH = 100,
    SHOWN_HITS = 3,
    SHOWN_CELLS = 62 /* of a hit's text */
};

static void pack_package(void *context, size_t number, packer *p)
{
    const corpus_package *package = &((const corpus *)context)->packages[number];
    pack_map(p, 3);
    pack_str(p, "id");
    pack_str(p, package->name);
    pack_str(p, "text");
    pack_str(p, package->text);
    pack_str(p, "meta");
    pack_map(p, 1);
    pack_str(p, "section");
    pack_str(p, package->section);
}

sem_status steps_load(client *c, corpus *texts, sem_error *err)
{
    const loading all = {CORPUS_DOCUMENTS, pack_package, texts};
    return loading_run(c, &all, err);
}

static void show_hits(const msgpack_object *result)
{
    const msgpack_object *hits = object_get(result, "hits");
    if (hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY)
        return;
    for (uint32_t i = 0; i < hits->via.array.size && i < SHOWN_HITS; i++) {
        const msgpack_object *hit = &hits->via.array.ptr[i];
        const msgpack_object *id = object_get(hit, "id"), *text = object_get(hit, "text");
        if (id == NULL || id->type != MSGPACK_OBJECT_STR || text == NULL || text->type != MSGPACK_OBJECT_STR)
            continue;
        int size = (int)text->via.str.size, shown = size < SHOWN_CELLS ? size : SHOWN_CELLS;
        while (shown > 0 && shown < size && ((unsigned char)text->via.str.ptr[shown] & 0xC0) == 0x80)
            shown--; /* not within a character */
        printf("      %.3f  %-26.*s %.*s%s\n", object_double(object_get(hit, "score"), 0.0), (int)id->via.str.size,
               id->via.str.ptr, shown, text->via.str.ptr, shown < size ? "..." : "");
    }
}

sem_status steps_show_searches(client *c, sem_error *err)
{
    static const char *const queries[] = {"draw a plot of my measurements", "play chess against the computer",
                                          "keep an eye on network traffic"};
    buffer params = {0};
    sem_status status = SEM_OK;
    for (size_t i = 0; i < sizeof queries / sizeof *queries && status == SEM_OK; i++) {
        client_reply reply;
        status = rpc_pack_search(&params, queries[i], false, false, true, err);
        if (status == SEM_OK)
            status = rpc_call(c, "search", &params, &reply, err);
        if (status != SEM_OK)
            break;
        printf("    %s\n", queries[i]);
        show_hits(&reply.value);
        client_reply_free(&reply);
    }
    buffer_free(&params);
    return status;
}

/* What a batch of searches is for, and what to do with each answer. */
typedef struct batch {
    const corpus_package *packages;
    size_t count;
    bool italian, logged;
    /* rank: of the package among its hits, 0: not there */
    sem_status (*answer)(void *context, const corpus_package *p, const msgpack_object *result, size_t rank,
                         sem_error *err);
    void *context;
} batch;

static sem_status pack_query(void *context, size_t number, buffer *params, sem_error *err)
{
    const batch *b = context;
    const char *query = b->italian ? b->packages[number].italian : b->packages[number].english;
    return rpc_pack_search(params, query, !b->logged, b->logged, false, err);
}

static sem_status take_hits(void *context, size_t number, const msgpack_object *result, sem_error *err)
{
    const batch *b = context;
    const corpus_package *p = &b->packages[number];
    return b->answer(b->context, p, result, rpc_hit_rank(result, p->name), err);
}

/* Searches for packages[from, to) and hands out the answers. */
static sem_status search_for(client *c, batch *b, size_t from, size_t to, sem_error *err)
{
    const window_calls calls = {"search", pack_query, take_hits, b};
    return window_run(c, &calls, from, to, err);
}

typedef struct clicks {
    buffer params[WINDOW_SIZE]; /* of the clicks to send after this window */
    size_t ready;
    buffer pairs; /* of the feedback to send: the pairs, packed */
    size_t waiting;
    click_report *report;
} clicks;

static sem_status note_answer(void *context, const corpus_package *p, const msgpack_object *result, size_t rank,
                              sem_error *err)
{
    clicks *k = context;
    packer out;
    const msgpack_object *query_id = object_get(result, "query_id");
    if (query_id == NULL || query_id->type != MSGPACK_OBJECT_STR)
        return sem_fail(err, SEM_INTERNAL, "search: the answer has no query_id to click on");
    if (rank == 0) {
        pack_init(&out, &k->pairs);
        pack_map(&out, 3);
        pack_str(&out, "query");
        pack_str(&out, p->italian);
        pack_str(&out, "id");
        pack_str(&out, p->name);
        pack_str(&out, "label");
        pack_int(&out, 1);
        k->waiting++;
        k->report->feedback++;
    } else {
        k->params[k->ready].size = 0;
        pack_init(&out, &k->params[k->ready++]);
        pack_array(&out, 1);
        pack_map(&out, 2);
        pack_str(&out, "query_id");
        pack_strn(&out, query_id->via.str.ptr, query_id->via.str.size);
        pack_str(&out, "id");
        pack_str(&out, p->name);
        k->report->clicked++;
    }
    return out.failed ? sem_fail_memory(err, "a click") : SEM_OK;
}

static sem_status send_clicks(client *c, clicks *k, sem_error *err)
{
    uint32_t msgid;
    sem_status status = SEM_OK;
    for (size_t i = 0; i < k->ready && status == SEM_OK; i++)
        status = client_send(c, "click", k->params[i].data, k->params[i].size, &msgid, err);
    for (size_t i = 0; i < k->ready && status == SEM_OK; i++) {
        client_reply reply;
        status = rpc_receive(c, &reply, err);
        if (status == SEM_OK)
            client_reply_free(&reply);
    }
    k->ready = 0;
    return status;
}

static sem_status send_feedback(client *c, clicks *k, buffer *params, sem_error *err)
{
    packer p;
    client_reply reply;
    if (k->waiting == 0)
        return SEM_OK;
    params->size = 0;
    pack_init(&p, params);
    pack_array(&p, 1);
    pack_map(&p, 1);
    pack_str(&p, "pairs");
    pack_array(&p, k->waiting);
    pack_raw(&p, k->pairs.data, k->pairs.size);
    k->pairs.size = 0;
    k->waiting = 0;
    if (p.failed)
        return sem_fail_memory(err, "feedback");
    sem_status status = rpc_call(c, "feedback", params, &reply, err);
    if (status == SEM_OK)
        client_reply_free(&reply);
    return status;
}

sem_status steps_click(client *c, const corpus *texts, click_report *report, sem_error *err)
{
    clicks k = {.report = report};
    batch b = {texts->packages + CORPUS_HELDOUT, CORPUS_CLICKED, true, true, note_answer, &k};
    buffer params = {0};
    screen_bar bar;
    sem_status status = SEM_OK;
    memset(report, 0, sizeof *report);
    screen_bar_begin(&bar);
    for (size_t from = 0; from < b.count && status == SEM_OK; from += WINDOW_SIZE) {
        size_t to = b.count - from < WINDOW_SIZE ? b.count : from + WINDOW_SIZE;
        status = search_for(c, &b, from, to, err);
        if (status == SEM_OK)
            status = send_clicks(c, &k, err);
        if (status == SEM_OK && (k.waiting >= FEEDBACK_BATCH || to == b.count))
            status = send_feedback(c, &k, &params, err);
        if (status == SEM_OK)
            screen_bar_draw(&bar, "clicking", to, b.count, "");
    }
    char text[64];
    snprintf(text, sizeof text, "%s Italian descriptions", screen_count(b.count));
    if (status == SEM_OK)
        screen_bar_end(&bar, "searched", text);
    for (size_t i = 0; i < WINDOW_SIZE; i++)
        buffer_free(&k.params[i]);
    buffer_free(&k.pairs);
    buffer_free(&params);
    return status;
}

static sem_status add_rank(void *context, const corpus_package *p, const msgpack_object *result, size_t rank,
                           sem_error *err)
{
    (void)p;
    (void)result;
    (void)err;
    quality *sum = context;
    sum->mrr += rank == 0 ? 0.0 : 1.0 / (double)rank;
    sum->top1 += rank == 1;
    return SEM_OK;
}

sem_status steps_measure(client *c, const corpus *texts, bool italian, quality *out, sem_error *err)
{
    memset(out, 0, sizeof *out);
    batch b = {texts->packages, CORPUS_HELDOUT, italian, false, add_rank, out};
    sem_status status = search_for(c, &b, 0, b.count, err);
    out->mrr /= CORPUS_HELDOUT;
    out->top1 /= CORPUS_HELDOUT;
    return status;
}
