#include "finetune/suite_set.h"

#include "base/checked.h"
#include "base/hash.h"
#include "finetune/data_json.h"
#include "finetune/data_lines.h"
#include "finetune/data_reader.h"

#include <stdlib.h>
#include <string.h>

/* --- pairs */

void suite_texts_free(suite_texts *t)
{
    example_list_free(&t->pairs);
    free(t->anchors);
    free(t->positives);
    free(t->scores);
    *t = (suite_texts){0};
}

sem_status suite_texts_load(suite_texts *out, const data_options *data, sem_error *err)
{
    *out = (suite_texts){0};
    if (data->form == DATA_LABELLED)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s: form labelled has no pairs to evaluate", data->name);
    sem_status status = data_reader_all(data, &out->pairs, err);
    const size_t count = out->pairs.count;
    if (status == SEM_OK && count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "data set %s holds no pair", data->name);
    if (status != SEM_OK)
        return status;
    out->anchors = checked_realloc(NULL, count, sizeof *out->anchors);
    out->positives = checked_realloc(NULL, count, sizeof *out->positives);
    out->scores = checked_realloc(NULL, count, sizeof *out->scores);
    if (out->anchors == NULL || out->positives == NULL || out->scores == NULL)
        return sem_fail_memory(err, "the pairs of an evaluation");
    for (size_t i = 0; i < count; i++) {
        const example *e = out->pairs.items[i];
        out->anchors[i] = e->anchor;
        out->positives[i] = e->positive;
        out->scores[i] = e->score;
    }
    return SEM_OK;
}

/* --- judgements */

static int compare_judgements(const void *a, const void *b)
{
    const suite_judgement *x = a, *y = b;
    if (x->query != y->query)
        return x->query < y->query ? -1 : 1;
    return x->document < y->document ? -1 : x->document > y->document;
}

bool suite_is_relevant(const suite_judged *j, size_t query, size_t document)
{
    const suite_judgement wanted = {(uint32_t)query, (uint32_t)document};
    return j->judgement_count > 0 &&
           bsearch(&wanted, j->judgements, j->judgement_count, sizeof wanted, compare_judgements) != NULL;
}

/* Sorts them, drops what is there twice, counts each query's. */
static sem_status arrange(suite_judged *j, sem_error *err)
{
    size_t kept = 0;
    j->relevant_counts = calloc(j->query_count + 1, sizeof *j->relevant_counts);
    if (j->relevant_counts == NULL)
        return sem_fail_memory(err, "the judgements of an evaluation");
    if (j->judgement_count > 0)
        qsort(j->judgements, j->judgement_count, sizeof *j->judgements, compare_judgements);
    for (size_t i = 0; i < j->judgement_count; i++) {
        if (kept > 0 && compare_judgements(&j->judgements[kept - 1], &j->judgements[i]) == 0)
            continue;
        j->judgements[kept++] = j->judgements[i];
        j->relevant_counts[j->judgements[i].query]++;
    }
    j->judgement_count = kept;
    return SEM_OK;
}

void suite_judged_free(suite_judged *j)
{
    mine_set_free(&j->pairs);
    buffer_free(&j->strings);
    free(j->texts);
    free(j->judgements);
    free(j->relevant_counts);
    *j = (suite_judged){0};
}

sem_status suite_judged_from_pairs(suite_judged *out, const data_options *data, sem_error *err)
{
    *out = (suite_judged){0};
    sem_status status = mine_set_load(&out->pairs, data, err);
    if (status != SEM_OK)
        return status;
    const mine_set *s = &out->pairs;
    out->queries = s->queries;
    out->query_count = s->query_count;
    out->documents = s->documents;
    out->document_count = s->document_count;
    out->judgements = checked_realloc(NULL, s->pair_count, sizeof *out->judgements);
    if (out->judgements == NULL)
        return sem_fail_memory(err, "the judgements of an evaluation");
    for (size_t i = 0; i < s->pair_count; i++)
        out->judgements[out->judgement_count++] = (suite_judgement){s->pairs[i].query, s->pairs[i].document};
    return arrange(out, err);
}

/* --- files of the BEIR benchmark */

/* A text by its id. */
typedef struct named {
    uint64_t key; /* of the id */
    uint32_t number;
    size_t offset, length; /* in the strings */
} named;

typedef struct named_list {
    named *items; /* in the file's order, then sorted by key */
    size_t count, capacity;
} named_list;

static int compare_named(const void *a, const void *b)
{
    const named *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->number < y->number ? -1 : x->number > y->number;
}

/* Files read line by line. */
typedef struct beir_reading {
    const suite_beir *files;
    suite_judged *into;
    named_list queries, documents;
    named_list *list; /* of the two, that is being read */
} beir_reading;

typedef sem_status take_line(beir_reading *b, data_text line, uint64_t number, sem_error *err);

static sem_status read_lines(beir_reading *b, const char *path, take_line *take, sem_error *err)
{
    data_lines *lines;
    sem_status status = data_lines_open(&lines, path, b->files->longest, err);
    if (status != SEM_OK)
        return status;
    for (uint64_t number = 1; status == SEM_OK; number++) {
        data_line line;
        bool more;
        status = data_lines_next(lines, &line, &more, err);
        if (status != SEM_OK || !more)
            break;
        if (line.too_long)
            status = sem_fail(err, SEM_INVALID_ARGUMENT, "the line is longer than %zu bytes", b->files->longest);
        else
            status = take(b, (data_text){line.bytes, line.length}, number, err);
        if (status != SEM_OK)
            sem_error_prefix(err, "%s:%llu", path, (unsigned long long)number);
    }
    data_lines_close(lines);
    return status;
}

static bool append_text(suite_judged *j, data_text text)
{
    return text.length == 0 || buffer_append(&j->strings, text.bytes, text.length);
}

static sem_status add_named(beir_reading *b, data_text id, const data_texts *title, const data_texts *text,
                            sem_error *err)
{
    named_list *l = b->list;
    if (l->count == UINT32_MAX)
        return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "more than %u texts", UINT32_MAX);
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 1024 : 2 * l->capacity;
        named *grown = checked_realloc(l->items, l->capacity, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "the texts of an evaluation");
        l->items = grown;
    }
    named *n = &l->items[l->count];
    *n = (named){.key = hash_text(id.bytes, id.length), .number = (uint32_t)l->count, .offset = b->into->strings.size};
    const bool titled = title->count == 1 && title->items[0].length > 0;
    if ((titled && (!append_text(b->into, title->items[0]) || !append_text(b->into, (data_text){" ", 1}))) ||
        !append_text(b->into, text->items[0]))
        return sem_fail_memory(err, "the texts of an evaluation");
    n->length = b->into->strings.size - n->offset;
    l->count++;
    return SEM_OK;
}

static sem_status take_text(beir_reading *b, data_text line, uint64_t number, sem_error *err)
{
    (void)number;
    char digits[DATA_JSON_NUMBER_MAX];
    data_json *json;
    data_texts title = {0}, text = {0};
    data_text id;
    sem_status status = data_json_parse(&json, line, err);
    if (status != SEM_OK)
        return status;
    if (data_json_is_array(json))
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "it is an array; an object with an id and a text is needed");
    if (status == SEM_OK)
        status = data_json_word(json, data_json_has(json, "_id") ? "_id" : "id", digits, &id, err);
    if (status == SEM_OK && !b->files->without_titles && data_json_has(json, "title"))
        status = data_json_texts(json, "title", &title, err);
    if (status == SEM_OK)
        status = data_json_texts(json, "text", &text, err);
    if (status == SEM_OK && text.count != 1)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "\"text\" must be one string");
    if (status == SEM_OK)
        status = add_named(b, id, &title, &text, err);
    data_texts_free(&title);
    data_texts_free(&text);
    data_json_free(json);
    return status;
}

/* The number of the text of that id; false: there is none. */
static bool look_up(const named_list *l, data_text id, uint32_t *number)
{
    const uint64_t key = hash_text(id.bytes, id.length);
    size_t low = 0, high = l->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (l->items[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == l->count || l->items[low].key != key)
        return false;
    *number = l->items[low].number;
    return true;
}

static bool next_column(data_text *rest, data_text *column)
{
    const char *tab = rest->length > 0 ? memchr(rest->bytes, '\t', rest->length) : NULL;
    *column = (data_text){rest->bytes, tab != NULL ? (size_t)(tab - rest->bytes) : rest->length};
    const size_t passed = column->length + (tab != NULL);
    *rest = (data_text){rest->bytes + passed, rest->length - passed};
    return column->length > 0;
}

static sem_status add_judgement(suite_judged *j, uint32_t query, uint32_t document, sem_error *err)
{
    /* Room grows by doubling: at powers of two there is none left. */
    if ((j->judgement_count & (j->judgement_count - 1)) == 0) {
        const size_t wanted = j->judgement_count == 0 ? 1 : 2 * j->judgement_count;
        suite_judgement *grown = checked_realloc(j->judgements, wanted, sizeof *grown);
        if (grown == NULL)
            return sem_fail_memory(err, "the judgements of an evaluation");
        j->judgements = grown;
    }
    j->judgements[j->judgement_count++] = (suite_judgement){query, document};
    return SEM_OK;
}

static sem_status take_judgement(beir_reading *b, data_text line, uint64_t number, sem_error *err)
{
    char digits[32], *end;
    data_text rest = line, query, document, relevance;
    uint32_t query_number, document_number;
    if (!next_column(&rest, &query) || !next_column(&rest, &document) || !next_column(&rest, &relevance) ||
        relevance.length >= sizeof digits)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "three columns are needed: query, document, relevance");
    memcpy(digits, relevance.bytes, relevance.length);
    digits[relevance.length] = '\0';
    const double grade = strtod(digits, &end);
    if (end == digits || *end != '\0') {
        if (number == 1) /* the names of the columns */
            return SEM_OK;
        return sem_fail(err, SEM_INVALID_ARGUMENT, "the relevance is no number");
    }
    if (!look_up(&b->queries, query, &query_number))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "query %.*s is not in %s", (int)query.length, query.bytes,
                        b->files->queries);
    if (!(grade > 0) || !look_up(&b->documents, document, &document_number))
        return SEM_OK;
    return add_judgement(b->into, query_number, document_number, err);
}

/* texts[count] in the file's order; the list becomes sorted for look_up. */
static sem_status place_texts(const suite_judged *j, named_list *l, data_text *texts, const char *path, sem_error *err)
{
    for (size_t i = 0; i < l->count; i++)
        texts[i] = (data_text){(const char *)j->strings.data + l->items[i].offset, l->items[i].length};
    if (l->count > 0)
        qsort(l->items, l->count, sizeof *l->items, compare_named);
    for (size_t i = 1; i < l->count; i++)
        if (l->items[i].key == l->items[i - 1].key)
            return sem_fail(err, SEM_INVALID_ARGUMENT, "%s: texts %u and %u have the same id", path,
                            l->items[i - 1].number + 1, l->items[i].number + 1);
    return SEM_OK;
}

static sem_status read_beir(beir_reading *b, sem_error *err)
{
    suite_judged *j = b->into;
    b->list = &b->queries;
    sem_status status = read_lines(b, b->files->queries, take_text, err);
    b->list = &b->documents;
    if (status == SEM_OK)
        status = read_lines(b, b->files->corpus, take_text, err);
    if (status != SEM_OK)
        return status;
    j->texts = checked_realloc(NULL, b->queries.count + b->documents.count + 1, sizeof *j->texts);
    if (j->texts == NULL || !buffer_reserve(&j->strings, 1))
        return sem_fail_memory(err, "the texts of an evaluation");
    j->queries = j->texts;
    j->query_count = b->queries.count;
    j->documents = j->texts + j->query_count;
    j->document_count = b->documents.count;
    status = place_texts(j, &b->queries, j->texts, b->files->queries, err);
    if (status == SEM_OK)
        status = place_texts(j, &b->documents, j->texts + j->query_count, b->files->corpus, err);
    if (status == SEM_OK)
        status = read_lines(b, b->files->qrels, take_judgement, err);
    if (status == SEM_OK && j->judgement_count == 0)
        status = sem_fail(err, SEM_INVALID_ARGUMENT, "%s: no query has a relevant document", b->files->qrels);
    return status == SEM_OK ? arrange(j, err) : status;
}

sem_status suite_judged_from_beir(suite_judged *out, const suite_beir *files, sem_error *err)
{
    *out = (suite_judged){0};
    beir_reading b = {.files = files, .into = out};
    sem_status status = read_beir(&b, err);
    free(b.queries.items);
    free(b.documents.items);
    return status == SEM_OK ? SEM_OK : sem_error_prefix(err, "evaluation %s", files->name);
}
