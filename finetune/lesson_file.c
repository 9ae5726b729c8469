#include "finetune/lesson_file.h"

#include "base/checked.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* The sections "pairs" and "negatives" have these; "texts" and "vectors" what they point to. */
typedef struct saved_text {
    uint64_t at, length; /* bytes in "texts" */
} saved_text;

typedef struct saved_pair {
    saved_text query, document;
    uint64_t document_key, query_key;
    uint64_t first_negative, negative_count;
    uint64_t vector; /* row of "vectors", counted from 1; 0: none */
    float weight;
    uint32_t domain, origin, unused;
} saved_pair;

typedef struct saved_negative {
    saved_text text;
    uint64_t key, vector;
} saved_negative;

/* --- things that several point to */

typedef struct shared_thing {
    const void *data;
    uint64_t size; /* bytes */
    uint64_t at;   /* where it is written */
} shared_thing;

typedef struct shared_things {
    shared_thing *items; /* in order of data and size, once sorted */
    size_t count;
} shared_things;

static int compare_things(const void *a, const void *b)
{
    const shared_thing *x = a, *y = b;
    if (x->data != y->data)
        return (uintptr_t)x->data < (uintptr_t)y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* Sorts them, drops repeats, and gives each its place in a row. */
static uint64_t place_things(shared_things *s)
{
    uint64_t end = 0;
    size_t kept = 0;
    if (s->count > 0)
        qsort(s->items, s->count, sizeof *s->items, compare_things);
    for (size_t i = 0; i < s->count; i++) {
        if (kept > 0 && compare_things(&s->items[kept - 1], &s->items[i]) == 0)
            continue;
        s->items[kept] = s->items[i];
        s->items[kept++].at = end;
        end += s->items[i].size;
    }
    s->count = kept;
    return end;
}

static uint64_t place_of(const shared_things *s, const void *data, uint64_t size)
{
    const shared_thing wanted = {.data = data, .size = size};
    const shared_thing *found = bsearch(&wanted, s->items, s->count, sizeof wanted, compare_things);
    return found != NULL ? found->at : 0; /* each was put there */
}

static sem_status write_things(checkpoint_writer *w, const char *name, const shared_things *s, uint64_t size,
                               sem_error *err)
{
    char *all = checked_realloc(NULL, (size_t)size + 1, 1);
    if (all == NULL)
        return sem_fail_memory(err, "a lesson's file");
    for (size_t i = 0; i < s->count; i++)
        if (s->items[i].size > 0)
            memcpy(all + s->items[i].at, s->items[i].data, (size_t)s->items[i].size);
    sem_status status = checkpoint_put(w, name, all, (size_t)size, err);
    free(all);
    return status;
}

/* --- writing */

typedef struct lesson_writing {
    const train_pair *pairs;
    size_t count, negative_count;
    uint64_t row; /* bytes of a vector */
    shared_things texts, vectors;
    saved_pair *saved;
    saved_negative *saved_negatives;
} lesson_writing;

static void writing_free(lesson_writing *l)
{
    free(l->texts.items);
    free(l->vectors.items);
    free(l->saved);
    free(l->saved_negatives);
}

static void note(shared_things *s, const void *data, uint64_t size)
{
    if (data != NULL)
        s->items[s->count++] = (shared_thing){.data = data, .size = size};
}

static sem_status gather(lesson_writing *l, sem_error *err)
{
    for (size_t i = 0; i < l->count; i++)
        l->negative_count += l->pairs[i].negative_count;
    const size_t most = 2 * l->count + l->negative_count + 1;
    l->texts.items = calloc(most, sizeof *l->texts.items);
    l->vectors.items = calloc(most, sizeof *l->vectors.items);
    l->saved = calloc(l->count + 1, sizeof *l->saved);
    l->saved_negatives = calloc(l->negative_count + 1, sizeof *l->saved_negatives);
    if (l->texts.items == NULL || l->vectors.items == NULL || l->saved == NULL || l->saved_negatives == NULL)
        return sem_fail_memory(err, "a lesson's file");
    for (size_t i = 0; i < l->count; i++) {
        const train_pair *p = &l->pairs[i];
        note(&l->texts, p->query, p->query_length);
        note(&l->texts, p->document, p->document_length);
        note(&l->vectors, p->document_vector, l->row);
        for (size_t k = 0; k < p->negative_count; k++) {
            note(&l->texts, p->negatives[k].text, p->negatives[k].length);
            note(&l->vectors, p->negatives[k].vector, l->row);
        }
    }
    return SEM_OK;
}

static saved_text text_of(const lesson_writing *l, const char *text, size_t length)
{
    return (saved_text){.at = place_of(&l->texts, text, length), .length = length};
}

static uint64_t vector_of(const lesson_writing *l, const float *vector)
{
    return vector != NULL ? place_of(&l->vectors, vector, l->row) / l->row + 1 : 0;
}

static void describe(lesson_writing *l)
{
    size_t at = 0;
    for (size_t i = 0; i < l->count; i++) {
        const train_pair *p = &l->pairs[i];
        l->saved[i] = (saved_pair){.query = text_of(l, p->query, p->query_length),
                                   .document = text_of(l, p->document, p->document_length),
                                   .document_key = p->document_key,
                                   .query_key = p->query_key,
                                   .first_negative = at,
                                   .negative_count = p->negative_count,
                                   .vector = vector_of(l, p->document_vector),
                                   .weight = p->weight,
                                   .domain = p->domain,
                                   .origin = (uint32_t)p->origin};
        for (size_t k = 0; k < p->negative_count; k++) {
            const train_negative *n = &p->negatives[k];
            l->saved_negatives[at++] = (saved_negative){
                .text = text_of(l, n->text, n->length), .key = n->key, .vector = vector_of(l, n->vector)};
        }
    }
}

static sem_status put_all(lesson_writing *l, checkpoint_writer *w, sem_error *err)
{
    const uint64_t texts = place_things(&l->texts), vectors = place_things(&l->vectors);
    describe(l);
    sem_status status = checkpoint_put(w, "row", &l->row, sizeof l->row, err);
    if (status == SEM_OK)
        status = checkpoint_put(w, "pairs", l->saved, l->count * sizeof *l->saved, err);
    if (status == SEM_OK)
        status =
            checkpoint_put(w, "negatives", l->saved_negatives, l->negative_count * sizeof *l->saved_negatives, err);
    if (status == SEM_OK)
        status = write_things(w, "texts", &l->texts, texts, err);
    return status == SEM_OK ? write_things(w, "vectors", &l->vectors, vectors, err) : status;
}

sem_status lesson_file_write(const char *path, const train_pair *pairs, size_t count, size_t dim, sem_error *err)
{
    checkpoint_writer *w = NULL;
    lesson_writing l = {.pairs = pairs, .count = count, .row = dim * sizeof(float)};
    sem_status status = gather(&l, err);
    if (status == SEM_OK)
        status = checkpoint_create(&w, path, err);
    if (status == SEM_OK)
        status = put_all(&l, w, err);
    if (status == SEM_OK)
        status = checkpoint_commit(w, err);
    else
        checkpoint_abandon(w);
    writing_free(&l);
    return status;
}

/* --- reading */

typedef struct lesson_reading {
    const saved_pair *pairs;
    const saved_negative *negatives;
    const char *texts;
    const char *vectors;
    size_t pair_bytes, negative_bytes, text_bytes, vector_bytes;
    uint64_t row;
    bool damaged;
} lesson_reading;

static sem_status view_all(lesson_reading *l, const checkpoint_reader *c, sem_error *err)
{
    const void *pairs = NULL, *negatives = NULL, *texts = NULL, *vectors = NULL;
    sem_status status = checkpoint_get(c, "row", &l->row, sizeof l->row, err);
    if (status == SEM_OK)
        status = checkpoint_view(c, "pairs", &pairs, &l->pair_bytes, err);
    if (status == SEM_OK)
        status = checkpoint_view(c, "negatives", &negatives, &l->negative_bytes, err);
    if (status == SEM_OK)
        status = checkpoint_view(c, "texts", &texts, &l->text_bytes, err);
    if (status == SEM_OK)
        status = checkpoint_view(c, "vectors", &vectors, &l->vector_bytes, err);
    l->pairs = pairs;
    l->negatives = negatives;
    l->texts = texts;
    l->vectors = vectors;
    return status;
}

static const char *text_at(lesson_reading *l, saved_text t)
{
    if (t.at <= l->text_bytes && t.length <= l->text_bytes - t.at)
        return l->texts + t.at;
    l->damaged = true;
    return l->texts;
}

static const float *vector_at(lesson_reading *l, uint64_t number)
{
    if (number == 0)
        return NULL;
    if (number <= l->vector_bytes / l->row)
        return (const float *)(const void *)(l->vectors + (number - 1) * l->row);
    l->damaged = true;
    return NULL;
}

static void take_pairs(lesson_file *out, lesson_reading *l)
{
    const size_t negatives = l->negative_bytes / sizeof *l->negatives;
    for (size_t i = 0; i < negatives; i++) {
        const saved_negative *n = &l->negatives[i];
        out->negatives[i] = (train_negative){.text = text_at(l, n->text),
                                             .length = (size_t)n->text.length,
                                             .key = n->key,
                                             .vector = vector_at(l, n->vector)};
    }
    for (size_t i = 0; i < out->count; i++) {
        const saved_pair *p = &l->pairs[i];
        if (p->first_negative > negatives || p->negative_count > negatives - p->first_negative) {
            l->damaged = true;
            return;
        }
        out->pairs[i] = (train_pair){.query = text_at(l, p->query),
                                     .query_length = (size_t)p->query.length,
                                     .document = text_at(l, p->document),
                                     .document_length = (size_t)p->document.length,
                                     .document_key = p->document_key,
                                     .query_key = p->query_key,
                                     .weight = p->weight,
                                     .negatives = out->negatives + p->first_negative,
                                     .negative_count = (size_t)p->negative_count,
                                     .domain = p->domain,
                                     .origin = (train_origin)p->origin,
                                     .document_vector = vector_at(l, p->vector)};
    }
}

static sem_status read_all(lesson_file *out, const char *path, size_t dim, sem_error *err)
{
    lesson_reading l = {0};
    sem_status status = view_all(&l, out->reader, err);
    if (status != SEM_OK)
        return status;
    if (l.row != dim * sizeof(float) || l.row == 0)
        return sem_fail(err, SEM_FAILED_PRECONDITION, "%s has vectors of %zu floats, %zu are needed", path,
                        (size_t)l.row / sizeof(float), dim);
    out->count = l.pair_bytes / sizeof *l.pairs;
    out->pairs = calloc(out->count + 1, sizeof *out->pairs);
    out->negatives = calloc(l.negative_bytes / sizeof *l.negatives + 1, sizeof *out->negatives);
    if (out->pairs == NULL || out->negatives == NULL)
        return sem_fail_memory(err, "a lesson");
    take_pairs(out, &l);
    return !l.damaged ? SEM_OK : sem_fail(err, SEM_FAILED_PRECONDITION, "%s is damaged: remove it", path);
}

sem_status lesson_file_read(lesson_file *out, const char *path, size_t dim, sem_error *err)
{
    *out = (lesson_file){0};
    sem_status status = checkpoint_open(&out->reader, path, err);
    if (status == SEM_OK)
        status = read_all(out, path, dim, err);
    if (status != SEM_OK)
        lesson_file_free(out);
    return status;
}

void lesson_file_free(lesson_file *l)
{
    free(l->pairs);
    free(l->negatives);
    checkpoint_close(l->reader);
    *l = (lesson_file){0};
}
