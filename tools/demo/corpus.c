#include "tools/demo/corpus.h"

#include "base/checked.h"
#include "base/files.h"
#include "base/hash.h"

#include <jansson.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The benchmark ranks against this many documents, the held-out ones among them. */
enum { EXPORT_DOCUMENTS = 2200 };

typedef struct candidate {
    uint64_t order;
    json_t *line; /* borrowed from the array of all */
} candidate;

static int by_order(const void *a, const void *b)
{
    uint64_t left = ((const candidate *)a)->order, right = ((const candidate *)b)->order;
    return (left > right) - (left < right);
}

static const char *field(const json_t *line, const char *name)
{
    return json_string_value(json_object_get(line, name));
}

static bool usable(const json_t *line)
{
    const char *english = field(line, "en"), *italian = field(line, "it");
    return field(line, "name") && field(line, "section") && field(line, "text") && english && italian &&
           strcmp(english, italian) != 0;
}

static sem_status read_lines(json_t *all, FILE *in, const char *path, sem_error *err)
{
    json_error_t where;
    for (size_t number = 1;; number++) {
        int first = fgetc(in);
        while (first == '\n')
            first = fgetc(in);
        if (first == EOF)
            return SEM_OK;
        ungetc(first, in);
        json_t *line = json_loadf(in, JSON_DISABLE_EOF_CHECK, &where);
        if (line == NULL)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s, package %zu: %s; remove the file to fetch it again", path,
                            number, where.text);
        if (!usable(line))
            json_decref(line);
        else if (json_array_append_new(all, line) != 0)
            return sem_fail_memory(err, "the packages");
    }
}

/* A one-line description that two packages share has no right answer. */
static bool seen_before(uint64_t *seen, size_t *count, const char *query)
{
    uint64_t key = hash_text(query, strlen(query));
    for (size_t i = 0; i < *count; i++)
        if (seen[i] == key)
            return true;
    seen[(*count)++] = key;
    return false;
}

static sem_status pick(corpus *out, const candidate *sorted, size_t count, sem_error *err)
{
    uint64_t *seen = malloc(2 * CORPUS_DOCUMENTS * sizeof *seen);
    if (seen == NULL)
        return sem_fail_memory(err, "the queries");
    size_t seen_count = 0, picked = 0;
    for (size_t i = 0; i < count && picked < CORPUS_DOCUMENTS; i++) {
        const json_t *line = sorted[i].line;
        size_t before = seen_count;
        if (seen_before(seen, &seen_count, field(line, "en")) || seen_before(seen, &seen_count, field(line, "it"))) {
            seen_count = before;
            continue;
        }
        out->packages[picked++] = (corpus_package){field(line, "name"), field(line, "section"), field(line, "en"),
                                                   field(line, "it"), field(line, "text")};
    }
    free(seen);
    if (picked < CORPUS_DOCUMENTS)
        return sem_fail(err, SEM_NOT_FOUND,
                        "only %zu packages have both an English and an Italian description, %d are needed", picked,
                        CORPUS_DOCUMENTS);
    return SEM_OK;
}

sem_status corpus_load(corpus *out, const char *path, sem_error *err)
{
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return sem_fail(err, SEM_NOT_FOUND, "cannot read %s: %m", path);
    json_t *all = json_array();
    sem_status status = all == NULL ? sem_fail_memory(err, "the packages") : read_lines(all, in, path, err);
    fclose(in);
    size_t count = json_array_size(all);
    candidate *sorted = status != SEM_OK ? NULL : checked_realloc(NULL, count + 1, sizeof *sorted);
    if (status == SEM_OK && sorted == NULL)
        status = sem_fail_memory(err, "the packages");
    for (size_t i = 0; status == SEM_OK && i < count; i++) {
        json_t *line = json_array_get(all, i);
        sorted[i] = (candidate){hash_text(field(line, "name"), strlen(field(line, "name"))), line};
    }
    if (status == SEM_OK && sorted != NULL) {
        qsort(sorted, count, sizeof *sorted, by_order);
        status = pick(out, sorted, count, err);
    }
    free(sorted);
    if (status != SEM_OK)
        json_decref(all);
    else
        out->memory = all;
    return status;
}

void corpus_free(corpus *c)
{
    json_decref(c->memory);
    c->memory = NULL;
}

static bool write_line(FILE *out, json_t *line)
{
    bool good = line != NULL && json_dumpf(line, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
    json_decref(line);
    return good;
}

static json_t *exported(const corpus_package *p, int kind)
{
    switch (kind) {
    case 0: return json_pack("{s:s, s:s}", "query", p->italian, "document", p->text);
    case 1: return json_pack("{s:s, s:s, s:s}", "name", p->name, "italian", p->italian, "english", p->english);
    default: return json_pack("{s:s, s:s}", "name", p->name, "text", p->text);
    }
}

sem_status corpus_export(const corpus *c, const char *folder, sem_error *err)
{
    /* A stranger to the clicks is no easier or harder to tell apart: the
     * documents that the benchmark ranks are held-out ones and filler. */
    size_t filler = CORPUS_HELDOUT + CORPUS_CLICKED;
    const struct {
        const char *name;
        size_t from[2], to[2];
    } files[3] = {{"train.jsonl", {CORPUS_HELDOUT, 0}, {filler, 0}},
                  {"heldout.jsonl", {0, 0}, {CORPUS_HELDOUT, 0}},
                  {"documents.jsonl", {0, filler}, {CORPUS_HELDOUT, filler + EXPORT_DOCUMENTS - CORPUS_HELDOUT}}};
    for (int kind = 0; kind < 3; kind++) {
        char path[FILES_PATH_MAX];
        sem_status status = files_join(path, err, "%s/%s", folder, files[kind].name);
        if (status != SEM_OK)
            return status;
        FILE *out = fopen(path, "w");
        bool good = out != NULL;
        for (size_t part = 0; part < 2; part++)
            for (size_t i = files[kind].from[part]; good && i < files[kind].to[part]; i++)
                good = write_line(out, exported(&c->packages[i], kind));
        if (out != NULL)
            good = fclose(out) == 0 && good;
        if (!good)
            return sem_fail(err, SEM_INTERNAL, "cannot write %s: %m", path);
    }
    return SEM_OK;
}
