/* Records of main: each of its form, and all in agreement. */
#include "base/utf8.h"
#include "index/store_verify.h"

#include <jansson.h>

#include <inttypes.h>
#include <stdlib.h>

enum { DOC_FIXED = 24, DOCNO_KEY = 8, LOG_FIXED = 5, OLD_KEY = 16, OLD_FIXED = 9, DELETE_FIXED = 12 };

/* Counted while documents are walked, by the collection's place in v->collections. */
typedef struct counted {
    uint64_t documents, bytes, numbers;
} counted;

typedef struct walk_state {
    verify *v;
    counted *counts;
} walk_state;

static MDB_txn *main_txn(verify *v)
{
    return v->r.main;
}

static bool is_map(const unsigned char *p, size_t size)
{
    return size > 0 && ((p[0] >= 0x80 && p[0] <= 0x8f) || p[0] == 0xde || p[0] == 0xdf);
}

/* --- collections */

static sem_status check_name(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    collection_record record;
    if (value->mv_size != 4) {
        verify_report(v, "names: \"%.*s\" has no number", (int)key->mv_size, (const char *)key->mv_data);
        return SEM_OK;
    }
    uint32_t number = get_u32(value->mv_data);
    sem_status status = collection_load(&v->r, number, &record, err);
    if (status == SEM_NOT_FOUND || status == SEM_INTERNAL) {
        verify_report(v, "names: \"%.*s\" has number %u, whose record is missing or damaged", (int)key->mv_size,
                      (const char *)key->mv_data, number);
        return SEM_OK;
    }
    if (status != SEM_OK)
        return status;
    if (strlen(record.c.name) != key->mv_size || memcmp(record.c.name, key->mv_data, key->mv_size) != 0)
        verify_report(v, "names: \"%.*s\" has number %u, whose record says \"%s\"", (int)key->mv_size,
                      (const char *)key->mv_data, number, record.c.name);
    if (number == 0 || number > v->last_collection)
        verify_report(v, "names: \"%.*s\" has number %u, the newest is %" PRIu64, (int)key->mv_size,
                      (const char *)key->mv_data, number, v->last_collection);
    store_collection *grown = reallocarray(v->collections, v->collection_count + 1, sizeof *grown);
    if (grown == NULL)
        return sem_fail_memory(err, "the list of collections");
    v->collections = grown;
    v->collections[v->collection_count++] = record.c;
    v->result.collections++;
    return SEM_OK;
}

static sem_status check_collection(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    (void)value, (void)err;
    if (key->mv_size != 4 || verify_collection(v, get_u32(key->mv_data)) == NULL)
        verify_report(v, "collections: a record with number %u that no name leads to",
                      key->mv_size == 4 ? get_u32(key->mv_data) : 0);
    return SEM_OK;
}

/* --- documents */

static counted *counted_of(verify *v, counted *counts, uint32_t collection)
{
    const store_collection *c = verify_collection(v, collection);
    return c != NULL ? &counts[c - v->collections] : NULL;
}

static sem_status find_docno(verify *v, const unsigned char *key, uint32_t docno, MDB_val *value, bool *found,
                             sem_error *err)
{
    unsigned char number[DOCNO_KEY];
    memcpy(number, key, 4);
    put_u32(number + 4, docno);
    return table_get(&v->s.main, main_txn(v), v->s.docnos, number, sizeof number, value, found, err);
}

/* The log has the request that made the document, unless it was forgotten. */
static sem_status check_logged(verify *v, const char *name, uint32_t collection, uint32_t docno, uint64_t seq,
                               sem_error *err)
{
    unsigned char key[8];
    MDB_val value;
    bool found;
    if (seq <= v->trimmed || seq < v->first_log)
        return SEM_OK;
    put_u64(key, seq);
    sem_status status = table_get(&v->s.main, main_txn(v), v->s.changes, key, sizeof key, &value, &found, err);
    if (status != SEM_OK)
        return status;
    const unsigned char *p = found ? value.mv_data : NULL;
    bool named = found && value.mv_size > LOG_FIXED && p[0] == 1 && get_u32(p + 1) == collection;
    size_t at = LOG_FIXED;
    while (named && at + 4 <= value.mv_size && get_u32(p + at) != docno)
        at += 4;
    if (!named || at + 4 > value.mv_size)
        verify_report(v, "%s: the log does not have it under %" PRIu64 ", which wrote it", name, seq);
    return SEM_OK;
}

/* Its vector of the space that serves it, made from the text that it has. */
static sem_status check_served(verify *v, const char *name, const store_collection *c, uint32_t docno,
                               uint64_t text_version, sem_error *err)
{
    unsigned char key[PLACE_KEY];
    MDB_val value;
    bool found;
    if (!c->external && v->current == NULL)
        return SEM_OK;
    uint32_t number = c->external ? STORE_SPACE_EXTERNAL : v->current->space;
    put_u32(key, number);
    put_u32(key + 4, c->number);
    put_u32(key + 8, docno);
    sem_status status = table_get(&v->s.main, main_txn(v), v->s.places, key, sizeof key, &value, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found)
        verify_report(v, "%s: it has no vector in space %u", name, number);
    else if (value.mv_size >= 8 && get_u64(value.mv_data) != text_version)
        verify_report(v, "%s: its vector in space %u was made from text version %" PRIu64 ", it has %" PRIu64, name,
                      number, get_u64(value.mv_data), text_version);
    return SEM_OK;
}

static void check_text(verify *v, const char *name, const unsigned char *p, size_t size)
{
    size_t meta = get_u32(p + 20);
    if (meta > 0 && !is_map(p + DOC_FIXED, meta))
        verify_report(v, "%s: its meta is no map", name);
    if (!utf8_valid(p + DOC_FIXED + meta, size - DOC_FIXED - meta))
        verify_report(v, "%s: its text is no UTF-8", name);
}

static sem_status check_numbers(verify *v, const MDB_val *key, const unsigned char *p, const char *name, sem_error *err)
{
    collection_record record;
    MDB_val value;
    bool found;
    uint32_t docno = get_u32(p), collection = get_u32(key->mv_data);
    uint64_t seq = get_u64(p + 4), version = get_u64(p + 12);
    sem_status status = collection_load(&v->r, collection, &record, err);
    if (status == SEM_OK)
        status = find_docno(v, key->mv_data, docno, &value, &found, err);
    if (status != SEM_OK)
        return status;
    if (!found || value.mv_size != key->mv_size - 4 ||
        memcmp(value.mv_data, (const char *)key->mv_data + 4, value.mv_size) != 0)
        verify_report(v, "%s: its number %u does not lead back to it", name, docno);
    if (docno >= record.next_docno)
        verify_report(v, "%s: its number %u is not below the collection's next, %" PRIu64, name, docno,
                      record.next_docno);
    if (seq == 0 || seq > v->seq || version == 0 || version > seq)
        verify_report(v, "%s: seq %" PRIu64 " and text version %" PRIu64 " do not fit the store's seq %" PRIu64, name,
                      seq, version, v->seq);
    status = check_logged(v, name, collection, docno, seq, err);
    return status == SEM_OK ? check_served(v, name, &record.c, docno, version, err) : status;
}

static sem_status check_document(walk_state *w, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    verify *v = w->v;
    char name[VERIFY_NAME];
    const unsigned char *p = value->mv_data;
    v->result.documents++;
    counted *n = key->mv_size > 4 ? counted_of(v, w->counts, get_u32(key->mv_data)) : NULL;
    if (n == NULL) {
        verify_report(v, "docs: a document of collection number %u, which there is not",
                      key->mv_size >= 4 ? get_u32(key->mv_data) : 0);
        return SEM_OK;
    }
    n->documents++;
    verify_document(v, get_u32(key->mv_data), (const char *)key->mv_data + 4, key->mv_size - 4, name);
    if (value->mv_size < DOC_FIXED || get_u32(p + 20) > value->mv_size - DOC_FIXED) {
        verify_report(v, "%s: its record is damaged", name);
        return SEM_OK;
    }
    n->bytes += value->mv_size - DOC_FIXED;
    check_text(v, name, p, value->mv_size);
    return check_numbers(v, key, p, name, err);
}

static sem_status check_docno(walk_state *w, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    verify *v = w->v;
    unsigned char doc[4 + DOCID_KEY_MAX];
    char name[VERIFY_NAME];
    MDB_val record;
    bool found = false;
    counted *n = key->mv_size == DOCNO_KEY ? counted_of(v, w->counts, get_u32(key->mv_data)) : NULL;
    if (n == NULL || value->mv_size > DOCID_KEY_MAX) {
        verify_report(v, "docnos: a number of no collection, or of an id that is too long");
        return SEM_OK;
    }
    n->numbers++;
    memcpy(doc, key->mv_data, 4);
    memcpy(doc + 4, value->mv_data, value->mv_size);
    uint32_t docno = get_u32((const unsigned char *)key->mv_data + 4);
    sem_status status = table_get(&v->s.main, main_txn(v), v->s.docs, doc, 4 + value->mv_size, &record, &found, err);
    if (status == SEM_OK && (!found || record.mv_size < 4 || get_u32(record.mv_data) != docno))
        verify_report(v, "docnos: number %u leads to %s, which %s", docno,
                      verify_document(v, get_u32(doc), doc + 4, value->mv_size, name),
                      found ? "has another number" : "there is not");
    return status;
}

/* verify_walk with more of a context: the counts. */
static sem_status walk(walk_state *w, MDB_dbi dbi,
                       sem_status (*each)(walk_state *w, const MDB_val *key, const MDB_val *value, sem_error *err),
                       sem_error *err)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    sem_status status = SEM_OK;
    if (dbi == 0)
        return SEM_OK;
    size_t left;
    int rc = verify_cursor(&w->v->s.main, main_txn(w->v), dbi, &cursor, &left);
    if (rc != 0)
        return environment_fail(&w->v->s.main, "verify a table", rc, err);
    while (status == SEM_OK && (rc = verify_next(cursor, &left, &key, &value)) == 0)
        status = each(w, &key, &value, err);
    mdb_cursor_close(cursor);
    return status != SEM_OK || rc == MDB_NOTFOUND ? status : environment_fail(&w->v->s.main, "verify a table", rc, err);
}

static void compare_counts(verify *v, const counted *counts)
{
    for (size_t i = 0; i < v->collection_count; i++) {
        const store_collection *c = &v->collections[i];
        const counted *n = &counts[i];
        if (c->documents != n->documents)
            verify_report(v, "%s: its record counts %" PRIu64 " documents, there are %" PRIu64, c->name, c->documents,
                          n->documents);
        if (c->bytes != n->bytes)
            verify_report(v, "%s: its record counts %" PRIu64 " bytes of text and meta, there are %" PRIu64, c->name,
                          c->bytes, n->bytes);
        if (n->numbers != n->documents)
            verify_report(v, "%s: %" PRIu64 " documents have %" PRIu64 " numbers", c->name, n->documents, n->numbers);
    }
}

/* --- log, old texts, deletes, jobs */

static sem_status check_change(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    (void)err;
    if (key->mv_size != 8 || value->mv_size <= LOG_FIXED || (value->mv_size - LOG_FIXED) % 4 != 0 || p[0] < 1 ||
        p[0] > 2) {
        verify_report(v, "log: an entry is damaged");
        return SEM_OK;
    }
    uint64_t seq = get_u64(key->mv_data);
    if (seq < v->first_log)
        v->first_log = seq;
    if (seq == 0 || seq > v->seq)
        verify_report(v, "log: an entry has seq %" PRIu64 ", the store's is %" PRIu64, seq, v->seq);
    if (get_u32(p + 1) == 0 || get_u32(p + 1) > v->last_collection)
        verify_report(v, "log: entry %" PRIu64 " names collection number %u, the newest is %" PRIu64, seq,
                      get_u32(p + 1), v->last_collection);
    return SEM_OK;
}

static sem_status check_old_text(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *k = key->mv_data, *p = value->mv_data;
    (void)err;
    if (key->mv_size != OLD_KEY || value->mv_size < OLD_FIXED || p[8] > 2)
        verify_report(v, "old_texts: a record is damaged");
    else if (get_u64(k) > v->seq || get_u64(p) > get_u64(k) || get_u32(k + 8) > v->last_collection)
        verify_report(v, "old_texts: text version %" PRIu64 " of seq %" PRIu64 ", the store's seq is %" PRIu64,
                      get_u64(p), get_u64(k), v->seq);
    return SEM_OK;
}

static sem_status check_delete(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    const unsigned char *p = value->mv_data;
    uint64_t last = 0;
    sem_status status = meta_get(&v->s.main, main_txn(v), "next_delete", &last, err);
    if (status != SEM_OK)
        return status;
    if (key->mv_size != 8 || value->mv_size <= DELETE_FIXED || !is_map(p + DELETE_FIXED, value->mv_size - DELETE_FIXED))
        verify_report(v, "deletes: a record is damaged");
    else if (get_u64(key->mv_data) > last || get_u32(p) > v->last_collection || get_u64(p + 4) > v->seq)
        verify_report(v, "deletes: number %" PRIu64 " of seq %" PRIu64 " is above those that were given out",
                      get_u64(key->mv_data), get_u64(p + 4));
    return SEM_OK;
}

static sem_status check_job(verify *v, const MDB_val *key, const MDB_val *value, sem_error *err)
{
    uint64_t last = 0;
    uint32_t number = key->mv_size == 4 ? get_u32(key->mv_data) : 0;
    sem_status status = meta_get(&v->s.main, main_txn(v), "next_job", &last, err);
    json_t *job = json_loadb(value->mv_data, value->mv_size, 0, NULL);
    if (status == SEM_OK && (number == 0 || number > last))
        verify_report(v, "jobs: a job has number %u, the newest is %" PRIu64, number, last);
    if (!json_is_object(job))
        verify_report(v, "jobs: the record of job %u is no JSON object", number);
    json_decref(job);
    return status;
}

/* --- generations */

/* Vectors are of the model that made them: who shares the one shares the other. */
static void check_shared(verify *v, const store_generation *a, const store_generation *b)
{
    bool model = strcmp(a->model, b->model) == 0;
    if (a->state == GENERATION_RETIRED || b->state == GENERATION_RETIRED || (model == (a->space == b->space)))
        return;
    if (model)
        verify_report(v, "generations %u and %u share the model %s, but have spaces %u and %u", a->number, b->number,
                      a->model, a->space, b->space);
    else
        verify_report(v, "generations %u and %u share space %u, but have models %s and %s", a->number, b->number,
                      a->space, a->model, b->model);
}

static sem_status check_generations(verify *v, sem_error *err)
{
    uint64_t current = 0, last = 0, last_space = 0;
    sem_status status = meta_get(&v->s.main, main_txn(v), "generation", &current, err);
    if (status == SEM_OK)
        status = meta_get(&v->s.main, main_txn(v), "next_generation", &last, err);
    if (status == SEM_OK)
        status = meta_get(&v->s.main, main_txn(v), "next_space", &last_space, err);
    for (size_t i = 0; i < v->generation_count && status == SEM_OK; i++) {
        const store_generation *g = &v->generations[i];
        if ((g->state == GENERATION_CURRENT) != (g->number == current))
            verify_report(v, "generation %u: its record says that it is %scurrent, but %" PRIu64 " is", g->number,
                          g->state == GENERATION_CURRENT ? "" : "not ", current);
        if (last != 0 && (g->number > last || g->space > last_space))
            verify_report(v, "generation %u with space %u: numbers up to %" PRIu64 " and %" PRIu64 " were given out",
                          g->number, g->space, last, last_space);
        if (g->number == current)
            v->current = g;
        for (size_t k = 0; k < i; k++)
            check_shared(v, &v->generations[k], g);
    }
    if (status == SEM_OK && current != 0 && v->current == NULL)
        verify_report(v, "generation %" PRIu64 " is current, but has no record", current);
    return status;
}

static sem_status check_meta(verify *v, sem_error *err)
{
    MDB_val value;
    bool found;
    const char *name = STORE_USER_KEY_NAME;
    sem_status status = meta_get(&v->s.main, main_txn(v), "seq", &v->seq, err);
    if (status == SEM_OK)
        status = meta_get(&v->s.main, main_txn(v), "collection", &v->last_collection, err);
    if (status == SEM_OK)
        status = meta_get(&v->s.main, main_txn(v), "trimmed", &v->trimmed, err);
    if (status == SEM_OK)
        status = table_get(&v->s.main, main_txn(v), v->s.main.meta, name, strlen(name), &value, &found, err);
    if (status == SEM_OK && found && value.mv_size != STORE_USER_KEY)
        verify_report(v, "meta: user_key has %zu bytes instead of %d", value.mv_size, STORE_USER_KEY);
    if (status == SEM_OK && v->trimmed > v->seq)
        verify_report(v, "meta: trimmed is %" PRIu64 ", above seq, %" PRIu64, v->trimmed, v->seq);
    return status;
}

static sem_status check_documents(verify *v, sem_error *err)
{
    walk_state w = {.v = v, .counts = calloc(v->collection_count + 1, sizeof *w.counts)};
    if (w.counts == NULL)
        return sem_fail_memory(err, "counts");
    sem_status status = walk(&w, v->s.docs, check_document, err);
    if (status == SEM_OK)
        status = walk(&w, v->s.docnos, check_docno, err);
    if (status == SEM_OK)
        compare_counts(v, w.counts);
    free(w.counts);
    return status;
}

sem_status verify_main(verify *v, sem_error *err)
{
    environment *e = &v->s.main;
    sem_status status = check_meta(v, err);
    if (status == SEM_OK)
        status = check_generations(v, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, main_txn(v), v->s.names, check_name, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, main_txn(v), v->s.collections, check_collection, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, main_txn(v), v->s.changes, check_change, err);
    if (status == SEM_OK)
        status = check_documents(v, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, main_txn(v), v->s.old_texts, check_old_text, err);
    if (status == SEM_OK)
        status = verify_walk(v, e, main_txn(v), v->s.deletes, check_delete, err);
    return status == SEM_OK ? verify_walk(v, e, main_txn(v), v->s.jobs, check_job, err) : status;
}
