#include "finetune/pairs.h"

#include "base/buffer.h"
#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"

#include <math.h>
#include <string.h>

/* Where a text lies in the collector's strings: many queries name one document,
 * whose text is kept once. */
typedef struct kept_text {
    uint64_t hash;
    size_t offset;
    size_t length;
} kept_text;

/* The latest judgement of one document for one query of one collection. */
typedef struct vote {
    uint32_t collection;
    uint32_t docno; /* if by_id */
    bool by_id;
    uint32_t query; /* index of a kept_text */
    uint32_t document;
    float weight; /* 0: taken back, or judged bad */
} vote;

/* Open addressing over indices into an array; 0 is free, else index + 1. */
typedef struct index_table {
    uint32_t *cells;
    size_t size; /* a power of two, or 0 */
} index_table;

typedef struct collector {
    store_read *read;
    const pair_options *options;
    buffer strings;
    kept_text *texts;
    size_t text_count, text_capacity;
    index_table text_table;
    vote *votes;
    size_t vote_count, vote_capacity;
    index_table vote_table;
    uint32_t collection; /* the last one asked about; 0: none yet */
    bool learns;         /* its vectors are the model's */
    size_t gone;         /* judgements whose document or collection is gone, or whose collection is external */
    sem_status status;   /* of a judgement, which ends the walk */
    sem_error *err;
} collector;

static void collector_free(collector *c)
{
    buffer_free(&c->strings);
    free(c->texts);
    free(c->text_table.cells);
    free(c->votes);
    free(c->vote_table.cells);
}

/* items with room for one more element, moved if need be; NULL when memory is
 * out (items is then still valid). */
static void *with_room(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    size_t wanted = *capacity == 0 ? 256 : *capacity * 2;
    void *grown = wanted <= UINT32_MAX ? checked_realloc(items, wanted, size) : NULL;
    if (grown != NULL)
        *capacity = wanted;
    return grown;
}

typedef uint64_t hash_of_item(const collector *c, size_t item);

static void table_put(index_table *table, uint64_t hash, size_t item)
{
    size_t cell = (size_t)hash & (table->size - 1);
    while (table->cells[cell] != 0)
        cell = (cell + 1) & (table->size - 1);
    table->cells[cell] = (uint32_t)item + 1;
}

/* Keeps the table at most half full with one more of `count` items in it. */
static bool table_reserve(index_table *table, const collector *c, size_t count, hash_of_item *hash_of)
{
    if ((count + 1) * 2 <= table->size)
        return true;
    index_table grown = {.size = table->size == 0 ? 1024 : table->size * 2};
    grown.cells = calloc(grown.size, sizeof *grown.cells);
    if (grown.cells == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        table_put(&grown, hash_of(c, i), i);
    free(table->cells);
    *table = grown;
    return true;
}

static uint64_t text_hash(const collector *c, size_t item)
{
    return c->texts[item].hash;
}

/* *out = the index of an equal text, kept now if there was none. */
static bool keep_text(collector *c, const char *text, size_t length, uint32_t *out)
{
    uint64_t hash = hash_text(text, length);
    kept_text *texts = with_room(c->texts, c->text_count, &c->text_capacity, sizeof *texts);
    if (texts == NULL)
        return false;
    c->texts = texts;
    if (!table_reserve(&c->text_table, c, c->text_count, text_hash))
        return false;
    size_t mask = c->text_table.size - 1;
    for (size_t cell = (size_t)hash & mask; c->text_table.cells[cell] != 0; cell = (cell + 1) & mask) {
        uint32_t item = c->text_table.cells[cell] - 1;
        const kept_text *k = &c->texts[item];
        if (k->hash == hash && k->length == length &&
            (length == 0 || memcmp(c->strings.data + k->offset, text, length) == 0)) {
            *out = item;
            return true;
        }
    }
    if (length > 0 && !buffer_append(&c->strings, text, length))
        return false;
    c->texts[c->text_count] = (kept_text){hash, c->strings.size - length, length};
    table_put(&c->text_table, hash, c->text_count);
    *out = (uint32_t)c->text_count++;
    return true;
}

static uint64_t vote_hash(const collector *c, size_t item)
{
    const vote *v = &c->votes[item];
    uint32_t identity[3] = {v->collection, v->query, v->document};
    return hash_text(identity, sizeof identity);
}

/* The latest vote counts; it stays at the place of the first. */
static bool put_vote(collector *c, const vote *v)
{
    vote *votes = with_room(c->votes, c->vote_count, &c->vote_capacity, sizeof *votes);
    if (votes == NULL)
        return false;
    c->votes = votes;
    if (!table_reserve(&c->vote_table, c, c->vote_count, vote_hash))
        return false;
    c->votes[c->vote_count] = *v;
    uint64_t hash = vote_hash(c, c->vote_count);
    size_t mask = c->vote_table.size - 1;
    for (size_t cell = (size_t)hash & mask; c->vote_table.cells[cell] != 0; cell = (cell + 1) & mask) {
        vote *old = &c->votes[c->vote_table.cells[cell] - 1];
        if (old->collection == v->collection && old->query == v->query && old->document == v->document) {
            *old = *v;
            return true;
        }
    }
    table_put(&c->vote_table, hash, c->vote_count++);
    return true;
}

/* Reads the text that a judgement by id names. */
static sem_status find_text(collector *c, const event_judgement *j, vote *v, const char **text, size_t *length,
                            bool *found)
{
    store_document doc;
    sem_status status = store_document_get(c->read, j->collection, &j->id, &doc, found, c->err);
    if (status != SEM_OK || !*found)
        return status;
    *text = doc.text;
    *length = doc.text_length;
    v->docno = doc.docno;
    return SEM_OK;
}

/* Whether judgements of the collection are learnt from: its vectors come from the model. */
static sem_status look_up_collection(collector *c, uint32_t number)
{
    store_collection found;
    if (c->collection == number)
        return SEM_OK;
    sem_status status = store_collection_at(c->read, number, &found, c->err);
    if (status != SEM_OK && status != SEM_NOT_FOUND)
        return status;
    c->collection = number;
    c->learns = status == SEM_OK && !found.external;
    return SEM_OK;
}

static bool take_judgement(void *context, const event_judgement *j)
{
    collector *c = context;
    if (c->options->collection != 0 && j->collection != c->options->collection)
        return true;
    c->status = look_up_collection(c, j->collection);
    if (c->status != SEM_OK)
        return false;
    if (!c->learns) {
        c->gone++;
        return true;
    }
    vote v = {.collection = j->collection, .by_id = j->by_id};
    /* One click is one vote however much it claims to weigh. */
    v.weight = j->weight > 0 ? (float)fmin(j->weight, 1) : 0;
    const char *text = j->text;
    size_t length = j->text_length;
    bool found = true;
    if (j->by_id)
        c->status = find_text(c, j, &v, &text, &length, &found);
    if (c->status != SEM_OK)
        return false;
    if (!found) {
        c->gone++;
        return true;
    }
    if (!keep_text(c, j->query, j->query_length, &v.query) || !keep_text(c, text, length, &v.document) ||
        !put_vote(c, &v)) {
        c->status = sem_fail_memory(c->err, "the training pairs");
        return false;
    }
    return true;
}

/* A pure function of the query's text, so that a query held out once is held
 * out in every round. */
static bool is_held_out(const pair_options *options, const char *query, size_t length)
{
    uint64_t hash = hash_keyed(options->key, query, length);
    return random_unit_of(hash) < options->heldout_share;
}

static void add_pair(pair_set *out, const collector *c, const vote *v)
{
    const kept_text *query = &c->texts[v->query], *document = &c->texts[v->document];
    const char *strings = out->texts;
    out->pairs[out->count++] = (train_pair){
        .query = strings + query->offset,
        .query_length = query->length,
        .document = strings + document->offset,
        .document_length = document->length,
        .document_key = document->hash,
        .query_key = query->hash,
        .weight = v->weight,
    };
}

static void add_heldout(pair_set *out, const collector *c, const vote *v)
{
    const kept_text *query = &c->texts[v->query], *document = &c->texts[v->document];
    const char *strings = out->texts;
    out->heldout[out->heldout_count++] = (heldout_query){
        .query = strings + query->offset,
        .query_length = query->length,
        .collection = v->collection,
        .by_id = v->by_id,
        .docno = v->docno,
        .document = strings + document->offset,
        .document_length = document->length,
    };
}

/* Moves what was collected into out. */
static sem_status build_set(collector *c, pair_set *out, sem_error *err)
{
    out->pairs = checked_realloc(NULL, c->vote_count + 1, sizeof *out->pairs);
    out->heldout = checked_realloc(NULL, c->vote_count + 1, sizeof *out->heldout);
    if (out->pairs == NULL || out->heldout == NULL || !buffer_reserve(&c->strings, 1))
        return sem_fail_memory(err, "the training pairs");
    out->texts = c->strings.data;
    c->strings = (buffer){0};
    out->skipped = c->gone;
    for (size_t i = 0; i < c->vote_count; i++) {
        const vote *v = &c->votes[i];
        const kept_text *query = &c->texts[v->query];
        if (!(v->weight > 0))
            out->skipped++;
        else if (is_held_out(c->options, (const char *)out->texts + query->offset, query->length))
            add_heldout(out, c, v);
        else
            add_pair(out, c, v);
    }
    return SEM_OK;
}

sem_status pair_set_collect(pair_set *out, store_read *r, const pair_options *options, sem_error *err)
{
    *out = (pair_set){0};
    collector c = {.read = r, .options = options, .err = err};
    sem_status status = events_judgements(r, 0, take_judgement, &c, err);
    if (status == SEM_OK)
        status = c.status;
    if (status == SEM_OK)
        status = build_set(&c, out, err);
    if (status != SEM_OK)
        pair_set_free(out);
    collector_free(&c);
    return status;
}

void pair_set_free(pair_set *set)
{
    free(set->pairs);
    free(set->heldout);
    free(set->texts);
    *set = (pair_set){0};
}
