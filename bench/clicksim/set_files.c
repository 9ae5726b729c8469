#include "bench/clicksim/set_files.h"

#include "base/files.h"
#include "base/hash.h"

#include <jansson.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HELDOUT_MAX = 500, HELDOUT_ONE_IN = 5 };

static const char *field(const json_t *line, const char *name)
{
    const char *value = json_string_value(json_object_get(line, name));
    return value != NULL ? value : "";
}

/* All lines of a file of JSON Lines, as an array. */
static sem_status read_lines(json_t **out, const char *folder, const char *name, sem_error *err)
{
    char path[FILES_PATH_MAX];
    sem_status status = files_join(path, err, "%s/%s", folder, name);
    if (status != SEM_OK)
        return status;
    FILE *in = fopen(path, "re");
    if (in == NULL)
        return files_fail(err, "read", path);
    *out = json_array();
    char *line = NULL;
    size_t size = 0;
    for (size_t number = 1; status == SEM_OK && getline(&line, &size, in) > 0; number++) {
        json_error_t where;
        json_t *value = json_loads(line, 0, &where);
        if (value == NULL)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s:%zu: %s", path, number, where.text);
        else if (json_array_append_new(*out, value) != 0)
            status = sem_fail_memory(err, name);
    }
    free(line);
    fclose(in);
    return status;
}

/* --- medquad */

typedef struct medquad {
    world *w;
    json_t *lines;
    json_t *numbers; /* answer -> number of the document */
    size_t most;
} medquad;

static bool from_gard(const json_t *line)
{
    return strcmp(field(line, "source"), "GARD") == 0;
}

static sem_status add_answers(medquad *m, bool gard, sem_error *err)
{
    for (size_t i = 0; i < json_array_size(m->lines); i++) {
        const json_t *line = json_array_get(m->lines, i);
        const char *answer = field(line, "answer");
        if (from_gard(line) != gard || json_object_get(m->numbers, answer) != NULL ||
            (m->most > 0 && m->w->document_count >= m->most))
            continue;
        if (json_object_set_new(m->numbers, answer, json_integer((json_int_t)m->w->document_count)) != 0)
            return sem_fail_memory(err, "medquad's answers");
        sem_status status = world_add_document(m->w, answer, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

typedef struct question {
    uint64_t order; /* by a hash: any first part is a sample */
    const char *text;
    uint32_t document;
    bool gard, heldout;
} question;

static int by_order(const void *left, const void *right)
{
    const question *a = left, *b = right;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    int texts = strcmp(a->text, b->text);
    return texts != 0 ? texts : (a->document > b->document) - (a->document < b->document);
}

/* Questions in order, equal ones side by side. Whether a disease is held out is the same for all that
 * is asked about it. */
static size_t list_questions(const medquad *m, question *out)
{
    size_t count = 0;
    for (size_t i = 0; i < json_array_size(m->lines); i++) {
        const json_t *line = json_array_get(m->lines, i), *number = json_object_get(m->numbers, field(line, "answer"));
        const char *text = field(line, "question"), *focus = field(line, "focus");
        if (number == NULL || text[0] == '\0')
            continue;
        out[count++] = (question){.order = hash_text(text, strlen(text)),
                                  .text = text,
                                  .document = (uint32_t)json_integer_value(number),
                                  .gard = from_gard(line),
                                  .heldout = hash_text(focus, strlen(focus)) % HELDOUT_ONE_IN == 0};
    }
    qsort(out, count, sizeof *out, by_order);
    return count;
}

static sem_status add_questions(world *w, const question *all, size_t count, sem_error *err)
{
    for (size_t from = 0, to; from < count; from = to) {
        bool gard = false, heldout = false;
        for (to = from; to < count && strcmp(all[to].text, all[from].text) == 0; to++) {
            gard |= all[to].gard;
            heldout |= all[to].heldout;
        }
        world_queries *queries = !gard ? &w->kept : heldout ? &w->heldout : &w->asked;
        for (size_t i = from; i < to; i++) {
            sem_status status = world_add_query(queries, all[from].text, all[i].document, err);
            if (status != SEM_OK)
                return status;
        }
    }
    world_cut_queries(&w->heldout, HELDOUT_MAX);
    world_cut_queries(&w->kept, HELDOUT_MAX);
    return SEM_OK;
}

sem_status set_files_medquad(world *w, const char *folder, size_t documents, sem_error *err)
{
    medquad m = {.w = w, .numbers = json_object(), .most = documents};
    question *questions = NULL;
    sem_status status = read_lines(&m.lines, folder, "medquad/pairs.jsonl", err);
    if (status == SEM_OK)
        status = add_answers(&m, true, err);
    if (status == SEM_OK)
        status = add_answers(&m, false, err);
    if (status == SEM_OK && (questions = calloc(json_array_size(m.lines) + 1, sizeof *questions)) == NULL)
        status = sem_fail_memory(err, "medquad's questions");
    if (status == SEM_OK)
        status = add_questions(w, questions, list_questions(&m, questions), err);
    w->heldout_is = "GARD's questions";
    w->kept_is = w->kept.count > 0 ? "other sites' questions" : NULL;
    free(questions);
    json_decref(m.numbers);
    json_decref(m.lines);
    return status;
}

/* --- cranfield */

static sem_status add_abstracts(world *w, const json_t *lines, sem_error *err)
{
    sem_status status = SEM_OK;
    for (size_t i = 0; i < json_array_size(lines) && status == SEM_OK; i++) {
        const json_t *line = json_array_get(lines, i);
        if ((size_t)strtoul(field(line, "id"), NULL, 10) != i + 1)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "cranfield/docs.jsonl: line %zu is document \"%s\"", i + 1,
                            field(line, "id"));
        /* Two are empty in the source. */
        status = world_add_document(w, field(line, "text")[0] != '\0' ? field(line, "text") : "(no abstract)", err);
    }
    return status;
}

static sem_status add_judgements(world *w, const json_t *queries, FILE *in, sem_error *err)
{
    char line[128];
    while (fgets(line, sizeof line, in) != NULL) {
        unsigned query, document;
        int relevant;
        if (sscanf(line, "%u %u %d", &query, &document, &relevant) != 3 || query == 0 ||
            query > json_array_size(queries) || document == 0 || document > w->document_count)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "cranfield/qrels.tsv: %s", line);
        if (relevant <= 0)
            continue;
        const char *text = field(json_array_get(queries, query - 1), "text");
        sem_status status =
            world_add_query(hash_text(text, strlen(text)) % 2 == 0 ? &w->heldout : &w->asked, text, document - 1, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

sem_status set_files_cranfield(world *w, const char *folder, sem_error *err)
{
    char path[FILES_PATH_MAX];
    json_t *documents = NULL, *queries = NULL;
    sem_status status = read_lines(&documents, folder, "cranfield/docs.jsonl", err);
    if (status == SEM_OK)
        status = read_lines(&queries, folder, "cranfield/queries.jsonl", err);
    if (status == SEM_OK)
        status = files_join(path, err, "%s/cranfield/qrels.tsv", folder);
    if (status == SEM_OK)
        status = add_abstracts(w, documents, err);
    FILE *in = status == SEM_OK ? fopen(path, "re") : NULL;
    if (status == SEM_OK)
        status = in != NULL ? add_judgements(w, queries, in, err) : files_fail(err, "read", path);
    if (in != NULL)
        fclose(in);
    w->heldout_is = "judged queries";
    json_decref(documents);
    json_decref(queries);
    return status;
}
