/* What the gate ranks in a collection: documents and queries. A document of passages is ranked
 * as training sees it, by its beginning: as much as the model takes. */
#include "base/checked.h"
#include "base/random.h"
#include "finetune/gate_sample.h"
#include "finetune/own_pairs.h"
#include "daemon/job_gate.h"

#include <stdlib.h>
#include <string.h>

enum { PROBE_QUERY_BYTES = 160 /* a probe query is a document's first sentence, at most so long */ };

/* --- chosen queries */

static int compare_entries(const void *a, const void *b)
{
    const heldout_query *x = *(const heldout_query *const *)a, *y = *(const heldout_query *const *)b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->collection != y->collection)
        return x->collection < y->collection ? -1 : 1;
    return (x > y) - (x < y); /* of one array, in the order of the log */
}

sem_status gate_choose(const heldout_query *entries, size_t count, gate_chosen *out, sem_error *err)
{
    size_t queries = 0;
    *out = (gate_chosen){.entries = checked_realloc(NULL, count + 1, sizeof *out->entries)};
    if (out->entries == NULL)
        return sem_fail_memory(err, "the gate's queries");
    for (size_t i = 0; i < count; i++)
        out->entries[i] = &entries[i];
    qsort(out->entries, count, sizeof *out->entries, compare_entries);
    for (size_t i = 0; i < count; i++) {
        queries += i == 0 || out->entries[i]->key != out->entries[i - 1]->key;
        if (queries > GATE_QUERIES_MAX)
            break;
        out->count++;
    }
    return SEM_OK;
}

void gate_chosen_free(gate_chosen *c)
{
    free(c->entries);
    *c = (gate_chosen){0};
}

/* --- documents */

typedef struct building {
    gate_pool *pool;
    store_read *read;
    const gate_pool_options *options;
    store_collection collection;
    gate_draw *draws;
    size_t draw_count;
    uint32_t *sampled; /* [draw_count] numbers of documents, the lowest draw first */
    text_pool asked;   /* probe queries: each is asked once */
    sem_error *err;
} building;

/* *number = that of the document with this text, which is added if there is none: a text that
 * stood twice could never be ranked first. */
static sem_status add_document(building *b, gate_document document, const char *text, size_t length, uint32_t *number)
{
    gate_pool *p = b->pool;
    if (!text_pool_keep(&p->texts, text, length, number))
        return sem_fail_memory(b->err, "the gate's documents");
    if (*number < p->count) {
        if (p->documents[*number].docno == UINT32_MAX)
            p->documents[*number] = document;
        return SEM_OK;
    }
    gate_document *list = items_with_room(p->documents, p->count, &p->capacity, sizeof *list);
    if (list == NULL)
        return sem_fail_memory(b->err, "the gate's documents");
    p->documents = list;
    p->documents[p->count++] = document;
    return SEM_OK;
}

static sem_status add_stored(building *b, uint32_t docno, uint32_t *number, bool *found)
{
    store_document doc;
    sem_status status = store_document_by_number(b->read, b->collection.number, docno, &doc, found, b->err);
    if (status != SEM_OK || !*found)
        return status;
    const gate_document document = {docno, doc.text_version, b->collection.passage_tokens > 0};
    return add_document(b, document, doc.text, doc.text_length, number);
}

/* --- queries that people asked */

static bool is_relevant(const gate_pool *p, const gate_query *q, uint32_t number)
{
    for (size_t i = 0; i < q->count; i++)
        if (p->relevant[q->first + i] == number)
            return true;
    return false;
}

/* What was shown where the document was chosen, as far as it still exists. */
static sem_status add_shown(building *b, const heldout_query *h, gate_vote *vote)
{
    gate_pool *p = b->pool;
    vote->first = p->shown_count;
    for (size_t i = 0; i < h->shown_count; i++) {
        uint32_t number;
        bool found;
        sem_status status = add_stored(b, h->shown[i], &number, &found);
        if (status != SEM_OK)
            return status;
        if (!found)
            continue;
        uint32_t *list = items_with_room(p->shown, p->shown_count, &p->shown_capacity, sizeof *list);
        if (list == NULL)
            return sem_fail_memory(b->err, "the gate's documents");
        p->shown = list;
        list[p->shown_count++] = number;
    }
    vote->count = p->shown_count - vote->first;
    return SEM_OK;
}

static sem_status add_vote(building *b, const heldout_query *h, gate_query *q, uint32_t number)
{
    gate_pool *p = b->pool;
    gate_vote *vote = &p->votes[p->vote_count];
    *vote = (gate_vote){.document = number, .weight = h->weight};
    sem_status status = add_shown(b, h, vote);
    if (q->vote_count == 0)
        q->first_vote = p->vote_count;
    if (status == SEM_OK) {
        p->vote_count++;
        q->vote_count++;
    }
    return status;
}

static sem_status add_asked(building *b, const heldout_query *h, gate_set set)
{
    gate_pool *p = b->pool;
    uint32_t number;
    bool found = true;
    sem_status status;
    if (h->by_id)
        status = add_stored(b, h->docno, &number, &found);
    else
        status = add_document(b, (gate_document){.docno = UINT32_MAX}, h->document, h->document_length, &number);
    if (status != SEM_OK || !found)
        return status;
    if (p->in_set[set] == 0 || p->queries[p->query_count - 1].key != h->key) {
        p->queries[p->query_count++] =
            (gate_query){.key = h->key, .text = h->query, .length = h->query_length, .first = p->relevant_count};
        p->in_set[set]++;
    }
    gate_query *q = &p->queries[p->query_count - 1];
    if (!is_relevant(p, q, number)) {
        p->relevant[p->relevant_count++] = number;
        q->count++;
    }
    return set == GATE_HELDOUT ? add_vote(b, h, q, number) : SEM_OK;
}

static sem_status add_chosen(building *b, gate_set set)
{
    const gate_chosen *c = &b->options->chosen[set];
    sem_status status = SEM_OK;
    for (size_t i = 0; i < c->count && status == SEM_OK; i++)
        if (c->entries[i]->collection == b->collection.number)
            status = add_asked(b, c->entries[i], set);
    return status;
}

/* --- the sample */

static bool draw_one(void *context, const store_document *doc)
{
    building *b = context;
    const gate_draw one = {random_at(b->collection.number, doc->docno), doc->docno};
    if (doc->text_length > 0)
        gate_draw_add(b->draws, &b->draw_count, b->options->documents, one);
    return !atomic_load(b->options->cancel);
}

static sem_status add_sample(building *b)
{
    b->draws = checked_realloc(NULL, b->options->documents + 1, sizeof *b->draws);
    b->sampled = checked_realloc(NULL, b->options->documents + 1, sizeof *b->sampled);
    if (b->draws == NULL || b->sampled == NULL)
        return sem_fail_memory(b->err, "the gate's sample");
    sem_status status = store_document_walk(b->read, b->collection.number, NULL, 0, draw_one, b, b->err);
    if (status == SEM_OK && atomic_load(b->options->cancel))
        status = sem_fail(b->err, SEM_CANCELLED, "cancelled while the gate looked for documents");
    gate_draw_sort(b->draws, b->draw_count);
    for (size_t i = 0; i < b->draw_count && status == SEM_OK; i++) {
        bool found = false;
        status = add_stored(b, b->draws[i].docno, &b->sampled[i], &found);
        if (status == SEM_OK && !found)
            status = sem_fail(b->err, SEM_INTERNAL, "collection %s: document %u is not in the snapshot that it was in",
                              b->collection.name, b->draws[i].docno);
    }
    return status;
}

/* --- queries from the collection's own text */

static size_t first_sentence(const char *text, size_t length)
{
    size_t limit = length < PROBE_QUERY_BYTES ? length : PROBE_QUERY_BYTES;
    for (size_t i = 20; i + 1 < limit; i++)
        if ((text[i] == '.' || text[i] == '!' || text[i] == '?') && text[i + 1] == ' ')
            return i;
    while (limit > 0 && limit < length && ((unsigned char)text[limit] & 0xC0) == 0x80)
        limit--;
    return limit;
}

/* A probe of a document, if nothing is made of its text for training, or something is, as
 * wanted, and its first sentence has not been asked yet. False when memory is out. */
static bool add_probe(building *b, uint32_t number, bool never_trained)
{
    gate_pool *p = b->pool;
    const pooled_text *t = &p->texts.texts[number];
    const char *text = (const char *)p->texts.strings.data + t->offset;
    const size_t length = first_sentence(text, t->length), known = b->asked.count;
    uint32_t place;
    if (length == 0 || own_text_is_probe(b->options->key, text, t->length) != never_trained)
        return true;
    if (!text_pool_keep(&b->asked, text, length, &place))
        return false;
    if (place < known)
        return true;
    p->queries[p->query_count++] = (gate_query){.text = text, .length = length, .first = p->relevant_count, .count = 1};
    p->relevant[p->relevant_count++] = number;
    p->in_set[GATE_PROBE]++;
    return true;
}

static sem_status add_probes(building *b, size_t most, bool never_trained)
{
    for (size_t i = 0; i < b->draw_count && b->pool->in_set[GATE_PROBE] < most; i++)
        if (!add_probe(b, b->sampled[i], never_trained))
            return sem_fail_memory(b->err, "the probe queries");
    return SEM_OK;
}

/* --- all of it */

static sem_status build(building *b)
{
    gate_pool *p = b->pool;
    const gate_pool_options *o = b->options;
    const size_t most = o->chosen[GATE_HELDOUT].count + o->chosen[GATE_NEWEST].count + o->probes + GATE_PROBES_LEAST +
                        1;
    p->queries = checked_realloc(NULL, most, sizeof *p->queries);
    p->relevant = checked_realloc(NULL, most, sizeof *p->relevant);
    p->votes = checked_realloc(NULL, o->chosen[GATE_HELDOUT].count + 1, sizeof *p->votes);
    if (p->queries == NULL || p->relevant == NULL || p->votes == NULL)
        return sem_fail_memory(b->err, "the gate's queries");
    sem_status status = add_chosen(b, GATE_HELDOUT);
    if (status == SEM_OK)
        status = add_chosen(b, GATE_NEWEST);
    if (status == SEM_OK)
        status = add_sample(b);
    if (status == SEM_OK)
        status = add_probes(b, o->probes, true);
    return status == SEM_OK ? add_probes(b, GATE_PROBES_LEAST, false) : status;
}

sem_status gate_pool_build(gate_pool *out, store_read *r, uint32_t collection, const gate_pool_options *options,
                           sem_error *err)
{
    *out = (gate_pool){.collection = collection};
    building b = {.pool = out, .read = r, .options = options, .err = err};
    sem_status status = store_collection_at(r, collection, &b.collection, err);
    if (status == SEM_OK)
        status = build(&b);
    free(b.draws);
    free(b.sampled);
    text_pool_free(&b.asked);
    if (status != SEM_OK)
        gate_pool_free(out);
    return status;
}

void gate_pool_free(gate_pool *p)
{
    text_pool_free(&p->texts);
    free(p->documents);
    free(p->queries);
    free(p->relevant);
    free(p->votes);
    free(p->shown);
    *p = (gate_pool){0};
}
