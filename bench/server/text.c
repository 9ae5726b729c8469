/* What a text query through the socket takes beside encoding and scanning. The texts
 * become documents with their vectors (the first generation's model has made them).
 * Then in turn, one query each: `search`, timed here, and `explain` of the same query,
 * whose own timings say how long tokenizing, encoding and scanning took in the daemon. */
#include "bench/server/text.h"

#include "bench/server/caller.h"

#include <jansson.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 500, QUERIES_MAX = 2000 };

typedef struct text_load {
    const load_options *o;
    caller caller;
    double whole[QUERIES_MAX], parts[QUERIES_MAX]; /* seconds */
    size_t asked;
} text_load;

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
    char *line = NULL;
    size_t size = 0;
    packer p = caller_begin(&l->caller);
    pack_map(&p, 2);
    pack_str(&p, "generation");
    pack_uint(&p, 1);
    pack_str(&p, "docs");
    pack_array(&p, count);
    bool fine = true;
    for (size_t i = first; i < first + count && fine; i++) {
        json_t *text = next_text(file, &line, &size);
        fine = json_is_string(text);
        caller_pack_document(&p, i, fine ? json_string_value(text) : "", vectors + i * LOAD_DIM, LOAD_DIM);
        json_decref(text);
    }
    free(line);
    if (!fine)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "%s has no text number %zu", l->o->files[0], first);
    return caller_do(&l->caller, &p, "upsert", err);
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

static sem_status ask(text_load *l, const char *method, const char *text, client_reply *reply, sem_error *err)
{
    const bool logs = strcmp(method, "search") == 0;
    packer p = caller_begin(&l->caller);
    pack_map(&p, logs ? 3 : 2);
    pack_str(&p, "query");
    pack_str(&p, text);
    pack_str(&p, "recall");
    pack_double(&p, l->o->effort);
    if (logs) {
        pack_str(&p, "log");
        pack_bool(&p, false);
    }
    return caller_call(&l->caller, &p, method, reply, err);
}

static sem_status time_search(text_load *l, const char *text, sem_error *err)
{
    client_reply found = {0};
    double start = load_now();
    sem_status status = ask(l, "search", text, &found, err);
    l->whole[l->asked] = load_now() - start;
    client_reply_free(&found);
    return status;
}

static sem_status time_parts(text_load *l, const char *text, sem_error *err)
{
    static const char *const parts[] = {"tokenize", "encode", "coarse", "scan", "rerank"};
    client_reply explained = {0};
    sem_status status = ask(l, "explain", text, &explained, err);
    const msgpack_object *times = status == SEM_OK ? object_get(&explained.value, "timings_us") : NULL;
    l->parts[l->asked] = 0;
    for (size_t i = 0; times != NULL && i < sizeof parts / sizeof *parts; i++)
        l->parts[l->asked] += object_double(object_get(times, parts[i]), 0) / 1e6;
    if (status == SEM_OK && l->parts[l->asked] <= 0)
        status = sem_fail(err, SEM_INTERNAL, "explain names no times");
    client_reply_free(&explained);
    return status;
}

/* Both in turn come first: the second finds in the processor's caches what the first has read. */
static sem_status time_one(text_load *l, const char *text, sem_error *err)
{
    bool parts_first = l->asked % 2 != 0;
    sem_status status = parts_first ? time_parts(l, text, err) : time_search(l, text, err);
    if (status == SEM_OK)
        status = parts_first ? time_search(l, text, err) : time_parts(l, text, err);
    l->asked += status == SEM_OK;
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
    text_load l = {.o = o};
    uint64_t count;
    sem_status status = caller_open(&l.caller, o->address, err);
    if (status == SEM_OK)
        status = put_all(&l, err);
    if (status == SEM_OK)
        status = caller_settle(&l.caller, "default", &count, err);
    if (status == SEM_OK)
        status = time_all(&l, err);
    if (status == SEM_OK) {
        qsort(l.whole, l.asked, sizeof *l.whole, load_by_value);
        qsort(l.parts, l.asked, sizeof *l.parts, load_by_value);
        printf("{\"requests\": %zu, \"search_p50_ms\": %.3f, \"parts_p50_ms\": %.3f, \"ratio\": %.3f}\n", l.asked,
               1e3 * l.whole[l.asked / 2], 1e3 * l.parts[l.asked / 2], l.whole[l.asked / 2] / l.parts[l.asked / 2]);
    }
    caller_close(&l.caller);
    return status;
}
