/* Requests that only read documents: get, count, scroll. */
#include "base/checked.h"
#include "index/filter.h"
#include "daemon/document_pack.h"
#include "daemon/filtering.h"
#include "daemon/ops.h"
#include "daemon/worker.h"

#include <stdlib.h>
#include <string.h>

enum { SCROLL_BYTES = 16 << 20 /* an answer of scroll ends early beyond this */ };

/* --- one document of an answer */

typedef struct reader {
    worker *worker;
    task *task;
    store_collection collection;
    uint32_t space;
    size_t dim;
    float *vector;      /* [dim], owned; for WITH_VECTOR */
    worker_shown shown; /* what the answer holds; docnos is owned, of pool_take */
} reader;

/* For an answer of at most so many documents. */
static sem_status reader_open(reader *r, worker *w, task *t, unsigned with, size_t most, sem_error *err)
{
    *r = (reader){.worker = w, .task = t};
    sem_status status = worker_collection(w, t, &r->collection, err);
    if (status != SEM_OK)
        return status;
    r->shown = (worker_shown){.collection = r->collection.number,
                              .docnos = pool_take_array(w->core->hooks.memory, most, sizeof *r->shown.docnos)};
    if (r->shown.docnos == NULL)
        return sem_fail_memory(err, "an answer");
    if (!(with & WITH_VECTOR))
        return SEM_OK;
    /* The generation that is current in this snapshot, in which every document
     * has its vector: around a flip the one in memory can be another. */
    if (r->collection.external) {
        r->space = STORE_SPACE_EXTERNAL;
        r->dim = r->collection.dim;
    } else {
        store_generation g;
        bool found;
        status = store_generation_current(w->read, &g, &found, err);
        if (status == SEM_OK && !found)
            status = sem_fail(err, SEM_INTERNAL, "the store names no current generation");
        if (status != SEM_OK)
            return status;
        r->space = g.space;
        r->dim = g.dim;
        store_generation_free(&g);
    }
    r->vector = checked_alloc_aligned(r->dim, sizeof(float));
    return r->vector == NULL ? sem_fail_memory(err, "a vector") : SEM_OK;
}

static void reader_close(reader *r)
{
    free(r->vector);
    pool_give(r->shown.docnos);
}

/* Unless something that it holds was deleted: SEM_CANCELLED. */
static sem_status reader_send(reader *r, answer *a, sem_error *err)
{
    worker *w = r->worker;
    sem_status status = worker_sending(w, &r->shown, err);
    if (status != SEM_OK)
        return status;
    answer_send(w->core, r->task, a);
    worker_sent(w);
    return SEM_OK;
}

/* The vectors of a document that is cut, each with the bytes that it is of. */
static sem_status pack_passages(reader *r, packer *p, const store_document *doc, sem_error *err)
{
    store_passage passage;
    bool found;
    size_t i = 0;
    sem_status status = store_passage_find(r->worker->read, r->space, r->collection.number, doc->docno, NULL, &i,
                                           &passage, &found, err);
    size_t count = status == SEM_OK && found ? passage.count : 0;
    pack_str(p, "passages");
    pack_array(p, count);
    for (; i < count && status == SEM_OK; i++) {
        status = store_passage_get(r->worker->read, r->space, r->collection.number, doc->docno, i, r->vector, r->dim,
                                   &passage, &found, err);
        if (status == SEM_OK && !found)
            status = sem_fail(err, SEM_INTERNAL, "passage %zu of document %u of %s has no vector", i, doc->docno,
                              r->collection.name);
        if (status != SEM_OK)
            return status;
        pack_map(p, 2);
        document_pack_passage(p, passage.range);
        pack_str(p, "vector");
        pack_bin(p, r->vector, r->dim * sizeof(float));
    }
    return status;
}

static sem_status pack_document(reader *r, packer *p, const store_document *doc, unsigned with, sem_error *err)
{
    bool has_vector = false, cut = r->collection.passage_tokens > 0 && (with & WITH_VECTOR);
    uint64_t version;
    if ((with & WITH_VECTOR) && !cut) {
        sem_status status = store_vector_get(r->worker->read, r->space, r->collection.number, doc->docno, r->vector,
                                             r->dim, &version, &has_vector, err);
        if (status != SEM_OK)
            return status;
    }
    r->shown.docnos[r->shown.count++] = doc->docno;
    const document_parts parts = {.doc = doc, .with = with, .vector = has_vector ? r->vector : NULL, .dim = r->dim};
    pack_map(p, 1 + document_entries(&parts) + cut);
    pack_str(p, "id");
    pack_id(p, &doc->id);
    document_pack(p, &parts);
    return cut ? pack_passages(r, p, doc, err) : SEM_OK;
}

/* --- get */

static sem_status get_all(reader *r, answer *a, sem_error *err)
{
    const request *q = r->task->request;
    size_t limit = core_limits(r->worker->core).frame_bytes;
    pack_array(&a->pack, q->u.get.count);
    for (size_t i = 0; i < q->u.get.count; i++) {
        store_document doc;
        bool found;
        sem_status status =
            store_document_get(r->worker->read, r->collection.number, &q->u.get.ids[i], &doc, &found, err);
        if (status == SEM_OK && found)
            status = pack_document(r, &a->pack, &doc, q->u.get.with, err);
        else if (status == SEM_OK)
            pack_nil(&a->pack);
        if (status != SEM_OK)
            return status;
        if (a->bytes.size > limit)
            return sem_fail(err, SEM_INVALID_ARGUMENT,
                            "ids: the answer exceeds %zu bytes (limits.frame_bytes); ask for fewer at a time", limit);
    }
    return SEM_OK;
}

static sem_status get_once(worker *w, task *t, sem_error *err)
{
    reader r;
    answer a;
    answer_begin(&a, t);
    sem_status status = reader_open(&r, w, t, t->request->u.get.with, t->request->u.get.count, err);
    if (status == SEM_OK)
        status = get_all(&r, &a, err);
    if (status == SEM_OK)
        status = reader_send(&r, &a, err);
    if (status != SEM_OK)
        answer_discard(&a);
    reader_close(&r);
    return status;
}

/* Answers by once(), again while something is deleted that the answer holds. */
static void read_documents(worker *w, task *t, sem_status (*once)(worker *w, task *t, sem_error *err))
{
    sem_error err;
    sem_status status = SEM_CANCELLED;
    for (int tries = 0; status == SEM_CANCELLED && tries < WORKER_TRIES; tries++)
        status = once(w, t, &err);
    if (status == SEM_CANCELLED)
        status = worker_fail_deleted(&err);
    if (status != SEM_OK)
        task_fail(w->core, t, &err);
}

void op_get(worker *w, task *t)
{
    read_documents(w, t, get_once);
}

/* --- count */

static sem_status count_documents(worker *w, task *t, uint64_t *count, sem_error *err)
{
    store_collection c;
    const span *f = &t->request->u.count.filter;
    sem_status status = worker_collection(w, t, &c, err);
    if (status != SEM_OK || f->data == NULL) {
        *count = status == SEM_OK ? c.documents : 0;
        return status;
    }
    filter *compiled;
    status = filter_parse(&compiled, (const unsigned char *)f->data, f->size, err);
    if (status != SEM_OK)
        return status;
    docset *set = NULL;
    status = filtering_documents(w->core, w->read, c.number, compiled, t, &set, err);
    if (status == SEM_OK)
        *count = roaring_bitmap_get_cardinality(set);
    docset_free(set);
    filter_free(compiled);
    return status;
}

void op_count(worker *w, task *t)
{
    sem_error err;
    uint64_t count;
    if (count_documents(w, t, &count, &err) != SEM_OK) {
        task_fail(w->core, t, &err);
        return;
    }
    answer a;
    answer_begin(&a, t);
    pack_map(&a.pack, 1);
    pack_str(&a.pack, "count");
    pack_uint(&a.pack, count);
    answer_send(w->core, t, &a);
}

/* --- scroll: `after` and `next` are the hexadecimal key form of an id */

static bool hex_decode(const span *text, unsigned char *out, size_t *size)
{
    if (text->size % 2 != 0 || text->size > 2 * DOCID_KEY_MAX)
        return false;
    for (size_t i = 0; i < text->size; i++) {
        char c = text->data[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0)
            return false;
        out[i / 2] = (unsigned char)(i % 2 == 0 ? digit << 4 : out[i / 2] | digit);
    }
    *size = text->size / 2;
    return true;
}

static void pack_hex(packer *p, const unsigned char *data, size_t size)
{
    char text[2 * DOCID_KEY_MAX];
    for (size_t i = 0; i < size; i++) {
        text[2 * i] = "0123456789abcdef"[data[i] >> 4];
        text[2 * i + 1] = "0123456789abcdef"[data[i] & 15];
    }
    pack_strn(p, text, 2 * size);
}

typedef struct scrolling {
    reader reader;
    filter *filter;  /* owned */
    docset *passing; /* owned; with a filter: what it leaves */
    buffer docs;     /* packed documents */
    packer pack;
    size_t count;
    bool more;
    unsigned char last[DOCID_KEY_MAX];
    size_t last_length;
    walk_clock clock;
    sem_status status;
    sem_error *err;
} scrolling;

static bool scroll_one(void *context, const store_document *doc)
{
    scrolling *s = context;
    const request *q = s->reader.task->request;
    if (!walk_goes_on(&s->clock))
        return false;
    if (s->filter != NULL &&
        (!roaring_bitmap_contains(s->passing, doc->docno) || !filter_match(s->filter, doc->meta, doc->meta_length)))
        return true;
    if (s->count == q->u.scroll.limit || (s->count > 0 && s->docs.size > SCROLL_BYTES)) {
        s->more = true;
        return false;
    }
    s->status = pack_document(&s->reader, &s->pack, doc, q->u.scroll.with, s->err);
    s->last_length = docid_to_key(&doc->id, s->last);
    s->count++;
    return s->status == SEM_OK && !s->pack.failed;
}

/* An id in its key form; borrowed from the snapshot. */
typedef struct listed_id {
    const unsigned char *key;
    size_t length;
} listed_id;

static int compare_listed(const void *a, const void *b)
{
    const listed_id *x = a, *y = b;
    return docid_key_compare(x->key, x->length, y->key, y->length);
}

/* The ids above `after` of the documents that the filter leaves, in order. */
static sem_status list_ids(scrolling *s, const listed_id *after, listed_id **out, size_t *count, sem_error *err)
{
    size_t documents, kept = 0;
    uint32_t *docnos;
    sem_status status = docset_to_array(s->passing, &docnos, &documents, err);
    if (status != SEM_OK)
        return status;
    listed_id *ids = checked_realloc(NULL, documents + 1, sizeof *ids);
    if (ids == NULL)
        status = sem_fail_memory(err, "a scroll");
    for (size_t i = 0; i < documents && status == SEM_OK; i++) {
        bool found;
        status = store_document_key(s->reader.worker->read, s->reader.collection.number, docnos[i], &ids[kept].key,
                                    &ids[kept].length, &found, err);
        kept += status == SEM_OK && found && (after->length == 0 || compare_listed(&ids[kept], after) > 0);
    }
    free(docnos);
    if (status != SEM_OK) {
        free(ids);
        return status;
    }
    qsort(ids, kept, sizeof *ids, compare_listed);
    *out = ids;
    *count = kept;
    return SEM_OK;
}

static sem_status scroll_listed(scrolling *s, const listed_id *after, sem_error *err)
{
    listed_id *ids;
    size_t count;
    sem_status status = list_ids(s, after, &ids, &count, err);
    if (status != SEM_OK)
        return status;
    bool more = true;
    for (size_t i = 0; i < count && more && status == SEM_OK; i++) {
        docid id;
        store_document doc;
        bool found;
        if (!docid_from_key(ids[i].key, ids[i].length, &id))
            status = sem_fail(err, SEM_INTERNAL, "a document's key of %zu bytes is none", ids[i].length);
        if (status == SEM_OK)
            status = store_document_get(s->reader.worker->read, s->reader.collection.number, &id, &doc, &found, err);
        if (status == SEM_OK && found)
            more = scroll_one(s, &doc);
    }
    free(ids);
    return status;
}

/* Listing looks up each document that the filter leaves; a walk passes over
 * documents in order until the answer is full, which takes the more of them the
 * fewer pass. A look-up takes some four times as long as a step. */
static bool listing_is_cheaper(const scrolling *s)
{
    double passing = s->passing != NULL ? (double)roaring_bitmap_get_cardinality(s->passing) : 0.0;
    double all = (double)s->reader.collection.documents, limit = (double)s->reader.task->request->u.scroll.limit;
    return s->passing != NULL && 4.0 * passing * passing < all * limit;
}

static sem_status scroll_documents(scrolling *s, worker *w, task *t, sem_error *err)
{
    const request *q = t->request;
    unsigned char after[DOCID_KEY_MAX];
    size_t after_length = 0;
    docid id;
    sem_status status = reader_open(&s->reader, w, t, q->u.scroll.with, q->u.scroll.limit, err);
    if (status != SEM_OK)
        return status;
    if (q->u.scroll.after.data != NULL &&
        (!hex_decode(&q->u.scroll.after, after, &after_length) || !docid_from_key(after, after_length, &id)))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "after: not a value that scroll answered with as next");
    const span *f = &q->u.scroll.filter;
    if (f->data != NULL)
        status = filter_parse(&s->filter, (const unsigned char *)f->data, f->size, err);
    if (status == SEM_OK && s->filter != NULL)
        status = filtering_documents(w->core, w->read, s->reader.collection.number, s->filter, t, &s->passing, err);
    if (status != SEM_OK)
        return status;
    pack_init(&s->pack, &s->docs);
    s->err = err;
    s->clock = (walk_clock){.task = t, .err = err};
    if (listing_is_cheaper(s))
        status = scroll_listed(s, &(listed_id){.key = after, .length = after_length}, err);
    else
        status = store_document_walk(w->read, s->reader.collection.number, after_length > 0 ? after : NULL,
                                     after_length, scroll_one, s, err);
    if (status == SEM_OK)
        status = s->status != SEM_OK ? s->status : s->clock.status;
    return status == SEM_OK && s->pack.failed ? sem_fail_memory(err, "an answer") : status;
}

static sem_status scroll_once(worker *w, task *t, sem_error *err)
{
    scrolling *s = calloc(1, sizeof *s);
    sem_status status = s != NULL ? scroll_documents(s, w, t, err) : sem_fail_memory(err, "a scroll");
    if (status == SEM_OK) {
        answer a;
        answer_begin(&a, t);
        pack_map(&a.pack, 2);
        pack_str(&a.pack, "docs");
        pack_array(&a.pack, s->count);
        pack_raw(&a.pack, s->docs.data, s->docs.size);
        pack_str(&a.pack, "next");
        if (s->more)
            pack_hex(&a.pack, s->last, s->last_length);
        else
            pack_nil(&a.pack);
        status = reader_send(&s->reader, &a, err);
        if (status != SEM_OK)
            answer_discard(&a);
    }
    if (s != NULL) {
        filter_free(s->filter);
        docset_free(s->passing);
        buffer_free(&s->docs);
        reader_close(&s->reader);
        free(s);
    }
    return status;
}

void op_scroll(worker *w, task *t)
{
    read_documents(w, t, scroll_once);
}
