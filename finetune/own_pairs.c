#include "finetune/own_pairs.h"

#include "base/checked.h"
#include "base/hash.h"
#include "base/random.h"
#include "model/sentences.h"
#include "finetune/text_pool.h"

#include <stdlib.h>
#include <string.h>

enum {
    DOCUMENTS_A_READ = 4096, /* a long read keeps the store from using freed pages again */
    QUERY_LEAST = 8,         /* bytes: less says nothing */
    QUERY_MOST = 512,        /* bytes: more is no title, and is cut in training */
    REST_LEAST = 16,
    REST_MOST = 8192, /* bytes of a text that is encoded for training, which cuts it far earlier */
    PROBE_STREAM = 41
};

static const double PROBE_SHARE = 0.5; /* a collection of 400 documents has 200 probe queries */

bool own_text_is_probe(const unsigned char key[16], const char *text, size_t length)
{
    return random_unit_of(random_at(hash_keyed(key, text, length), PROBE_STREAM)) < PROBE_SHARE;
}

/* A pair by the numbers of its texts. */
typedef struct own_pair {
    uint32_t collection, docno;
    uint32_t query, document;
    uint64_t key; /* of the whole text */
} own_pair;

typedef struct collecting {
    const own_pairs_options *options;
    text_pool texts;
    own_pair *pairs;
    size_t count, capacity;
    double share;        /* of all documents */
    uint32_t collection; /* that is walked */
    unsigned char after[DOCID_KEY_MAX];
    size_t after_length; /* 0: from the start */
    size_t walked;       /* documents in this read */
    bool more;           /* the collection goes on */
    sem_status status;
    sem_error *err;
} collecting;

typedef struct range {
    size_t from, to;
} range;

/* The first sentence and the rest; false where one of them is none. */
static bool split(const store_document *doc, range *query, range *rest)
{
    *query = (range){0, sentence_end(doc->text, doc->text_length, 0)};
    *rest = (range){query->to, doc->text_length};
    query->from = sentence_trim(doc->text, query->from, &query->to);
    rest->from = sentence_trim(doc->text, rest->from, &rest->to);
    const size_t q = query->to - query->from, r = rest->to - rest->from;
    if (r > REST_MOST)
        rest->to = sentence_cut(doc->text, rest->to, rest->from, REST_MOST);
    return q >= QUERY_LEAST && q <= QUERY_MOST && r >= REST_LEAST;
}

static bool keep_pair(collecting *c, const store_document *doc, range query, range document)
{
    own_pair *list = items_with_room(c->pairs, c->count, &c->capacity, sizeof *list);
    own_pair now = {.collection = c->collection, .docno = doc->docno, .key = hash_text(doc->text, doc->text_length)};
    const size_t before = c->texts.count;
    if (list == NULL)
        return false;
    c->pairs = list;
    if (!text_pool_keep(&c->texts, doc->text + document.from, document.to - document.from, &now.document))
        return false;
    if (c->texts.count == before)
        return true; /* a document like this one was there before */
    if (!text_pool_keep(&c->texts, doc->text + query.from, query.to - query.from, &now.query))
        return false;
    list[c->count++] = now;
    return true;
}

static bool take_document(collecting *c, const store_document *doc)
{
    const own_pairs_options *o = c->options;
    const uint64_t draw = random_at(random_at(o->seed, c->collection), doc->docno);
    range query, rest;
    if (c->count >= o->most || random_unit_of(draw) >= c->share || !split(doc, &query, &rest))
        return true;
    if (own_text_is_probe(o->key, doc->text, doc->text_length) ||
        pair_is_held_out(o->key, o->heldout_share, doc->text + query.from, query.to - query.from))
        return true;
    return keep_pair(c, doc, query, o->whole ? (range){0, doc->text_length} : rest);
}

static bool walk_one(void *context, const store_document *doc)
{
    collecting *c = context;
    if (!take_document(c, doc))
        c->status = sem_fail_memory(c->err, "pairs from documents");
    c->after_length = docid_to_key(&doc->id, c->after);
    c->more = ++c->walked == DOCUMENTS_A_READ;
    return c->status == SEM_OK && !c->more;
}

static sem_status walk_collection(collecting *c, store_read *r, uint32_t number, sem_error *err)
{
    c->collection = number;
    c->after_length = 0;
    c->more = true;
    while (c->more && c->count < c->options->most) {
        c->walked = 0;
        c->more = false;
        sem_status status =
            store_document_walk(r, number, c->after_length > 0 ? c->after : NULL, c->after_length, walk_one, c, err);
        if (status == SEM_OK)
            status = c->status;
        if (status == SEM_OK && c->options->cancel != NULL && atomic_load(c->options->cancel))
            status = sem_fail(err, SEM_CANCELLED, "cancelled while pairs were made from documents");
        if (status == SEM_OK && c->more)
            status = store_read_renew(r, err);
        if (status != SEM_OK)
            return status;
    }
    return SEM_OK;
}

static bool is_wanted(const collecting *c, const store_collection *one)
{
    return !one->external && (c->options->collection == 0 || one->number == c->options->collection);
}

static sem_status walk_all(collecting *c, store_read *r, sem_error *err)
{
    store_collection *all;
    size_t count;
    uint64_t documents = 0;
    sem_status status = store_collection_list(r, &all, &count, err);
    if (status != SEM_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        documents += is_wanted(c, &all[i]) ? all[i].documents : 0;
    /* Half are the gate's. */
    c->share = documents > 0 ? (double)c->options->most / ((1 - PROBE_SHARE) * (double)documents) : 0;
    for (size_t i = 0; i < count && status == SEM_OK; i++)
        if (is_wanted(c, &all[i]))
            status = walk_collection(c, r, all[i].number, err);
    free(all);
    return status;
}

static sem_status build(collecting *c, pair_set *out, sem_error *err)
{
    out->pairs = checked_realloc(NULL, c->count + 1, sizeof *out->pairs);
    out->documents = checked_realloc(NULL, c->count + 1, sizeof *out->documents);
    out->pair_documents = checked_realloc(NULL, c->count + 1, sizeof *out->pair_documents);
    if (out->pairs == NULL || out->documents == NULL || out->pair_documents == NULL ||
        !buffer_reserve(&c->texts.strings, 1))
        return sem_fail_memory(err, "pairs from documents");
    out->texts = c->texts.strings.data;
    c->texts.strings = (buffer){0};
    for (size_t i = 0; i < c->count; i++) {
        const own_pair *p = &c->pairs[i];
        const pooled_text *query = &c->texts.texts[p->query], *document = &c->texts.texts[p->document];
        const char *strings = out->texts;
        out->documents[i] = (pair_document){p->collection, p->docno, strings + document->offset, document->length};
        out->pair_documents[i] = (uint32_t)i;
        out->pairs[i] = (train_pair){.query = strings + query->offset,
                                     .query_length = query->length,
                                     .document = strings + document->offset,
                                     .document_length = document->length,
                                     .document_key = p->key,
                                     .query_key = query->hash,
                                     .weight = c->options->weight,
                                     .domain = p->collection,
                                     .origin = TRAIN_OWN_TEXT};
    }
    out->count = out->document_count = c->count;
    return SEM_OK;
}

sem_status own_pairs_collect(pair_set *out, store *s, const own_pairs_options *options, sem_error *err)
{
    store_read *r = NULL;
    collecting c = {.options = options, .err = err};
    *out = (pair_set){0};
    sem_status status = store_read_begin(s, &r, err);
    if (status == SEM_OK && options->most > 0)
        status = walk_all(&c, r, err);
    store_read_end(r);
    if (status == SEM_OK)
        status = build(&c, out, err);
    if (status != SEM_OK)
        pair_set_free(out);
    text_pool_free(&c.texts);
    free(c.pairs);
    return status;
}
