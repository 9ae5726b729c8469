/* Texts that were replaced or deleted, kept until the lexical index has forgotten them too. */
#include "index/store_internal.h"

#include <stdlib.h>

enum {
    OLD_KEY = 16,      /* seq u64, collection u32, docno u32 */
    OLD_FIXED = 9,     /* version u64, kind u8 */
    OLD_OVERHEAD = 128 /* bytes that one costs beside its text, a guess for the limits */
};

static void make_key(unsigned char key[OLD_KEY], uint64_t seq, uint32_t collection, uint32_t docno)
{
    put_u64(key, seq);
    put_u32(key + 8, collection);
    put_u32(key + 12, docno);
}

static bool decode(const MDB_val *key, const MDB_val *value, store_old_text *out)
{
    const unsigned char *k = key->mv_data, *p = value->mv_data;
    if (key->mv_size != OLD_KEY || value->mv_size < OLD_FIXED || p[8] > OLD_TEXT_LOST)
        return false;
    *out = (store_old_text){.seq = get_u64(k),
                            .collection = get_u32(k + 8),
                            .docno = get_u32(k + 12),
                            .version = get_u64(p),
                            .kind = (old_text_kind)p[8],
                            .text = (const char *)p + OLD_FIXED,
                            .length = value->mv_size - OLD_FIXED};
    return true;
}

/* text: a copy. Where LMDB has no memory left for a group it writes pages out, and
 * what was borrowed from one of them is gone. */
static sem_status write_old(store_write *w, const unsigned char key_bytes[OLD_KEY], uint64_t version,
                            old_text_kind kind, const char *text, size_t length, sem_error *err)
{
    MDB_txn *txn;
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    MDB_val key = as_value(key_bytes, OLD_KEY), value = {.mv_size = OLD_FIXED + length};
    int rc = mdb_put(txn, w->s->old_texts, &key, &value, MDB_RESERVE);
    if (rc != 0)
        return environment_fail(&w->s->main, "keep an old text", rc, err);
    unsigned char *p = value.mv_data;
    put_u64(p, version);
    p[8] = (unsigned char)kind;
    if (length > 0)
        memcpy(p + OLD_FIXED, text, length);
    return SEM_OK;
}

static sem_status keep(store_write *w, uint64_t seq, uint32_t collection, const store_document *old, old_text_kind kind,
                       sem_error *err)
{
    unsigned char key[OLD_KEY];
    size_t length = kind == OLD_TEXT_KEPT ? old->text_length : 0;
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return sem_fail_memory(err, "an old text");
    if (length > 0)
        memcpy(copy, old->text, length);
    make_key(key, seq, collection, old->docno);
    sem_status status = write_old(w, key, old->text_version, kind, copy, length, err);
    free(copy);
    return status;
}

static uint64_t room_for(const store_document *old)
{
    return old->text_length + old->text_length / 2 + OLD_OVERHEAD;
}

/* An earlier entry of request seq gave the document its present version. What was
 * before that is noted already, if anything was; but where it was the same text,
 * `old` has that text still, and it is lost when this entry replaces it. */
static sem_status replaced_again(store_write *w, uint64_t seq, uint32_t collection, store_document old, sem_error *err)
{
    unsigned char key[OLD_KEY];
    store_old_text noted;
    MDB_txn *txn;
    MDB_val value;
    bool found;
    make_key(key, seq, collection, old.docno);
    sem_status status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_get(&w->s->main, txn, w->s->old_texts, key, sizeof key, &value, &found, err);
    if (status != SEM_OK || !found)
        return status;
    MDB_val name = as_value(key, sizeof key);
    if (!decode(&name, &value, &noted))
        return environment_damaged(&w->s->main, "an old text", err);
    if (noted.kind != OLD_TEXT_SAME)
        return SEM_OK;
    old.text_version = noted.version;
    return keep(w, seq, collection, &old, OLD_TEXT_KEPT, err);
}

sem_status old_text_replaced(store_write *w, uint64_t seq, uint32_t collection, const store_document *old, bool same,
                             sem_error *err)
{
    sem_status status = operation_room(w, &w->s->main, same ? OLD_OVERHEAD : room_for(old),
                                       same ? OLD_OVERHEAD : OLD_FIXED + old->text_length, err);
    if (status != SEM_OK || (same && old->text_version == seq))
        return status;
    if (old->text_version == seq)
        return replaced_again(w, seq, collection, *old, err);
    return keep(w, seq, collection, old, same ? OLD_TEXT_SAME : OLD_TEXT_KEPT, err);
}

sem_status old_text_deleted(store_write *w, uint64_t seq, uint32_t collection, const store_document *old,
                            sem_error *err)
{
    bool room = operation_room(w, &w->s->main, room_for(old), OLD_FIXED + old->text_length, NULL) == SEM_OK;
    return keep(w, seq, collection, old, room ? OLD_TEXT_KEPT : OLD_TEXT_LOST, err);
}

sem_status store_old_texts_walk(store_read *r, uint64_t after, uint64_t upto, store_each_old_text *each, void *context,
                                sem_error *err)
{
    unsigned char first[OLD_KEY] = {0};
    MDB_txn *txn;
    MDB_cursor *cursor;
    if (after >= upto)
        return SEM_OK;
    sem_status status = read_txn(r, &r->s->main, &txn, err);
    if (status != SEM_OK)
        return status;
    int rc = mdb_cursor_open(txn, r->s->old_texts, &cursor);
    if (rc != 0)
        return environment_fail(&r->s->main, "walk over old texts", rc, err);
    put_u64(first, after + 1);
    MDB_val key = as_value(first, sizeof first), value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (rc == 0) {
        store_old_text old;
        if (!decode(&key, &value, &old)) {
            status = environment_damaged(&r->s->main, "an old text", err);
            break;
        }
        if (old.seq > upto || !each(context, &old))
            break;
        rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    if (status == SEM_OK && rc != 0 && rc != MDB_NOTFOUND)
        status = environment_fail(&r->s->main, "walk over old texts", rc, err);
    return status;
}

sem_status store_old_texts_trim(store_write *w, uint64_t seq, uint64_t limit, uint64_t *trimmed, sem_error *err)
{
    unsigned char first[8] = {0}, last[8];
    MDB_txn *txn;
    *trimmed = 0;
    put_u64(last, seq);
    sem_status status = operation_begin(w, err);
    if (status != SEM_OK)
        return status;
    status = read_txn(&w->view, &w->s->main, &txn, err);
    if (status == SEM_OK)
        status = table_delete_range(&w->s->main, txn, w->s->old_texts, first, last, sizeof last, limit, trimmed, err);
    if (status == SEM_OK && *trimmed > 0)
        status = log_note_trimmed(w, seq, err);
    return operation_end(w, status, err);
}
