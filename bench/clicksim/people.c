#include "bench/clicksim/people.h"

#include "proto/pack.h"
#include "tools/demo/loading.h"
#include "tools/demo/rpc.h"
#include "tools/demo/screen.h"
#include "tools/demo/window.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUERY_ID_MAX = 65,
    /* Without an end to it, a world in which nobody clicks would never end. */
    SEARCHES_A_CLICK_MAX = 40
};

/* --- who asks what */

static random_state dice(const people *p, uint64_t search, uint64_t purpose)
{
    random_state r;
    random_seed(&r, random_at(p->seed + purpose, search));
    return r;
}

static void draw_search(const people *p, uint64_t search, size_t *user, size_t *query)
{
    random_state r = dice(p, search, 0);
    *user = (size_t)random_below(&r, p->users);
    *query = (size_t)random_below(&r, p->world->asked.count);
}

/* --- searching and clicking */

typedef struct click {
    char query_id[QUERY_ID_MAX];
    uint64_t id;
} click;

typedef struct clicking {
    people *p;
    uint64_t first; /* the window's first search */
    click clicks[WINDOW_SIZE * PEOPLE_HITS];
    size_t count;
    people_round *round;
} clicking;

static sem_status pack_search(void *context, size_t number, buffer *params, sem_error *err)
{
    const clicking *k = context;
    size_t user, query;
    char name[32];
    packer p;
    draw_search(k->p, k->first + number, &user, &query);
    snprintf(name, sizeof name, "person %zu", user + 1);
    pack_init(&p, params);
    pack_array(&p, 1);
    pack_map(&p, 3);
    pack_str(&p, "query");
    pack_str(&p, k->p->world->asked.items[query].text);
    pack_str(&p, "k");
    pack_uint(&p, PEOPLE_HITS);
    pack_str(&p, "user");
    pack_str(&p, name);
    return p.failed ? sem_fail_memory(err, "a search") : SEM_OK;
}

/* The ids of the hits; how many, at most PEOPLE_HITS. */
static size_t hit_ids(const msgpack_object *result, uint64_t ids[PEOPLE_HITS])
{
    const msgpack_object *hits = object_get(result, "hits");
    size_t count = 0;
    if (hits == NULL || hits->type != MSGPACK_OBJECT_ARRAY)
        return 0;
    for (uint32_t i = 0; i < hits->via.array.size && count < PEOPLE_HITS; i++)
        ids[count++] = object_uint(object_get(&hits->via.array.ptr[i], "id"), UINT64_MAX);
    return count;
}

static sem_status look_at_hits(void *context, size_t number, const msgpack_object *result, sem_error *err)
{
    clicking *k = context;
    const people *p = k->p;
    uint64_t ids[PEOPLE_HITS];
    bool relevant[PEOPLE_HITS], clicked[PEOPLE_HITS], found = false;
    size_t user, query, count = hit_ids(result, ids);
    const msgpack_object *query_id = object_get(result, "query_id");
    if (query_id == NULL || query_id->type != MSGPACK_OBJECT_STR || query_id->via.str.size >= QUERY_ID_MAX)
        return sem_fail(err, SEM_INTERNAL, "search: the answer has no query_id to click on");
    draw_search(p, k->first + number, &user, &query);
    for (size_t i = 0; i < count; i++) {
        relevant[i] = world_is_relevant(&p->world->asked.items[query], ids[i]);
        found |= relevant[i];
    }
    random_state r = dice(p, k->first + number, 1);
    click_draw(&p->model, relevant, count, &r, clicked);
    k->round->searches++;
    k->round->found += found;
    for (size_t i = 0; i < count; i++) {
        if (!clicked[i])
            continue;
        click *c = &k->clicks[k->count++];
        snprintf(c->query_id, sizeof c->query_id, "%.*s", (int)query_id->via.str.size, query_id->via.str.ptr);
        c->id = ids[i];
        k->round->clicks++;
        k->round->right += relevant[i];
    }
    return SEM_OK;
}

static sem_status pack_click(void *context, size_t number, buffer *params, sem_error *err)
{
    const click *c = &((const clicking *)context)->clicks[number];
    packer p;
    pack_init(&p, params);
    pack_array(&p, 1);
    pack_map(&p, 2);
    pack_str(&p, "query_id");
    pack_str(&p, c->query_id);
    pack_str(&p, "id");
    pack_uint(&p, c->id);
    return p.failed ? sem_fail_memory(err, "a click") : SEM_OK;
}

static sem_status ignore(void *context, size_t number, const msgpack_object *result, sem_error *err)
{
    (void)context;
    (void)number;
    (void)result;
    (void)err;
    return SEM_OK;
}

static sem_status click_window(clicking *k, client *c, sem_error *err)
{
    const window_calls searches = {"search", pack_search, look_at_hits, k}, clicks = {"click", pack_click, ignore, k};
    k->count = 0;
    k->first = k->p->searches;
    sem_status status = window_run(c, &searches, 0, WINDOW_SIZE, err);
    k->p->searches += WINDOW_SIZE;
    return status == SEM_OK ? window_run(c, &clicks, 0, k->count, err) : status;
}

sem_status people_click(people *p, client *c, size_t clicks, people_round *out, sem_error *err)
{
    *out = (people_round){0};
    clicking *k = calloc(1, sizeof *k);
    if (k == NULL)
        return sem_fail_memory(err, "the clicks");
    k->p = p;
    k->round = out;
    screen_bar bar;
    screen_bar_begin(&bar);
    sem_status status = SEM_OK;
    while (status == SEM_OK && out->clicks < clicks) {
        status = click_window(k, c, err);
        if (status == SEM_OK && out->searches > SEARCHES_A_CLICK_MAX * clicks)
            status = sem_fail(err, SEM_FAILED_PRECONDITION, "%zu searches came to %zu clicks, not to %zu",
                              out->searches, out->clicks, clicks);
        if (status == SEM_OK)
            screen_bar_draw(&bar, "clicking", out->clicks, clicks, "");
    }
    char text[96];
    snprintf(text, sizeof text, "%s times of %s searches, %.0f%% on what is relevant", screen_count(out->clicks),
             screen_count(out->searches), out->clicks > 0 ? 100.0 * (double)out->right / (double)out->clicks : 0.0);
    if (status == SEM_OK)
        screen_bar_end(&bar, "clicked", text);
    free(k);
    return status;
}

/* --- measuring */

typedef struct measuring {
    const world_queries *queries;
    double sum, squares; /* of reciprocal ranks */
} measuring;

static sem_status pack_query(void *context, size_t number, buffer *params, sem_error *err)
{
    return rpc_pack_search(params, ((const measuring *)context)->queries->items[number].text, true, false, false, err);
}

static sem_status add_rank(void *context, size_t number, const msgpack_object *result, sem_error *err)
{
    (void)err;
    measuring *m = context;
    uint64_t ids[PEOPLE_HITS];
    size_t count = hit_ids(result, ids), at = 0;
    while (at < count && !world_is_relevant(&m->queries->items[number], ids[at]))
        at++;
    double reciprocal = at < count ? 1.0 / (double)(at + 1) : 0.0;
    m->sum += reciprocal;
    m->squares += reciprocal * reciprocal;
    return SEM_OK;
}

sem_status people_measure(const world_queries *queries, client *c, people_quality *out, sem_error *err)
{
    measuring m = {.queries = queries};
    const window_calls searches = {"search", pack_query, add_rank, &m};
    *out = (people_quality){0};
    sem_status status = window_run(c, &searches, 0, queries->count, err);
    double n = (double)queries->count;
    if (status == SEM_OK && queries->count > 0) {
        out->mrr = m.sum / n;
        out->error = sqrt(fmax(0, m.squares / n - out->mrr * out->mrr) / n);
    }
    return status;
}

/* --- loading */

static void pack_document(void *context, size_t number, packer *p)
{
    const world *w = context;
    pack_map(p, 2);
    pack_str(p, "id");
    pack_uint(p, number);
    pack_str(p, "text");
    pack_str(p, w->documents[number]);
}

sem_status people_load(world *w, client *c, sem_error *err)
{
    const loading all = {w->document_count, pack_document, w};
    return loading_run(c, &all, err);
}
