/* What a text query through the socket takes beside encoding and scanning. The texts
 * become documents with their vectors (the first generation's model has made them).
 * Then in turn, one query each: `search`, timed here, and `explain` of the same query,
 * whose own timings say how long tokenizing, encoding and scanning took in the daemon. */
#include "proto/client.h"
#include "proto/pack.h"
#include "bench/server/load.h"

#include <jansson.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 500, ANSWER_MS = 600000, QUERIES_MAX = 2000, CALM_SECONDS = 20 };

typedef struct text_load {
    const load_options *o;
    client *c;
    buffer request;
    double whole[QUERIES_MAX], parts[QUERIES_MAX]; /* seconds */
    size_t asked;
} text_load;

static packer begin(text_load *l)
{
    packer p;
    l->request.size = 0;
    pack_init(&p, &l->request);
    pack_array(&p, 1);
    return p;
}

static sem_status call(text_load *l, const packer *p, const char *method, client_reply *reply, sem_error *err)
{
    if (p->failed)
        return sem_fail_memory(err, "a request");
    sem_status status = client_call(l->c, method, l->request.data, l->request.size, ANSWER_MS, reply, err);
    return status == SEM_OK ? client_reply_status(reply, err) : status;
}

/* The next line's text, for json_decref; NULL at the end. */
static json_t *next_text(FILE *file, char **line, size_t *size)
{
    if (getline(line, size, file) <= 0)
        return NULL;
    json_t *value = json_loads(*line, 0, NULL), *text = json_object_get(value, "text");
    json_incref(text);
    json_decref(value);
    return text;
}

static sem_status put(text_load *l, FILE *file, const float *vectors, size_t first, size_t count, sem_error *err)
{
    client_reply reply = {0};
    char *line = NULL;
    size_t size = 0;
    packer p = begin(l);
    pack_map(&p, 2);
    pack_str(&p, "generation");
    pack_uint(&p, 1);
    pack_str(&p, "docs");
    pack_array(&p, count);
    bool fine = true;
    for (size_t i = first; i < first + count && fine; i++) {
        json_t *text = next_text(file, &line, &size);
        fine = json_is_string(text);
        pack_map(&p, 3);
        pack_str(&p, "id");
        pack_uint(&p, i);
        pack_str(&p, "text");
        pack_str(&p, fine ? json_string_value(text) : "");
        pack_str(&p, "vector");
        pack_bin(&p, vectors + i * LOAD_DIM, LOAD_DIM * sizeof *vectors);
        json_decref(text);
    }
    free(line);
    if (!fine)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s has no text number %zu", l->o->files[0], first);
    sem_status status = call(l, &p, "upsert", &reply, err);
    client_reply_free(&reply);
    return status;
}

static sem_status put_all(text_load *l, sem_error *err)
{
    load_file vectors;
    sem_status status = load_map(&vectors, l->o->files[1], err);
    FILE *file = fopen(l->o->files[0], "re");
    if (status == SEM_OK && file == NULL)
        status = sem_fail(err, SEM_NOT_FOUND, "cannot open %s", l->o->files[0]);
    for (size_t i = 0; i < l->o->rows && status == SEM_OK; i += BATCH)
        status = put(l, file, vectors.data, i, l->o->rows - i < BATCH ? l->o->rows - i : BATCH, err);
    if (file != NULL)
        fclose(file);
    return status;
}

/* When the lists were trained, 0 before that. */
static sem_status look(text_load *l, uint64_t *trained_at, sem_error *err)
{
    client_reply reply = {0};
    packer p = begin(l);
    pack_map(&p, 0);
    sem_status status = call(l, &p, "collection.list", &reply, err);
    for (uint32_t i = 0; status == SEM_OK && i < reply.value.via.array.size; i++) {
        const msgpack_object *one = &reply.value.via.array.ptr[i];
        if (object_is(object_get(one, "name"), "default"))
            *trained_at = object_uint(object_get(object_get(one, "index"), "trained_at"), 0);
    }
    client_reply_free(&reply);
    return status;
}

/* Until no training has come for longer than one takes. */
static sem_status wait_for_lists(text_load *l, sem_error *err)
{
    const struct timespec pause = {.tv_sec = 1};
    uint64_t trained_at = 0, before = 0;
    sem_status status = SEM_OK;
    for (int calm = 0; calm < CALM_SECONDS && status == SEM_OK; calm++) {
        nanosleep(&pause, NULL);
        before = trained_at;
        status = look(l, &trained_at, err);
        if (trained_at != before || trained_at == 0)
            calm = 0;
    }
    return status;
}

static sem_status ask(text_load *l, const char *method, const char *text, client_reply *reply, sem_error *err)
{
    const bool logs = strcmp(method, "search") == 0;
    packer p = begin(l);
    pack_map(&p, logs ? 3 : 2);
    pack_str(&p, "query");
    pack_str(&p, text);
    pack_str(&p, "recall");
    pack_double(&p, l->o->effort);
    if (logs) {
        pack_str(&p, "log");
        pack_bool(&p, false);
    }
    return call(l, &p, method, reply, err);
}

static sem_status time_one(text_load *l, const char *text, sem_error *err)
{
    static const char *const parts[] = {"tokenize", "encode", "coarse", "scan", "rerank"};
    client_reply found = {0}, explained = {0};
    double start = load_now();
    sem_status status = ask(l, "search", text, &found, err);
    l->whole[l->asked] = load_now() - start;
    if (status == SEM_OK)
        status = ask(l, "explain", text, &explained, err);
    const msgpack_object *times = status == SEM_OK ? object_get(&explained.value, "timings_us") : NULL;
    l->parts[l->asked] = 0;
    for (size_t i = 0; times != NULL && i < sizeof parts / sizeof *parts; i++)
        l->parts[l->asked] += object_double(object_get(times, parts[i]), 0) / 1e6;
    if (status == SEM_OK && l->parts[l->asked] <= 0)
        status = sem_fail(err, SEM_INTERNAL, "explain names no times");
    l->asked += status == SEM_OK;
    client_reply_free(&found);
    client_reply_free(&explained);
    return status;
}

static sem_status time_all(text_load *l, sem_error *err)
{
    FILE *file = fopen(l->o->files[2], "re");
    char *line = NULL;
    size_t size = 0;
    sem_status status = file != NULL ? SEM_OK : sem_fail(err, SEM_NOT_FOUND, "cannot open %s", l->o->files[2]);
    double until = load_now() + l->o->seconds;
    while (status == SEM_OK && l->asked < QUERIES_MAX && load_now() < until) {
        json_t *text = next_text(file, &line, &size);
        if (text == NULL)
            break;
        if (json_is_string(text))
            status = time_one(l, json_string_value(text), err);
        json_decref(text);
    }
    free(line);
    if (file != NULL)
        fclose(file);
    if (status == SEM_OK && l->asked == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s holds no text", l->o->files[2]);
    return status;
}

sem_status load_text(const load_options *o, sem_error *err)
{
    static text_load l;
    l = (text_load){.o = o};
    sem_status status = client_connect(&l.c, o->address, 10000, err);
    if (status == SEM_OK)
        status = put_all(&l, err);
    if (status == SEM_OK)
        status = wait_for_lists(&l, err);
    if (status == SEM_OK)
        status = time_all(&l, err);
    if (status == SEM_OK) {
        qsort(l.whole, l.asked, sizeof *l.whole, load_by_value);
        qsort(l.parts, l.asked, sizeof *l.parts, load_by_value);
        printf("{\"requests\": %zu, \"search_p50_ms\": %.3f, \"parts_p50_ms\": %.3f, \"ratio\": %.3f}\n", l.asked,
               1e3 * l.whole[l.asked / 2], 1e3 * l.parts[l.asked / 2], l.whole[l.asked / 2] / l.parts[l.asked / 2]);
    }
    client_close(l.c);
    buffer_free(&l.request);
    return status;
}
