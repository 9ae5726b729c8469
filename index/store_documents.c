/* Documents: docs maps (collection, id) to the document, docnos maps
 * (collection, docno) to the id. */
#include "index/store_internal.h"

#include <stdlib.h>

enum {
    DOC_KEY_MAX = 4 + DOCID_KEY_MAX,
    DOC_FIXED = 24, /* bytes of a record before the meta */
    DOCNO_KEY = 8,
    DOC_OVERHEAD = 512 /* bytes that a document costs beside its own, a guess for the limits */
};

typedef struct doc_key {
    unsigned char bytes[DOC_KEY_MAX];
    size_t size;
} doc_key;

static sem_status make_key(doc_key *key, uint32_t collection, const docid *id, sem_error *err)
{
    if (!id->is_integer && (id->length == 0 || id->length > DOCID_STRING_MAX))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "id has %zu bytes, a string id has 1 to %d", id->length,
                        DOCID_STRING_MAX);
    put_u32(key->bytes, collection);
    key->size = 4 + docid_to_key(id, key->bytes + 4);
    return SEM_OK;
}

static void docno_key(unsigned char key[DOCNO_KEY], uint32_t collection, uint32_t docno)
{
    put_u32(key, collection);
    put_u32(key + 4, docno);
}

static sem_status decode(store_read *r, const unsigned char *key, size_t key_size, const MDB_val *value,
                         store_document *out, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    if (value->mv_size < DOC_FIXED || key_size <= 4)
        return environment_damaged(&r->s->main, "a document's record", err);
    size_t rest = value->mv_size - DOC_FIXED, meta = get_u32(p + 20);
    *out = (store_document){.docno = get_u32(p), .seq = get_u64(p + 4), .text_version = get_u64(p + 12)};
    if (meta > rest || !docid_from_key(key + 4, key_size - 4, &out->id))
        return environment_damaged(&r->s->main, "a document's record", err);
    out->meta = meta > 0 ? p + DOC_FIXED : NULL;
    out->meta_length = meta;
    out->text = (const char *)p + DOC_FIXED + meta;
    out->text_length = rest - meta;
    return SEM_OK;
}

/* Like store_document_get, but the id in *out points into the caller's key. */
static sem_status find(store_read *r, const doc_key *key, store_document *out, bool *found, sem_error *err)
{
    MDB_txn *txn;
    MDB_val value;
    *found = false;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_get(&r->s->main, txn, r->s->docs, key->bytes, key->size, &value, found, err);
    if (status == SEM_OK && *found)
        status = decode(r, key->bytes, key->size, &value, out, err);
    return status;
}

sem_status store_document_get(store_read *r, uint32_t collection, const docid *id, store_document *out, bool *found,
                              sem_error *err)
{
    doc_key key;
    *found = false;
    sem_status status = make_key(&key, collection, id, err);
    if (status == SEM_OK)
        status = find(r, &key, out, found, err);
    if (status == SEM_OK && *found)
        out->id = *id;
    return status;
}

sem_status store_document_key(store_read *r, uint32_t collection, uint32_t docno, const unsigned char **key,
                              size_t *length, bool *found, sem_error *err)
{
    unsigned char number[DOCNO_KEY];
    MDB_txn *txn;
    MDB_val value;
    *found = false;
    docno_key(number, collection, docno);
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_get(&r->s->main, txn, r->s->docnos, number, sizeof number, &value, found, err);
    if (status != SEM_OK || !*found)
        return status;
    if (value.mv_size < 2 || value.mv_size > DOCID_KEY_MAX)
        return environment_damaged(&r->s->main, "a document's id", err);
    *key = value.mv_data;
    *length = value.mv_size;
    return SEM_OK;
}

sem_status store_document_by_number(store_read *r, uint32_t collection, uint32_t docno, store_document *out,
                                    bool *found, sem_error *err)
{
    const unsigned char *id;
    size_t length;
    doc_key key;
    sem_status status = store_document_key(r, collection, docno, &id, &length, found, err);
    if (status != SEM_OK || !*found)
        return status;
    put_u32(key.bytes, collection);
    memcpy(key.bytes + 4, id, length);
    key.size = 4 + length;
    status = find(r, &key, out, found, err);
    if (status == SEM_OK && (!*found || !docid_from_key(id, length, &out->id)))
        status = environment_damaged(&r->s->main, "a document number without its document", err);
    return status;
}

sem_status store_document_walk(store_read *r, uint32_t collection, const unsigned char *after, size_t after_length,
                               store_each_document *each, void *context, sem_error *err)
{
    unsigned char first[DOC_KEY_MAX];
    MDB_txn *txn;
    MDB_cursor *cursor;
    if (after != NULL && after_length > DOCID_KEY_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a position has %zu bytes, at most %d are possible", after_length,
                        DOCID_KEY_MAX);
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->docs, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->main, "walk over documents", rc, err);
    size_t size = 4;
    put_u32(first, collection);
    if (after != NULL) {
        memcpy(first + 4, after, after_length);
        size += after_length;
    }
    MDB_val key = as_value(first, size), value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    if (rc == 0 && key.mv_size == size && memcmp(key.mv_data, first, size) == 0)
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    bool more = true;
    while (rc == 0 && more && key.mv_size > 4 && memcmp(key.mv_data, first, 4) == 0) {
        store_document doc;
        status = decode(r, key.mv_data, key.mv_size, &value, &doc, err);
        if (status != SEM_OK)
            break;
        more = each(context, &doc);
        if (more)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->main, "walk over documents", rc, err);
    return status;
}

/* --- put */

typedef struct put_request {
    store_write *w;
    collection_record record;
    uint32_t space, second_space;
    size_t dim, second_dim;
    uint64_t seq;
} put_request;

/* What a put finds out about the document before it writes. */
typedef struct put_state {
    doc_key key;
    uint64_t text_version;
} put_state;

/* Whether text and vectors are those that the document has. */
static sem_status look_at_vectors(put_request *q, store_put *put, const store_document *old, bool same, sem_error *err)
{
    sem_status status = SEM_OK;
    if (same) {
        uint64_t version = 0;
        bool equal;
        status = place_equals(&q->w->view, q->space, q->record.c.number, put->docno, put->vector, q->dim, &put->cut,
                              &version, &put->slot, &equal, err);
        put->kept = status == SEM_OK && equal && version == old->text_version;
    }
    if (status == SEM_OK && put->vector == NULL && !put->kept)
        return sem_fail(err, SEM_CANCELLED, "a document was put without its vector, and has none of this text");
    return status;
}

static sem_status look_at_old(put_request *q, store_put *put, put_state *state, sem_error *err)
{
    store_document old;
    store_collection *c = &q->record.c;
    state->text_version = q->seq;
    put->repeated = put->kept = false;
    sem_status status = find(&q->w->view, &state->key, &old, &put->existed, err);
    if (status == SEM_OK && !put->existed && put->vector == NULL)
        status = sem_fail(err, SEM_CANCELLED, "a document was put without its vector, and does not exist");
    if (status != SEM_OK)
        return status;
    if (!put->existed) {
        if (q->record.next_docno >= UINT32_MAX) /* which stands for no document */
            return sem_fail(err, SEM_RESOURCE_EXHAUSTED, "collection \"%s\" has used up its document numbers", c->name);
        put->docno = (uint32_t)q->record.next_docno++;
        c->documents++;
        c->placed++;
        return SEM_OK;
    }
    put->docno = old.docno;
    c->bytes -= old.text_length + old.meta_length;
    /* Nothing but an earlier entry of this request can have its number. */
    put->repeated = old.seq == q->seq;
    bool same = old.text_length == put->text_length &&
                (put->text_length == 0 || memcmp(old.text, put->text, put->text_length) == 0);
    status = look_at_vectors(q, put, &old, same, err);
    if (put->kept)
        state->text_version = old.text_version;
    else if (status == SEM_OK && c->lexical)
        status = old_text_replaced(q->w, q->seq, c->number, &old, same, err);
    return status;
}

static sem_status write_record(put_request *q, const store_put *put, const put_state *state, sem_error *err)
{
    store *s = q->w->s;
    MDB_txn *txn;
    sem_status status = read_txn(&q->w->view, &s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    MDB_val key = as_value(state->key.bytes, state->key.size);
    MDB_val value = {.mv_size = DOC_FIXED + put->meta_length + put->text_length};
    /* The record is put together in LMDB's own page: a text is copied once. */
    int rc = mdb_put(txn, s->docs, &key, &value, MDB_RESERVE);
    if (rc != 0)
        return environment_fail(&s->main, "write a document", rc, err);
    unsigned char *p = value.mv_data;
    put_u32(p, put->docno);
    put_u64(p + 4, q->seq);
    put_u64(p + 12, state->text_version);
    put_u32(p + 20, (uint32_t)put->meta_length);
    if (put->meta_length > 0)
        memcpy(p + DOC_FIXED, put->meta, put->meta_length);
    if (put->text_length > 0)
        memcpy(p + DOC_FIXED + put->meta_length, put->text, put->text_length);
    if (put->existed)
        return SEM_OK;
    unsigned char number[DOCNO_KEY];
    docno_key(number, q->record.c.number, put->docno);
    return table_put(&s->main, txn, s->docnos, number, sizeof number, state->key.bytes + 4, state->key.size - 4, err);
}

static sem_status put_one(put_request *q, store_put *put, sem_error *err)
{
    put_state state;
    uint32_t number = q->record.c.number;
    if (put->meta_length > UINT32_MAX || put->text_length > UINT32_MAX)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "text and meta have at most %u bytes each", UINT32_MAX);
    sem_status status = make_key(&state.key, number, &put->id, err);
    if (status == SEM_OK)
        status = look_at_old(q, put, &state, err);
    if (status == SEM_OK)
        status = write_record(q, put, &state, err);
    if (status == SEM_OK && !put->kept)
        status = place_set(q->w, q->space, number, put->docno, state.text_version, put->vector, q->dim, &put->cut,
                           &put->slot, err);
    if (status == SEM_OK && put->second != NULL)
        status = place_set(q->w, q->second_space, number, put->docno, state.text_version, put->second, q->second_dim,
                           &put->second_cut, &put->second_slot, err);
    q->record.c.bytes += put->text_length + put->meta_length;
    return status;
}

static uint64_t passages(const store_cut *cut)
{
    return cut->count == 0 ? 1 : cut->count;
}

/* Whether the limits leave room, asked once for the whole request. */
static sem_status check_room(const put_request *q, const store_put *docs, size_t count, sem_error *err)
{
    uint64_t main_bytes = 0, vectors = 0, seconds = 0, largest = 0;
    space *sp;
    MDB_txn *txn;
    for (size_t i = 0; i < count; i++) {
        uint64_t record = DOC_FIXED + docs[i].text_length + docs[i].meta_length;
        largest = record > largest ? record : largest;
        main_bytes += record + DOC_OVERHEAD + 2 * (uint64_t)docs[i].id.length;
        main_bytes += PLACE_PASSAGE * (docs[i].cut.count + docs[i].second_cut.count);
        if (docs[i].vector != NULL)
            vectors += passages(&docs[i].cut) * (q->dim * sizeof(float) + DOC_OVERHEAD / 4);
        if (docs[i].second != NULL)
            seconds += passages(&docs[i].second_cut) * (q->second_dim * sizeof(float) + DOC_OVERHEAD / 4);
    }
    /* Half as much again: a page of a B-tree is two thirds full on average. */
    sem_status status = operation_room(q->w, &q->w->s->main, main_bytes + main_bytes / 2, largest, err);
    if (status == SEM_OK)
        status = read_space(&q->w->view, q->space, &sp, &txn, err);
    if (status == SEM_OK)
        status = operation_room(q->w, &sp->in, vectors + vectors / 2, q->dim * sizeof(float), err);
    if (status != SEM_OK || seconds == 0)
        return status;
    status = read_space(&q->w->view, q->second_space, &sp, &txn, err);
    if (status != SEM_OK)
        return status;
    return operation_room(q->w, &sp->in, seconds + seconds / 2, q->second_dim * sizeof(float), err);
}

static sem_status check_spaces(const put_request *q, sem_error *err)
{
    const store_collection *c = &q->record.c;
    if (c->external != (q->space == STORE_SPACE_EXTERNAL))
        return sem_fail(err, SEM_INVALID_ARGUMENT, "collection \"%s\" has %s vectors, they cannot go to space %u",
                        c->name, c->external ? "external" : "model", q->space);
    if (c->external && q->dim != c->dim)
        return sem_fail(err, SEM_INVALID_ARGUMENT, "a vector has %zu floats, collection \"%s\" has dim %u", q->dim,
                        c->name, c->dim);
    return SEM_OK;
}

static sem_status put_all(put_request *q, store_put *docs, size_t count, sem_error *err)
{
    store *s = q->w->s;
    MDB_txn *txn;
    sem_status status = check_room(q, docs, count, err);
    if (status == SEM_OK)
        status = read_txn(&q->w->view, &s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_next(&s->main, txn, "seq", UINT64_MAX, &q->seq, err);
    size_t touched = 0;
    uint32_t *docnos = calloc(count + 1, sizeof *docnos);
    if (status == SEM_OK && docnos == NULL)
        status = sem_fail_memory(err, "document numbers");
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        status = put_one(q, &docs[i], err);
        if (!docs[i].repeated)
            docnos[touched++] = docs[i].docno;
    }
    if (status == SEM_OK)
        status = collection_save(&q->w->view, &q->record, err);
    if (status == SEM_OK)
        status = log_add(q->w, q->seq, false, q->record.c.number, docnos, touched, err);
    free(docnos);
    return status;
}

sem_status store_documents_put(store_write *w, uint32_t collection, uint32_t space_number, size_t dim,
                               uint32_t second_space, size_t second_dim, store_put *docs, size_t count, uint64_t *seq,
                               sem_error *err)
{
    put_request q = {.w = w, .space = space_number, .dim = dim, .second_space = second_space, .second_dim = second_dim};
    sem_status status = collection_load(&w->view, collection, &q.record, err);
    if (status == SEM_OK)
        status = check_spaces(&q, err);
    if (status == SEM_OK)
        status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = operation_end(w, put_all(&q, docs, count, err), err);
    if (status == SEM_OK)
        *seq = q.seq;
    return status;
}

/* --- delete */

static sem_status delete_one(store_write *w, collection_record *record, uint64_t seq, const docid *id, uint32_t *docno,
                             bool *existed, sem_error *err)
{
    doc_key key;
    store_document old;
    MDB_txn *txn;
    unsigned char number[DOCNO_KEY];
    store_collection *c = &record->c;
    sem_status status = make_key(&key, c->number, id, err);
    if (status == SEM_OK)
        status = find(&w->view, &key, &old, existed, err);
    if (status != SEM_OK || !*existed)
        return status;
    *docno = old.docno;
    c->documents--;
    c->placed--;
    c->bytes -= old.text_length + old.meta_length;
    docno_key(number, c->number, old.docno);
    if (c->lexical)
        status = old_text_deleted(w, seq, c->number, &old, err);
    if (status == SEM_OK)
        status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_delete(&w->s->main, txn, w->s->docs, key.bytes, key.size, err);
    if (status == SEM_OK)
        status = table_delete(&w->s->main, txn, w->s->docnos, number, sizeof number, err);
    if (status == SEM_OK)
        status = places_forget(w, c->number, old.docno, err);
    return status;
}

static sem_status delete_all(store_write *w, collection_record *record, const docid *ids, size_t count,
                             uint32_t *docnos, size_t *deleted, uint64_t *seq, sem_error *err)
{
    store *s = w->s;
    MDB_txn *txn;
    sem_status status = read_txn(&w->view, &s->main, &txn, err);
    if (status == SEM_OK)
        status = meta_next(&s->main, txn, "seq", UINT64_MAX, seq, err);
    for (size_t i = 0; i < count && status == SEM_OK; i++) {
        bool existed = false;
        status = delete_one(w, record, *seq, &ids[i], &docnos[*deleted], &existed, err);
        *deleted += existed;
    }
    if (status == SEM_OK)
        status = collection_save(&w->view, record, err);
    if (status == SEM_OK)
        status = log_add(w, *seq, true, record->c.number, docnos, *deleted, err);
    return status;
}

sem_status store_documents_delete(store_write *w, uint32_t collection, const docid *ids, size_t count, uint32_t *docnos,
                                  size_t *deleted, uint64_t *seq, sem_error *err)
{
    collection_record record;
    *deleted = 0;
    sem_status status = collection_load(&w->view, collection, &record, err);
    if (status == SEM_OK)
        status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = operation_end(w, delete_all(w, &record, ids, count, docnos, deleted, seq, err), err);
    if (status != SEM_OK)
        *deleted = 0;
    return status;
}
