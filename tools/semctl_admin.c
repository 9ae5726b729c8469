/* ping, auth, info, collection create/drop/list, generations, rollback. */
#include "proto/number.h"
#include "tools/semctl.h"
#include "tools/semctl_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const double DEFAULT_RECALL = 0.95; /* of a search that names none */

static bool is_map(const msgpack_object *o)
{
    return o != NULL && o->type == MSGPACK_OBJECT_MAP;
}

sem_status run_ping(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    client_reply reply;
    sem_status status = ctl_connect(ctl, err);
    progress clock;
    progress_begin(&clock);
    if (status == SEM_OK)
        status = ctl_simple(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("pong in %.1f ms\n", progress_seconds(&clock) * 1e3);
    client_reply_free(&reply);
    return SEM_OK;
}

sem_status run_auth(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    (void)c;
    (void)a;
    sem_status status = ctl_connect(ctl, err);
    if (ctl->no_tokens)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "the server asks for no tokens (auth.tokens)");
    if (status == SEM_OK && ctl->role[0] == '\0')
        return ctl_usage(ctl, err, "auth: no token is given (--token-file FILE or $SEMCTL_TOKEN)");
    if (status == SEM_OK)
        printf(ctl->json ? "{\"role\": \"%s\"}\n" : "%s\n", ctl->role);
    return status;
}

/* --- info */

/* A value of any kind as one cell: units by the name of its key. */
static void add_value(table *t, const char *key, size_t key_size, const msgpack_object *value)
{
    char text[TEXT_MAX], number[NUMBER_TEXT_MAX];
    bool in_bytes = key_size >= 5 && memcmp(key + key_size - 5, "bytes", 5) == 0;
    bool in_seconds = key_size >= 2 && memcmp(key + key_size - 2, "_s", 2) == 0;
    switch (value->type) {
    case MSGPACK_OBJECT_STR: table_add_text(t, value->via.str.ptr, value->via.str.size, 0); return;
    case MSGPACK_OBJECT_BOOLEAN: table_add(t, "%s", value->via.boolean ? "yes" : "no"); return;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        if (in_bytes)
            table_add(t, "%s", text_bytes(text, value->via.u64));
        else if (in_seconds && value->via.u64 < 60)
            table_add(t, "%" PRIu64 " s", value->via.u64);
        else if (in_seconds)
            table_add(t, "%s", text_duration(text, (double)value->via.u64));
        else
            table_add(t, "%s", number_text(number, value->via.u64));
        return;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        if (in_seconds)
            table_add(t, "%s", text_duration(text, value->via.f64));
        else
            table_add(t, "%g", value->via.f64);
        return;
    case MSGPACK_OBJECT_ARRAY: table_add(t, "%u", value->via.array.size); return;
    default: table_add(t, "-"); return;
    }
}

static void add_rows(table *t, const char *prefix, const msgpack_object *map)
{
    for (uint32_t i = 0; is_map(map) && i < map->via.map.size; i++) {
        const msgpack_object *key = &map->via.map.ptr[i].key, *value = &map->via.map.ptr[i].val;
        if (key->type != MSGPACK_OBJECT_STR)
            continue;
        char name[2 * TEXT_MAX];
        int length = key->via.str.size < TEXT_MAX / 2 ? (int)key->via.str.size : TEXT_MAX / 2;
        bool deeper = is_map(value) && prefix[0] == '\0';
        snprintf(name, sizeof name, "%s%.*s%s", prefix, length, key->via.str.ptr, deeper ? "." : "");
        if (deeper) {
            add_rows(t, name, value);
            continue;
        }
        table_add(t, "%s", name);
        add_value(t, key->via.str.ptr, key->via.str.size, value);
    }
}

sem_status run_info(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    static const char *const headers[] = {"", ""};
    client_reply reply;
    sem_status status = ctl_simple(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json) {
        ctl_print_json(&reply, BIN_FLOAT32);
    } else {
        table t;
        table_init(&t, headers, 2, 0);
        add_rows(&t, "", &reply.value);
        if (!table_print(&t, stdout))
            status = sem_fail_memory(err, "a table");
        table_free(&t);
    }
    client_reply_free(&reply);
    return status;
}

/* --- collections */

static sem_status call_with_name(semctl *ctl, const command *c, const arguments *a, params *m, const char *yes,
                                 const char *no, const char *key, sem_error *err)
{
    client_reply reply;
    pack_str(params_key(m, "name"), a->words[0]);
    sem_status status = ctl_call(ctl, c->method, m, &reply, err);
    if (status != SEM_OK)
        return status;
    const msgpack_object *done = object_get(&reply.value, key);
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        puts(done != NULL && done->type == MSGPACK_OBJECT_BOOLEAN && !done->via.boolean ? no : yes);
    client_reply_free(&reply);
    return SEM_OK;
}

sem_status run_collection_create(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m, options;
    params_begin(&m);
    params_begin(&options);
    /* All of the command's options lie in the map `options`, beside deadline_ms. */
    semctl without = *ctl;
    without.deadline_ms = NULL;
    sem_status status = params_options(&without, &options, c, a, err);
    command none = {.name = c->name};
    if (status == SEM_OK)
        status = params_options(ctl, &m, &none, a, err);
    ctl->usage = ctl->usage || without.usage;
    if (status == SEM_OK && options.count > 0) {
        packer *p = params_key(&m, "options");
        pack_map(p, options.count);
        pack_raw(p, options.entries.data, options.entries.size);
    }
    if (status == SEM_OK && options.p.failed)
        status = sem_fail_memory(err, "a request");
    params_free(&options);
    if (status == SEM_OK)
        return call_with_name(ctl, c, a, &m, "created", "exists already, with equal options", "created", err);
    params_free(&m);
    return status;
}

sem_status run_collection_drop(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK)
        return call_with_name(ctl, c, a, &m, "dropped", "not dropped", "dropped", err);
    params_free(&m);
    return status;
}

/* The recall that a search gets which asks for none: the first measured one that
 * reaches the default. Nothing where a search is exact. */
static void add_recall(table *t, const msgpack_object *curve)
{
    bool measured = curve != NULL && curve->type == MSGPACK_OBJECT_ARRAY;
    for (uint32_t i = 0; measured && i < curve->via.array.size; i++) {
        double recall = object_double(object_get(&curve->via.array.ptr[i], "recall"), 0);
        if (recall >= DEFAULT_RECALL) {
            table_add(t, "%.3f", recall);
            return;
        }
    }
    table_add(t, "-");
}

static void add_collection(table *t, const msgpack_object *o)
{
    char text[TEXT_MAX], number[NUMBER_TEXT_MAX];
    const msgpack_object *index = object_get(o, "index"), *options = object_get(o, "options");
    char *name = ctl_text(o, "name"), *kind = ctl_text(index, "kind"), *vectors = ctl_text(options, "vectors");
    char *metric = ctl_text(options, "metric");
    table_add(t, "%s", name != NULL ? name : "?");
    table_add(t, "%s", number_text(number, object_uint(object_get(o, "count"), 0)));
    table_add(t, "%s", vectors != NULL ? vectors : "?");
    table_add(t, "%s", metric != NULL ? metric : "?");
    table_add(t, "%s", kind != NULL ? kind : "?");
    table_add(t, "%s", number_text(number, object_uint(object_get(index, "nlist"), 0)));
    add_recall(t, object_get(index, "recall"));
    table_add(t, "%s", text_bytes(text, object_uint(object_get(o, "bytes"), 0)));
    free(name);
    free(kind);
    free(vectors);
    free(metric);
}

/* The MRR on one set of queries; "-" where none were measured. */
static void add_mrr(table *t, const msgpack_object *generation, const char *set)
{
    const msgpack_object *metrics = object_get(object_get(generation, "metrics"), set);
    if (object_uint(object_get(metrics, "queries"), 0) > 0)
        table_add(t, "%.4f", object_double(object_get(metrics, "mrr"), 0));
    else
        table_add(t, "-");
}

static void add_generation(table *t, const msgpack_object *o)
{
    char text[TEXT_MAX], number[NUMBER_TEXT_MAX];
    char *state = ctl_text(o, "state"), *mode = ctl_text(o, "mode");
    uint64_t parent = object_uint(object_get(o, "parent"), 0);
    table_add(t, "%" PRIu64, object_uint(object_get(o, "generation"), 0));
    if (parent > 0)
        table_add(t, "%" PRIu64, parent);
    else
        table_add(t, "-");
    table_add(t, "%s", state != NULL ? state : "?");
    table_add(t, "%s", mode != NULL ? mode : "?");
    table_add(t, "%s", text_time(text, object_uint(object_get(o, "created"), 0)));
    table_add(t, "%s", number_text(number, object_uint(object_get(o, "pairs"), 0)));
    add_mrr(t, o, "heldout");
    add_mrr(t, o, "probe");
    table_add(t, "%s", text_bytes(text, object_uint(object_get(o, "bytes"), 0)));
    free(state);
    free(mode);
}

typedef void add_row(table *t, const msgpack_object *o);

/* Calls, and shows a list of maps as a table. */
static sem_status show_list(semctl *ctl, const command *c, const arguments *a, const char *const *headers,
                            size_t columns, uint32_t right, add_row *add, sem_error *err)
{
    client_reply reply;
    sem_status status = ctl_simple(ctl, c, a, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json) {
        ctl_print_json(&reply, BIN_FLOAT32);
    } else {
        table t;
        table_init(&t, headers, columns, right);
        const msgpack_object *list = &reply.value;
        for (uint32_t i = 0; list->type == MSGPACK_OBJECT_ARRAY && i < list->via.array.size; i++)
            add(&t, &list->via.array.ptr[i]);
        if (!table_print(&t, stdout))
            status = sem_fail_memory(err, "a table");
        table_free(&t);
    }
    client_reply_free(&reply);
    return status;
}

sem_status run_collection_list(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    static const char *const headers[] = {"name", "documents", "vectors", "metric", "index", "lists", "recall", "size"};
    return show_list(ctl, c, a, headers, 8, 1U << 1 | 1U << 5 | 1U << 6 | 1U << 7, add_collection, err);
}

sem_status run_generations(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    static const char *const headers[] = {"generation", "parent",       "state",     "mode", "created",
                                          "pairs",      "held-out MRR", "probe MRR", "size"};
    return show_list(ctl, c, a, headers, 9, 1U << 0 | 1U << 1 | 1U << 5 | 1U << 6 | 1U << 7 | 1U << 8, add_generation,
                     err);
}

sem_status run_rollback(semctl *ctl, const command *c, const arguments *a, sem_error *err)
{
    params m;
    client_reply reply;
    uint64_t number = 0;
    params_begin(&m);
    sem_status status = params_options(ctl, &m, c, a, err);
    if (status == SEM_OK && a->count > 0) {
        status = parse_count(a->words[0], UINT32_MAX, &number, err);
        ctl->usage = status != SEM_OK;
        if (status != SEM_OK)
            sem_error_prefix(err, "GENERATION");
        pack_uint(params_key(&m, "generation"), number);
    }
    if (status != SEM_OK) {
        params_free(&m);
        return status;
    }
    status = ctl_call(ctl, c->method, &m, &reply, err);
    if (status != SEM_OK)
        return status;
    if (ctl->json)
        ctl_print_json(&reply, BIN_FLOAT32);
    else
        printf("generation %" PRIu64 " is current\n", object_uint(object_get(&reply.value, "generation"), 0));
    client_reply_free(&reply);
    return SEM_OK;
}
